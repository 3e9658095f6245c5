//! `BlackboardService`, `BlackboardAdminService` and `ReplicaService`.

mod act;
mod admin;
mod edge;
mod message;
mod replica;
mod stream;

pub use admin::BlackboardAdmin;
pub use edge::BlackboardFace;
pub use replica::ReplicaFace;
