//! `SliceService`, `BudgetService` and `BudgetAdminService`.

mod admin;
mod edge;
mod message;
mod slice;

pub use admin::BudgetAdmin;
pub use edge::BudgetFace;
pub use slice::SliceFace;
