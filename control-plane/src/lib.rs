//! The AuthGuardian control plane. Rooms, from the ground up; each may use
//! only what stands before it (a test reads the sources and checks):
//! `clock db error metrics` ← `audit events` ← `policy` ← `identity` ←
//! `registry` ← `grants` ← `blackboard` ← `backup` ← `grpc http jobs` ← `app serve` ← `cli`.

pub mod app;
pub mod audit;
pub mod backup;
pub mod blackboard;
pub mod budgets;
pub mod cli;
pub mod clock;
pub mod config;
pub mod db;
pub mod error;
pub mod events;
pub mod grants;
pub mod grpc;
pub mod http;
pub mod identity;
pub mod jobs;
pub mod lifecycle;
pub mod metrics;
pub mod policy;
pub mod registry;
pub mod serve;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
