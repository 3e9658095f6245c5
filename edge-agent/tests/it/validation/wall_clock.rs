//! A host whose wall clock is wrong and jumps: tokens end by the control
//! plane's time, and staleness counts by a clock that nobody sets.

use std::{ffi::OsString, path::PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use super::held::{Held, becomes, verdict};
use crate::{
    edge::{Edge, Launch},
    rig::ControlPlane,
    wait::until,
};

const AGENT: &str = "data_analyst";
const TYPE: &str = "SAP_API";

const JUMPS: [Duration; 5] = [
    Duration::hours(-1),
    Duration::days(365),
    Duration::days(-365),
    Duration::ZERO,
    Duration::hours(1),
];

#[tokio::test]
async fn a_wrong_wall_clock_neither_lengthens_nor_shortens_anything() {
    let control_plane = ControlPlane::start().await;
    control_plane.agent("data_analyst", 800).await;
    let key = control_plane.api_key(&["data_analyst"], false).await;
    let clock = WallClock::new();
    clock.set(Duration::hours(1));
    let edge = Edge::start_with(&control_plane, "host", clock.launch(&control_plane)).await;
    let client = edge.client(&key);
    let now = || control_plane.app.ambient.clock.now();
    clock.is_seen(Duration::hours(1), now).await;
    let live = Held::of(&client, AGENT, TYPE).await;
    let mut ended = vec![Held::brief(&client, AGENT, TYPE).await];
    let mut revoked = Vec::new();

    for jump in JUMPS {
        clock.set(jump);
        clock.is_seen(jump, now).await;
        assert_eq!(verdict(&live.validate(&client).await), "valid", "{jump}");
        let (brief, new) = (
            Held::brief(&client, AGENT, TYPE).await,
            Held::of(&client, AGENT, TYPE).await,
        );
        assert_eq!(verdict(&new.validate(&client).await), "valid", "{jump}");
        client
            .call("revoke_token", json!({"token": new.token}))
            .await;
        revoked.push(new);
        ended.push(brief);
        for held in &ended {
            becomes(&client, held, "GRANT_EXPIRED").await;
        }
        for held in &revoked {
            assert_eq!(verdict(&held.validate(&client).await), "GRANT_REVOKED");
        }
    }

    let real_time = control_plane.app.ambient.clock.clone();
    let stopped = control_plane.stop().await;
    becomes(&client, &live, "STALE").await;
    for jump in JUMPS {
        clock.set(jump);
        clock.is_seen(jump, || real_time.now()).await;
        assert_eq!(verdict(&live.validate(&client).await), "STALE", "{jump}");
    }
    let _control_plane = stopped.start().await;
    becomes(&client, &live, "valid").await;
    for held in &ended {
        assert_eq!(verdict(&held.validate(&client).await), "GRANT_EXPIRED");
    }
}

/// What an edge takes for the time of day, by libfaketime.
struct WallClock {
    dir: TempDir,
}

impl WallClock {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir }
    }

    /// Sets it to so much after the real time.
    fn set(&self, ahead: Duration) {
        let next = self.dir.path().join("next");
        std::fs::write(&next, format!("{:+}\n", ahead.whole_seconds())).unwrap();
        // never seen half written
        std::fs::rename(next, self.file()).unwrap();
    }

    /// An edge that lives by it, and tells so in its log at every ping.
    fn launch(&self, control_plane: &ControlPlane) -> Launch {
        let log = "error,h2=debug,edge_agent=debug";
        Launch {
            environment: vec![
                ("LD_PRELOAD", library().into()),
                ("FAKETIME_TIMESTAMP_FILE", self.file().into()),
                ("FAKETIME_NO_CACHE", OsString::from("1")),
                ("FAKETIME_DONT_FAKE_MONOTONIC", OsString::from("1")),
                ("AUTHGUARDIAN_LOG__LEVEL", log.into()),
                ("AUTHGUARDIAN_LOG__FORMAT", OsString::from("json")),
            ],
            log: Some(self.log()),
            ..Launch::at(&[control_plane.url()])
        }
    }

    /// Waits until the edge's log has times of this clock.
    async fn is_seen(&self, ahead: Duration, real: impl Fn() -> OffsetDateTime) {
        until("the edge sees the wrong time", || {
            let seen = self.last_logged();
            seen.is_some_and(|seen| (seen - real() - ahead).abs() < Duration::minutes(1))
        })
        .await;
    }

    fn last_logged(&self) -> Option<OffsetDateTime> {
        let log = std::fs::read_to_string(self.log()).unwrap();
        let line: Value = log
            .lines()
            .rev()
            .find_map(|line| serde_json::from_str(line).ok())?;
        OffsetDateTime::parse(line["timestamp"].as_str()?, &Rfc3339).ok()
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("offset")
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }
}

/// Debian's `libfaketime`, which `deploy/scripts/ensure faketime` installs.
fn library() -> PathBuf {
    let places = std::fs::read_dir("/usr/lib").unwrap();
    let library = places
        .map(|place| place.unwrap().path().join("faketime/libfaketimeMT.so.1"))
        .find(|library| library.is_file());
    library.unwrap()
}
