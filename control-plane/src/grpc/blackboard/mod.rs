//! `BlackboardService` and `BlackboardAdminService`.

mod act;
mod admin;
mod edge;
mod message;
mod stream;

pub use admin::BlackboardAdmin;
pub use edge::BlackboardFace;
