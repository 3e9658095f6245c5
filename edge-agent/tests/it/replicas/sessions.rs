//! Session boards: nobody is shown anything older than what he has seen.

use std::{sync::Arc, time::Instant};

use authguardian_history::{
    Answer, Call, Entry, History, Outcome, Position, Recorder, Refusal, check,
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{Site, open};
use crate::{
    edge::{Edge, Launch, RestClient},
    faces::speaker::{Face, Speaker},
};

const BOARD: &str = "session";

fn write(key: &str, value: impl Into<Value>) -> Value {
    json!({"board": BOARD, "key": key, "value": value.into()})
}

fn read(key: &str) -> Value {
    json!({"board": BOARD, "key": key})
}

#[tokio::test]
async fn a_write_is_read_on_every_face_and_out_of_the_replica_once_it_is_there() {
    let (control_plane, api_key) = open().await;
    let site = Site::start(&control_plane, "host", &api_key).await;
    let mut speakers = Vec::new();
    for face in Face::ALL {
        speakers.push(Speaker::begin(face, &site.edge, &api_key).await);
    }
    let mut local = 0;
    for number in 0..20_u32 {
        site.client
            .call("blackboard_write", write("k", number))
            .await;
        let told = site.client.call("blackboard_read", read("k")).await;
        assert_eq!(told["value"], number);
        local += u32::from(told["copies"] == 0);
        for speaker in &mut speakers {
            let arguments = read("k").to_string();
            let told = speaker
                .call_with("blackboard_read", &arguments)
                .await
                .unwrap();
            assert_eq!(told["value"], number);
            local += u32::from(told["copies"] == 0);
        }
    }
    assert!(local > 40, "the replica has answered {local} times");
}

#[tokio::test]
async fn the_replica_answers_who_has_been_told_and_others_are_forwarded() {
    let (control_plane, api_key) = open().await;
    let site = Site::start(&control_plane, "host", &api_key).await;
    let other = control_plane.api_key(&["orchestrator"], false).await;
    let other = site.edge.client(&other);
    other.resource("grants://active").await;
    let told = site.client.call("blackboard_write", write("k", 1)).await;
    assert_eq!(told["copies"], 1);
    site.client.call("blackboard_read", read("k")).await;
    let is_here = async || {
        let told = site.client.call("blackboard_read", read("k")).await;
        told["copies"] == 0
    };
    crate::wait::until_async("the replica has come so far", is_here).await;
    site.cut();
    let told = site.client.call("blackboard_read", read("k")).await;
    assert_eq!((&told["value"], &told["copies"]), (&json!(1), &json!(0)));
    let absent = site
        .client
        .refusal("blackboard_read", read("nowhere"))
        .await;
    assert_eq!(absent, "KEY_NOT_FOUND");
    let list = json!({"board": BOARD});
    let list = site.client.call("blackboard_list", list).await;
    assert_eq!(list["entries"].as_array().unwrap().len(), 1);
    let mut ahead = read("k");
    ahead["after_revision"] = json!(format!("{}.{}", told["epoch"], 1_000));
    let (unknown, ahead, refused) = tokio::join!(
        other.refusal("blackboard_read", read("k")),
        site.client.refusal("blackboard_read", ahead),
        site.client.refusal("blackboard_write", write("k", 2)),
    );
    // nobody here knows what this one has seen, and the replica has not come so far
    assert_eq!([&*unknown, &*ahead], ["UNAVAILABLE"; 2]);
    assert!(
        ["UNAVAILABLE", "OUTCOME_UNKNOWN"].contains(&&*refused),
        "{refused}"
    );
}

/// A client that goes from edge to edge with what it was told last.
struct Wanderer {
    name: String,
    clients: Vec<RestClient>,
    seen: Option<Position>,
    recorder: Arc<Recorder>,
}

impl Wanderer {
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
        let pending = self
            .recorder
            .begin(&self.name, "data_analyst", call.clone());
        let client = &self.clients[at % self.clients.len()];
        let (status, body) = client.try_call(tool, arguments).await;
        let outcome = outcome(&call, status, &body);
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
fn deed(name: usize, number: usize) -> Call {
    let key = format!("k{}", (name + number / 3) % 5);
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
            prefix: "k".to_owned(),
            after: None,
        },
        _ => Call::Get { key },
    }
}

#[tokio::test]
async fn whoever_goes_from_edge_to_edge_reads_nothing_older_while_control_planes_come_and_go() {
    const WANDERERS: usize = 6;
    const CALLS: usize = 120;
    let (first, api_key) = open().await;
    let second = first.beside().await;
    let servers = [first.url(), second.url()];
    let mut edges = Vec::new();
    for (number, order) in [[0, 1], [1, 0], [0, 1]].into_iter().enumerate() {
        let launch = Launch::at(&order.map(|at| servers[at].clone()));
        edges.push(Edge::start_with(&first, &format!("host-{number}"), launch).await);
    }
    let began = Instant::now();
    let recorder = Arc::new(Recorder::new(move || began.elapsed()));
    let wanderers: Vec<_> = (0..WANDERERS)
        .map(|name| {
            let mut wanderer = Wanderer {
                name: format!("wanderer-{name}"),
                clients: edges.iter().map(|edge| edge.client(&api_key)).collect(),
                seen: None,
                recorder: recorder.clone(),
            };
            tokio::spawn(async move {
                for number in 0..CALLS {
                    // now and then to another edge
                    wanderer.act(name + number / 2, deed(name, number)).await;
                }
            })
        })
        .collect();
    let done = |part: usize| {
        let recorder = recorder.clone();
        crate::wait::until_async("they have come so far", async move || {
            let calls = recorder.history().operations;
            calls.iter().filter(|call| call.end.is_some()).count() >= part
        })
    };
    done(WANDERERS * CALLS / 4).await;
    let stopped = second.stop().await;
    done(WANDERERS * CALLS / 2).await;
    let _second = stopped.start().await;
    for wanderer in wanderers {
        wanderer.await.unwrap();
    }
    let history = History {
        began: Position {
            epoch: 1,
            revision: 0,
        },
        ..recorder.history()
    };
    let report = check::sessions(&history).unwrap_or_else(|violation| panic!("{violation}"));
    assert!(report.reads > WANDERERS * CALLS / 3, "{report:?}");
    assert!(report.writes > WANDERERS * CALLS / 6, "{report:?}");
}
