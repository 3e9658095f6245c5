//! Budgets: what may be spent by many machines together.

pub(crate) mod faces;
mod model;
mod sides;
mod simulation;
mod system;
