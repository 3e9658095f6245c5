//! Everything that is tested from outside of the crate, in one binary.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on has failed"
)]

mod admins;
mod architecture;
mod attempts;
mod audit;
mod authorisation;
mod blackboard;
mod budgets;
mod budgets_cli;
mod ca_rotation;
mod certificates;
mod daemon;
mod dev;
mod discovery;
mod events;
mod fake_edge;
mod fuzz;
mod grants;
mod identity;
mod leases;
mod listeners;
mod machines;
mod master_keys;
mod operator;
mod policy;
mod precedence;
mod private_postgres;
mod quorum;
mod records;
mod registrations;
mod registry;
mod reports;
mod requests;
mod restore;
mod rig;
mod security;
mod serving;
mod sessions;
mod signing_keys;
mod suspension;
mod test_database;
mod wait;
mod watching;
