//! Clients that write to an eventual board at several edges, and what these have in
//! the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use authguardian_history::{
    check,
    eventual::{Clock, Dot, Fate, Merged, Replica, Siblings, Stamp, Version, Write},
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::wanderer::asked;
use crate::edge::RestClient;

/// Keys that all write to.
const KEYS: usize = 5;

/// Between two writes of a writer: an edge that is away refuses at once, and every write goes
/// to all others.
const BETWEEN: Duration = Duration::from_millis(25);

/// Writers at several edges, until they are told to end.
pub(crate) struct Merging {
    prefix: String,
    clients: Vec<RestClient>,
    stop: CancellationToken,
    writers: JoinSet<Vec<Write>>,
}

impl Merging {
    /// One at each edge, on keys that begin so.
    pub(crate) fn start(prefix: &str, clients: &[RestClient]) -> Self {
        let (stop, began) = (CancellationToken::new(), Instant::now());
        let mut writers = JoinSet::new();
        for (at, client) in clients.iter().cloned().enumerate() {
            let (prefix, stop) = (prefix.to_owned(), stop.clone());
            writers.spawn(async move {
                let mut done = Vec::new();
                for number in 0.. {
                    if stop.is_cancelled() {
                        break;
                    }
                    let key = format!("{prefix}e{}", number % KEYS);
                    done.push(write(&client, at, key, number, began).await);
                    tokio::time::sleep(BETWEEN).await;
                }
                done
            });
        }
        Self {
            prefix: prefix.to_owned(),
            clients: clients.to_vec(),
            stop,
            writers,
        }
    }

    /// Ends the writers, waits until all edges have the same, and judges; how many
    /// writes were acknowledged.
    pub(crate) async fn judge(self) -> usize {
        self.stop.cancel();
        let writes: Vec<Write> = self
            .writers
            .join_all()
            .await
            .into_iter()
            .flatten()
            .collect();
        let keys = || (0..KEYS).map(|number| format!("{}e{number}", self.prefix));
        // what was written last, everywhere, has arrived everywhere
        for (at, client) in self.clients.iter().enumerate() {
            let last = json!({"key": format!("{}last {at}", self.prefix), "value": at});
            crate::wait::until_async("the last one is written", async || {
                let told = asked(client, "blackboard_write", &last).await;
                told.is_some_and(|(status, _)| status == StatusCode::OK)
            })
            .await;
        }
        for client in &self.clients {
            for at in 0..self.clients.len() {
                let last = json!({"key": format!("{}last {at}", self.prefix)});
                crate::wait::until_async("the last ones have arrived", async || {
                    let told = asked(client, "blackboard_read", &last).await;
                    told.is_some_and(|(status, _)| status == StatusCode::OK)
                })
                .await;
            }
        }
        let mut replicas = Vec::new();
        for (at, client) in self.clients.iter().enumerate() {
            replicas.push(replica(client, &format!("edge {at}"), keys()).await);
        }
        let acknowledged = writes.iter().filter(|one| one.fate == Fate::Acknowledged);
        let acknowledged = acknowledged.count();
        let merged = Merged {
            writes,
            replicas,
            collected: BTreeSet::new(),
        };
        check::convergence(&merged).unwrap_or_else(|violation| panic!("{violation}"));
        acknowledged
    }
}

async fn write(
    client: &RestClient,
    at: usize,
    key: String,
    number: usize,
    began: Instant,
) -> Write {
    let start = began.elapsed();
    let value = json!(format!("{at}-{number}"));
    let arguments = json!({"key": key, "value": value});
    let told = asked(client, "blackboard_write", &arguments).await;
    let (fate, stamp) = match told {
        Some((StatusCode::OK, told)) if told["version"].is_string() => {
            (Fate::Acknowledged, Some(stamp(&told)))
        }
        _ => (Fate::Unknown, None),
    };
    Write {
        client: format!("{at}"),
        key,
        value: Some(value.to_string()),
        fate,
        stamp,
        start,
        end: Some(began.elapsed()),
        may_end: false,
    }
}

/// What an edge has in these keys; those that are not there are left out.
pub(crate) async fn replica(
    client: &RestClient,
    name: &str,
    keys: impl Iterator<Item = String>,
) -> Replica {
    let mut found = BTreeMap::new();
    for key in keys {
        let read = json!({"key": key, "siblings": true});
        let (status, told) = asked(client, "blackboard_read", &read).await.unwrap();
        if status == StatusCode::NOT_FOUND {
            continue;
        }
        assert_eq!(status, StatusCode::OK, "{told}");
        let versions = told["values"].as_array().unwrap().iter().map(version);
        let siblings = Siblings {
            versions: versions.collect(),
            winner: Some(told["value"].to_string()),
        };
        found.insert(key, siblings);
    }
    Replica {
        name: name.to_owned(),
        keys: found,
    }
}

fn version(told: &Value) -> Version {
    let Stamp { dot, clock } = stamp(told);
    let at = OffsetDateTime::parse(told["written_at"].as_str().unwrap(), &Rfc3339).unwrap();
    Version {
        dot,
        clock,
        time: u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap(),
        value: Some(told["value"].to_string()),
    }
}

/// Which write it is that was told, and what it has seen.
pub(crate) fn stamp(told: &Value) -> Stamp {
    let (actor, counter) = told["version"].as_str().unwrap().rsplit_once(':').unwrap();
    let seen = told["vector_clock"].as_object().unwrap().iter();
    let seen = seen.map(|(actor, counter)| (actor.clone(), counter.as_u64().unwrap()));
    Stamp {
        dot: Dot {
            actor: actor.to_owned(),
            counter: counter.parse().unwrap(),
        },
        clock: seen.collect::<Clock>(),
    }
}
