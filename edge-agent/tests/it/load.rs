//! Sixty-four clients that ask for grants and revoke some, insist on every
//! answer, and write down what they were told.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    edge::{RestClient, asking},
    wait::{DEADLINE, until},
};

const CLIENTS: usize = 64;

/// Clients at work.
pub(crate) struct Load {
    told: Arc<Told>,
    clients: JoinSet<()>,
    client: RestClient,
}

/// What the clients were told.
#[derive(Default)]
struct Told {
    stop: AtomicBool,
    answers: AtomicUsize,
    granted: Mutex<Vec<String>>,
    revoked: Mutex<Vec<(String, String)>>,
}

impl Load {
    pub(crate) fn start(client: &RestClient) -> Self {
        let told = Arc::new(Told::default());
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            clients.spawn(work(client.clone(), told.clone(), number));
        }
        Self {
            told,
            clients,
            client: client.clone(),
        }
    }

    /// Waits for two more answers for every client.
    pub(crate) async fn progress(&self) {
        let goal = self.told.answers.load(Ordering::Relaxed) + 2 * CLIENTS;
        until("the clients get answers", || {
            self.told.answers.load(Ordering::Relaxed) >= goal
        })
        .await;
    }

    /// Ends the load and checks that what was acknowledged is there, once.
    pub(crate) async fn check(mut self) {
        self.told.stop.store(true, Ordering::Relaxed);
        let all = async {
            while let Some(ended) = self.clients.join_next().await {
                ended.unwrap();
            }
        };
        tokio::time::timeout(DEADLINE, all).await.unwrap();

        let granted = self.told.granted.lock().unwrap().clone();
        let distinct: BTreeSet<String> = granted.iter().cloned().collect();
        assert_eq!(
            granted.len(),
            distinct.len(),
            "two request ids were told the same grant"
        );
        let revoked = self.told.revoked.lock().unwrap().clone();
        let ended: BTreeSet<String> = revoked.iter().map(|(id, _)| id.clone()).collect();
        let active = self.client.resource("grants://active").await;
        let active: BTreeSet<String> = active["grants"]
            .as_array()
            .unwrap()
            .iter()
            .map(|grant| grant["grant_id"].as_str().unwrap().to_owned())
            .collect();
        let expected: BTreeSet<String> = distinct.difference(&ended).cloned().collect();
        let lost: Vec<_> = expected.difference(&active).collect();
        let doubled: Vec<_> = active.difference(&expected).collect();
        assert!(
            lost.is_empty() && doubled.is_empty(),
            "lost: {lost:?}; doubled or not revoked: {doubled:?}"
        );
        for (_, token) in revoked.iter().take(CLIENTS) {
            assert_eq!(self.client.validate(token).await["reason"], "GRANT_REVOKED");
        }
    }
}

/// Asks, asks again with the same id, and revokes every second grant.
async fn work(client: RestClient, told: Arc<Told>, number: usize) {
    for round in 0.. {
        if told.stop.load(Ordering::Relaxed) {
            return;
        }
        let mut ask = asking("data_analyst");
        ask["ttl_seconds"] = json!(3600);
        ask["request_id"] = json!(format!("ask-{number}-{round}"));
        let granted = client.insist("request_permission", &ask).await;
        let repeated = client.insist("request_permission", &ask).await;
        assert_eq!(
            granted["grant_id"], repeated["grant_id"],
            "a repeat got another outcome"
        );
        let (id, token) = (text(&granted, "grant_id"), text(&granted, "token"));
        told.granted.lock().unwrap().push(id.clone());
        told.answers.fetch_add(1, Ordering::Relaxed);
        if round % 2 == 0 {
            let revoke = json!({"token": token, "request_id": format!("revoke-{number}-{round}")});
            let revoked = client.insist("revoke_token", &revoke).await;
            assert_eq!(revoked["grant_id"], granted["grant_id"]);
            told.revoked.lock().unwrap().push((id, token));
            told.answers.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn text(value: &Value, name: &str) -> String {
    value[name]
        .as_str()
        .unwrap_or_else(|| panic!("no `{name}` in {value}"))
        .to_owned()
}
