//! All SQL of identity, a file for each table.

mod admin_token;
mod api_key;
mod ended_session;
mod join_token;
mod machine;
mod nonce;
mod own_key;
mod rate;
mod suspension;

pub(super) use admin_token::*;
pub(super) use api_key::*;
pub(super) use ended_session::*;
pub(super) use join_token::*;
pub(super) use machine::*;
pub(super) use nonce::*;
pub(super) use own_key::*;
pub(super) use rate::*;
pub(super) use suspension::*;

use crate::error::Error;

fn unreadable(column: &str) -> Error {
    Error::internal(format!("unreadable value in `{column}`"))
}
