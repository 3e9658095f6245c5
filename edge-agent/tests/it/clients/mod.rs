//! Stock MCP clients, and the examples of `deploy/examples`, as processes.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::{edge::BINARY, held::Held, rig::Rig};

mod browser;
mod configurations;
mod examples;
mod inspector;
mod python;
mod script;
mod typescript;

use script::Script;

/// Where `deploy/scripts/ensure` has put the clients; `make test` says so.
const TOOLS: &str = "AUTHGUARDIAN_TEST_TOOLS";

/// One client from its first message to its last, as `walk.py` and `walk.mts`
/// tell.
async fn walk(mut client: Command, transport: &str, revision: &str) {
    let rig = Rig::start().await;
    client
        .args(["--transport", transport, "--revision", revision])
        .args(["--websocket", &rig.edge.ws])
        .args(["--edge-agent", BINARY, "--socket"])
        .arg(&rig.edge.socket);
    let mut script = Script::start(client, &rig);
    script.says("hold the next call").await;
    let held = Held::begin(&rig).await;
    script.done().await;
    script.says("is it held?").await;
    held.is_waited_for().await;
    script.done().await;
    script.says("let go").await;
    held.end().await;
    script.done().await;
    script.ends_well().await;
}

/// A program among the tools.
pub(crate) fn tool(path: &str) -> Command {
    Command::new(tool_path(path))
}

/// A file among the tools.
pub(crate) fn tool_path(path: &str) -> PathBuf {
    let tools = std::env::var(TOOLS).unwrap_or_else(|_| {
        panic!("{TOOLS} is not set: run `make test`, which prepares the clients")
    });
    let file = Path::new(&tools).join(path);
    assert!(file.exists(), "{} is not there", file.display());
    file
}

/// A file of the repository.
pub(crate) fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
