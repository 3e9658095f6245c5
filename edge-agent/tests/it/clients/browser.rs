//! A page in headless Chromium, served from another port than the edge's: the
//! one of `deploy/examples`, and what else a page can try.

use std::path::PathBuf;

use super::{Script, source, tool};
use crate::rig::Rig;

fn chromium() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path)
        .map(|dir| dir.join("chromium"))
        .find(|program| program.exists())
        .unwrap_or_else(|| panic!("chromium is not there: run `make test`, which installs it"))
}

#[tokio::test]
async fn a_page_of_this_machine_follows_grants_and_a_foreign_one_gets_nothing() {
    let mut rig = Rig::start().await;
    let mut visit = tool("bin/node");
    visit
        .arg(source("edge-agent/tests/it/clients/typescript/page.mts"))
        .arg("--page")
        .arg(source("deploy/examples/browser/grants.html"))
        .arg("--chromium")
        .arg(chromium());
    let mut visit = Script::start(visit, &rig);
    visit.says("restart the edge").await;
    rig.edge = rig.edge.kill_and_run().await;
    visit.done().await;
    visit.ends_well().await;
}
