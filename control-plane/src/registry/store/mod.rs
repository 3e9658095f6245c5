//! All SQL of the registry, a file for each noun.

mod agent;
mod edge;
mod find;
mod registration;
mod sweep;
mod term;

pub(super) use agent::*;
pub(super) use edge::*;
pub(super) use find::*;
pub(super) use registration::*;
pub(super) use sweep::*;
pub(super) use term::*;

use authguardian_proto::{ids::AgentId, liveness::Liveness};

use crate::error::{Error, Result};

fn unreadable(column: &str) -> Error {
    Error::internal(format!("unreadable value in `{column}`"))
}

fn liveness(number: i16) -> Result<Liveness> {
    Liveness::from_number(number).ok_or_else(|| unreadable("liveness"))
}

fn texts(ids: &[AgentId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}
