//! Backups of the database, their restore, and the fence without which a
//! restored database would be taken for the one that was lost.
//!
//! A backup is a directory:
//!
//! ```text
//! manifest.json   what it is of, where the streams and the audit log ended, the digest of the dump
//! database.dump   made by `pg_dump` in its custom format, of the same snapshot
//! ```
//!
//! The master key is not in it: who has both has the control plane's keys.

mod facts;
pub mod fence;
mod files;
mod libpq;
mod manifest;
mod restore;
mod store;
mod take;
mod tool;

pub use facts::{AuditHead, Facts};
pub use fence::Fenced;
pub use manifest::{Dump, Manifest};
pub use restore::{Restored, restore};
pub use take::take;

/// Tells people what is being done.
pub type Tell<'a> = &'a (dyn Fn(&str) + Send + Sync);
