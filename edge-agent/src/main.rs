//! The `edge-agent` binary.

use std::process::ExitCode;

use clap::Parser;
use edge_agent::cli::Cli;

#[global_allocator]
static ALLOCATOR: authguardian_memory::Allocator = authguardian_memory::ALLOCATOR;

#[tokio::main]
async fn main() -> ExitCode {
    Cli::parse().run().await
}
