//! An edge's slices beside a control plane that is a table.

mod calls;
mod ends;
mod exchanges;
mod kills;
mod races;
mod recalls;
mod stub;
