//! Clients that go from edge to edge with what they were told last, and write down
//! what they ask and are told.

use std::{sync::Arc, time::Duration};

use authguardian_history::{Answer, Call, Entry, Outcome, Position, Recorder, Refusal};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{read_session as read, write_session as write};
use crate::{edge::RestClient, replicas::SESSION as BOARD};

/// Longer than an edge takes to give a call up.
const TRY_TIMEOUT: Duration = Duration::from_secs(25);

/// What a tool answers; `None`: nobody knows.
pub(crate) async fn asked(
    client: &RestClient,
    tool: &str,
    arguments: &Value,
) -> Option<(StatusCode, Value)> {
    let asked = async {
        let response = client.post(tool).json(arguments).send().await.ok()?;
        Some((response.status(), response.json().await.ok()?))
    };
    tokio::time::timeout(TRY_TIMEOUT, asked).await.ok()?
}

/// A client that goes from edge to edge with what it was told last.
pub(crate) struct Wanderer {
    pub(crate) name: String,
    /// What its keys begin with.
    pub(crate) prefix: String,
    pub(crate) agent: String,
    pub(crate) clients: Vec<RestClient>,
    pub(crate) seen: Option<Position>,
    pub(crate) recorder: Arc<Recorder>,
}

impl Wanderer {
    /// Does its `number`th deed, now and then at another edge.
    pub(crate) async fn go_on(&mut self, name: usize, number: usize) {
        let call = deed(&self.prefix, name, number);
        self.act(name + number / 2, call).await;
    }

    /// Does something at an edge, and writes it down.
    async fn act(&mut self, at: usize, call: Call) {
        let (tool, mut arguments) = match &call {
            Call::Get { key } => ("blackboard_read", read(key)),
            Call::Put { key, value, .. } => {
                let value: Value = serde_json::from_str(value).unwrap();
                ("blackboard_write", write(key, value))
            }
            Call::Delete { key, .. } => ("blackboard_delete", read(key)),
            Call::List { prefix, .. } => {
                let list = json!({"board": BOARD, "prefix": prefix, "limit": 1000});
                ("blackboard_list", list)
            }
            Call::Transact { .. } | Call::Lock { .. } => panic!("not on this board"),
        };
        if let (Some(seen), Call::Get { .. } | Call::List { .. }) = (self.seen, &call) {
            let Position { epoch, revision } = seen;
            arguments["after_revision"] = json!(format!("{epoch}.{revision}"));
        }
        let pending = self.recorder.begin(&self.name, &self.agent, call.clone());
        let client = &self.clients[at % self.clients.len()];
        let outcome = match asked(client, tool, &arguments).await {
            Some((status, body)) => outcome(&call, status, &body),
            None if matches!(call, Call::Get { .. } | Call::List { .. }) => {
                Outcome::Refused(Refusal::Other("no answer".to_owned()))
            }
            None => Outcome::Unknown,
        };
        if !matches!(outcome, Outcome::Done(_)) {
            // an edge that is away refuses at once
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if let Outcome::Done(answer) = &outcome {
            let at = answer.position();
            self.seen = Some(self.seen.map_or(at, |seen| seen.max(at)));
        }
        self.recorder.end(&pending, outcome);
    }
}

fn outcome(call: &Call, status: StatusCode, body: &Value) -> Outcome {
    if !status.is_success() {
        return match body["reason"].as_str().unwrap_or_default() {
            "KEY_NOT_FOUND" => Outcome::Done(Answer::Absent {
                position: as_of(body["detail"].as_str().unwrap()),
            }),
            "OUTCOME_UNKNOWN" => Outcome::Unknown,
            other => Outcome::Refused(Refusal::Other(other.to_owned())),
        };
    }
    let number = |name: &str| body[name].as_u64().unwrap();
    let position = |name: &str| Position {
        epoch: number("epoch"),
        revision: number(name),
    };
    Outcome::Done(match call {
        Call::Get { .. } => Answer::Found {
            entry: entry(body),
            position: position("board_revision"),
        },
        Call::Put { .. } => Answer::Written {
            position: position("revision"),
            previous_revision: number("previous_revision"),
        },
        Call::Delete { .. } => Answer::Deleted {
            deleted: body["deleted"] == true,
            position: position("revision"),
            previous_revision: number("previous_revision"),
        },
        Call::List { .. } => Answer::Listed {
            entries: body["entries"]
                .as_array()
                .unwrap()
                .iter()
                .map(entry)
                .collect(),
            more: body.get("next_cursor").is_some(),
            position: position("revision"),
        },
        Call::Transact { .. } | Call::Lock { .. } => panic!("not on this board"),
    })
}

fn entry(told: &Value) -> Entry {
    Entry {
        key: told["key"].as_str().unwrap().to_owned(),
        value: told.get("value").map(Value::to_string),
        revision: told["revision"].as_u64().unwrap(),
        created_revision: told["created_revision"].as_u64().unwrap(),
        writer: told["writer"].as_str().unwrap().to_owned(),
        is_lock: false,
    }
}

/// The position at the end of a sentence.
fn as_of(detail: &str) -> Position {
    let (epoch, revision) = detail.rsplit_once(' ').unwrap().1.split_once('.').unwrap();
    Position {
        epoch: epoch.parse().unwrap(),
        revision: revision.parse().unwrap(),
    }
}

/// What a wanderer does as its `number`th.
fn deed(prefix: &str, name: usize, number: usize) -> Call {
    let key = format!("{prefix}k{}", (name + number / 3) % 5);
    match (name + number) % 7 {
        0 | 3 => Call::Put {
            key,
            value: format!("\"{name}-{number}\""),
            if_revision: None,
            if_lock: None,
            ttl: None,
        },
        5 => Call::Delete {
            key,
            if_revision: None,
            if_lock: None,
        },
        6 => Call::List {
            prefix: prefix.to_owned(),
            after: None,
        },
        _ => Call::Get { key },
    }
}
