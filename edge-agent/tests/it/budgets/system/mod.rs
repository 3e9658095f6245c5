//! Budgets on real edges: offline, killed, stopped and racing, and all of it together.

mod many;
mod offline;
mod race;
mod restored;
mod shutdown;
mod site;
mod steady;

pub(super) use site::answered;
