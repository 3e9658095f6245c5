//! The edge from end to end: the real binary, a real control plane on a
//! database of the test's own, mTLS between them, real clients.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod audit;
mod board_faults;
mod boards;
mod budgets;
mod ca_rotation;
mod calls;
mod cli;
mod cli_login;
mod clients;
mod cluster;
mod completions;
mod conformance;
mod edge;
mod faces;
mod faults;
mod fuzz;
mod gossip;
mod grants;
mod guard;
mod held;
mod join;
mod journal;
mod lan;
mod limits;
mod login;
mod machine;
mod mcp;
mod openapi;
mod outage;
mod proxy;
mod registry;
mod renewal;
mod replicas;
mod restore;
mod rig;
mod secrets;
mod stdio;
mod validation;
mod wait;
mod witness;
