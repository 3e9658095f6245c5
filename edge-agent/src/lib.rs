//! The AuthGuardian edge: a thin process on every host that exposes MCP
//! locally and forwards what it cannot answer itself over mTLS.
//!
//! Who may import whom: `faces → mcp → core → {limits slices verify agents neighbours gossip peers endpoints
//! upstream identity replica journal witness}`, which never import each other; `freshness`, `dial`, `trust`, `clock`, `config`,
//! `files` and `tail` stand below all of them.

pub mod agents;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod core;
pub mod dial;
pub mod endpoints;
pub mod faces;
mod files;
pub mod freshness;
pub mod gossip;
pub mod identity;
pub mod journal;
pub mod lifecycle;
pub mod limits;
pub mod mcp;
pub mod neighbours;
pub mod peers;
pub mod replica;
pub mod slices;
mod tail;
pub mod trust;
pub mod upstream;
pub mod verify;
pub mod witness;
