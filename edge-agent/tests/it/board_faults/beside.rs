//! What goes on beside on a session board and on an eventual one, whatever fails.

use std::{sync::Arc, time::Duration};

use authguardian_history::{History, Position, Recorder, check};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::system::System;
use crate::replicas::{merging::Merging, wanderer::Wanderer};

const WANDERERS: usize = 2;

/// Between two deeds of a wanderer.
const BETWEEN: Duration = Duration::from_millis(10);

/// Clients that go from edge to edge, and writers at each.
pub(super) struct Beside {
    recorder: Arc<Recorder>,
    stop: CancellationToken,
    wanderers: JoinSet<()>,
    merging: Merging,
}

/// What was judged.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Judged {
    /// Reads and writes of sessions.
    pub(super) sessions: usize,
    /// Acknowledged writes to the eventual board.
    pub(super) merged: usize,
}

impl Beside {
    pub(super) fn start(system: &System, name: &str) -> Self {
        let began = Instant::now();
        let recorder = Arc::new(Recorder::new(move || began.elapsed()));
        let stop = CancellationToken::new();
        let mut wanderers = JoinSet::new();
        let (agent, clients) = system.clients();
        for number in 0..WANDERERS {
            let mut wanderer = Wanderer {
                name: format!("wanderer-{number}"),
                prefix: format!("{name}/"),
                agent: agent.to_owned(),
                clients: clients.clone(),
                seen: None,
                recorder: recorder.clone(),
            };
            let stop = stop.clone();
            wanderers.spawn(async move {
                for deed in 0.. {
                    if stop.is_cancelled() {
                        return;
                    }
                    wanderer.go_on(number, deed).await;
                    tokio::time::sleep(BETWEEN).await;
                }
            });
        }
        Self {
            recorder,
            stop,
            wanderers,
            merging: Merging::start(&format!("{name}/"), &clients),
        }
    }

    /// Ends it and judges what was told.
    pub(super) async fn judge(self) -> Judged {
        self.stop.cancel();
        self.wanderers.join_all().await;
        let history = History {
            began: Position {
                epoch: 1,
                revision: 0,
            },
            ..self.recorder.history()
        };
        let report = check::sessions(&history).unwrap_or_else(|violation| panic!("{violation}"));
        Judged {
            sessions: report.reads + report.writes,
            merged: self.merging.judge().await,
        }
    }
}
