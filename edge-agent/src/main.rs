//! The `edge-agent` binary.

use std::process::ExitCode;

use clap::Parser;
use edge_agent::cli::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    Cli::parse().run().await
}
