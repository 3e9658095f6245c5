//! Limits of API keys: how often, and from where.

mod bound;
mod key;
mod networks;
mod three_edges;

use std::sync::atomic::{AtomicU64, Ordering};

use authguardian_proto::{
    ids::ApiKeyId,
    rate::{RateLimit, RateLimits},
};
use reqwest::{StatusCode, header};
use serde_json::json;

use crate::edge::RestClient;

/// Calls by what came of them.
#[derive(Default)]
struct Tally {
    passed: AtomicU64,
    limited: AtomicU64,
}

impl Tally {
    fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    fn limited(&self) -> u64 {
        self.limited.load(Ordering::Relaxed)
    }

    /// Makes one call that the edge answers by itself; a refused one says when
    /// to try again.
    async fn call(&self, client: &RestClient) -> bool {
        let question =
            json!({"token": "x", "agent_id": "data_analyst", "resource_type": "SAP_API"});
        let answer = client.post("validate_token").json(&question).send();
        let answer = answer.await.unwrap();
        let passed = match answer.status() {
            StatusCode::OK => true,
            StatusCode::TOO_MANY_REQUESTS => {
                let wait = answer.headers()[header::RETRY_AFTER].to_str().unwrap();
                let wait: u64 = wait.parse().unwrap();
                assert!((1..=60).contains(&wait), "{wait}");
                false
            }
            other => panic!("{other}: {}", answer.text().await.unwrap()),
        };
        let count = if passed { &self.passed } else { &self.limited };
        count.fetch_add(1, Ordering::Relaxed);
        passed
    }
}

/// A limit of all calls, written `100/200`.
fn of_all(limit: &str) -> RateLimits {
    RateLimits {
        all: Some(limit.parse().unwrap()),
        ..RateLimits::default()
    }
}

/// A limit of one tool alone.
fn of_tool(tool: &str, limit: &str) -> RateLimits {
    let limit: RateLimit = limit.parse().unwrap();
    RateLimits {
        all: None,
        tools: [(tool.to_owned(), limit)].into(),
    }
}

/// A key with its id and its text.
type Made = (ApiKeyId, String);
