//! The command line: the daemon, and a client of it.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rmcp::ServerHandler;

use crate::{faces::MakeHandler, mcp::Mcp};

mod agent;
mod call;
mod checkpoint;
mod client;
mod completions;
mod connect;
mod deregister;
mod discover;
mod edge;
mod failure;
mod heartbeat;
mod join;
mod logging;
mod login;
mod logout;
mod output;
mod register;
mod request_permission;
mod revoke_token;
mod run;
mod session;
mod status;
mod stdio;
mod validate_token;

use failure::Failure;

const AFTER_HELP: &str = "\
Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 denied, 5 conflict, 6 unavailable,
7 outcome unknown (repeat with the same request id), 8 approval pending.

Examples:
  edge-agent join --server https://cp.example:3004 --token agj_…
  edge-agent run --config /etc/authguardian/edge-agent.toml
  AUTHGUARDIAN_API_KEY=agk_… edge-agent login
  edge-agent request-permission --agent data_analyst \\
      --resource SAP_API --justification \"Q4 analysis task\"";

/// The AuthGuardian edge: time-bound permissions for the agents of this host.
#[derive(Debug, Parser)]
#[command(name = "edge-agent", version, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the edge
    Run(run::Run),
    /// Make this host a machine of a control plane
    Join(join::Join),
    /// Bridge an MCP client on stdin and stdout to the running edge
    Stdio(stdio::Stdio),
    /// Use an edge from now on, and log in
    Connect(connect::Connect),
    /// Trade the API key for a session at the edge
    Login(login::Login),
    /// End the session of `login`
    Logout(logout::Logout),
    /// Show how the running edge is
    Status(status::Status),
    /// Ask for a grant
    RequestPermission(request_permission::RequestPermission),
    /// Check a token; exit code 4 when it is not valid
    ValidateToken(validate_token::ValidateToken),
    /// End the grant of a token
    RevokeToken(revoke_token::RevokeToken),
    /// Find agents on any machine
    Discover(discover::Discover),
    /// Register an agent, so that others find it
    Register(register::Register),
    /// Take an agent out of the registry
    Deregister(deregister::Deregister),
    /// Show that a registered agent is there
    Heartbeat(heartbeat::Heartbeat),
    /// Call a tool of another agent
    Call(call::Call),
    /// Print the newest checkpoint of the audit log that this machine has kept
    Checkpoint(checkpoint::Checkpoint),
    /// Print a completion script for a shell
    Completions(completions::Completions),
}

impl Cli {
    /// Does what was asked for; data goes to stdout, all else to stderr.
    pub async fn run(self) -> ExitCode {
        self.run_with(Mcp::new).await
    }

    /// The same with something else behind the MCP faces of an edge that runs.
    pub async fn run_with<H: ServerHandler>(self, make: impl MakeHandler<H>) -> ExitCode {
        let outcome = match self.command {
            Command::Run(run) => run.run(make).await,
            Command::Join(join) => join.run().await,
            Command::Stdio(stdio) => stdio.run().await,
            Command::Connect(connect) => connect.run().await,
            Command::Login(login) => login.run().await,
            Command::Logout(logout) => logout.run().await,
            Command::Status(status) => status.run().await,
            Command::RequestPermission(request) => request.run().await,
            Command::ValidateToken(validate) => validate.run().await,
            Command::RevokeToken(revoke) => revoke.run().await,
            Command::Discover(discover) => discover.run().await,
            Command::Register(register) => register.run().await,
            Command::Deregister(deregister) => deregister.run().await,
            Command::Heartbeat(heartbeat) => heartbeat.run().await,
            Command::Call(call) => call.run().await,
            Command::Checkpoint(checkpoint) => checkpoint.run(),
            Command::Completions(completions) => completions.run(),
        };
        match outcome {
            Ok(code) => code,
            Err(failure) => failure.tell(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
