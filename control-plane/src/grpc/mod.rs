//! The gRPC faces: one file for each service, thin translations between
//! messages and services. Who may call what stands in [`auth`] alone.

pub mod admin_token;
pub mod agent;
pub mod api_key;
pub mod audit;
pub mod audit_admin;
pub mod auth;
pub mod blackboard;
pub mod bootstrap;
pub mod budgets;
pub mod connections;
pub mod convert;
pub mod enrolment;
pub mod event;
pub mod grant;
pub mod grant_admin;
pub mod join_token;
pub mod key;
pub mod machine;
pub mod peer;
pub mod policy;
pub mod rate;
pub mod record;
pub mod registry;
mod report;
pub mod resource_type;
pub mod session;
pub mod signing_key;
pub mod socket;
pub mod status;
pub mod suspension;
pub mod system;
