//! All SQL of grants.

mod outcome;
mod read;
mod sweep;
mod write;

use authguardian_proto::ids::GrantId;
pub(super) use outcome::*;
pub(super) use read::*;
pub(super) use sweep::*;
use uuid::Uuid;
pub(super) use write::*;

use crate::error::Error;

fn uuids(ids: &[GrantId]) -> Vec<Uuid> {
    ids.iter().map(|id| id.as_uuid()).collect()
}

fn unreadable(column: &str) -> Error {
    Error::internal(format!("unreadable value in `{column}`"))
}
