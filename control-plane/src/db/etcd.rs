//! Who leads, as Patroni keeps it in etcd: read through etcd's JSON gateway,
//! <https://etcd.io/docs/v3.5/dev-guide/api_grpc_gateway/>.

use std::{str::FromStr, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use futures::future::{FutureExt, select_ok};
use reqwest::Client;
use serde::{Deserialize, Deserializer, de};
use serde_json::json;
use sqlx::postgres::PgConnectOptions;

use crate::{
    config::LeaderLease,
    error::{Error, Result},
};

/// How long one member may take, and after how long the next one is asked as well.
const ANSWER: Duration = Duration::from_secs(2);
const NEXT: Duration = Duration::from_millis(150);

/// The members of one etcd, and where Patroni keeps its cluster.
#[derive(Debug, Clone)]
pub struct Etcd {
    endpoints: Vec<String>,
    http: Client,
    /// Of the cluster, with a slash at its end.
    prefix: String,
}

/// Who leads.
#[derive(Debug, PartialEq, Eq)]
pub struct Leader {
    /// Patroni's name of the node.
    pub name: String,
    /// Where it says that its PostgreSQL is.
    pub host: String,
    /// See `host`.
    pub port: u16,
    /// For how long it leads at least, from before the question.
    pub ttl: Duration,
}

/// Why an answer says nothing.
type Problem = String;

impl Etcd {
    /// As configured; connects to nothing yet.
    ///
    /// # Errors
    /// When the CA's file cannot be read.
    pub fn new(settings: &LeaderLease) -> Result<Self> {
        let mut http = Client::builder()
            .no_proxy()
            .timeout(ANSWER)
            .connect_timeout(Duration::from_secs(1));
        if !settings.ca_file.as_os_str().is_empty() {
            let unreadable = |problem: String| {
                Error::invalid(
                    "database.leader_lease.ca_file",
                    format!("`{}`: {problem}", settings.ca_file.display()),
                )
            };
            let pem =
                std::fs::read(&settings.ca_file).map_err(|error| unreadable(error.to_string()))?;
            let ca = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|_| unreadable("holds no certificate in PEM".to_owned()))?;
            http = http.tls_certs_only(ca);
        }
        Ok(Self {
            endpoints: settings
                .endpoints
                .iter()
                .map(|endpoint| endpoint.trim_end_matches('/').to_owned())
                .collect(),
            http: http.build().map_err(Error::internal)?,
            prefix: format!(
                "/{}/{}/",
                settings.namespace.trim_matches('/'),
                settings.scope
            ),
        })
    }

    /// Who leads now, by a linearizable read; the inner error says why nobody
    /// does.
    ///
    /// # Errors
    /// When no member answers: then nothing is known.
    pub async fn leader(
        &self,
    ) -> std::result::Result<std::result::Result<Leader, Problem>, Problem> {
        let asked = self.endpoints.iter().zip(0..).map(|(endpoint, place)| {
            async move {
                tokio::time::sleep(NEXT * place).await;
                self.leader_at(endpoint)
                    .await
                    .map_err(|problem| format!("`{endpoint}`: {problem}"))
            }
            .boxed()
        });
        let answer = select_ok(asked).await;
        answer.map(|(answer, _)| answer)
    }

    async fn leader_at(
        &self,
        endpoint: &str,
    ) -> std::result::Result<std::result::Result<Leader, Problem>, Problem> {
        // leader and members/… stand side by side
        let question = json!({
            "key": STANDARD.encode(format!("{}leader", self.prefix)),
            "range_end": STANDARD.encode(format!("{}members0", self.prefix)),
        });
        let found: Range = self.ask(endpoint, "kv/range", &question).await?;
        let (name, lease, member) = match self.entries(&found)? {
            Ok(entries) => entries,
            Err(nobody) => return Ok(Err(nobody)),
        };
        let question = json!({"ID": lease.to_string()});
        let life: TimeToLive = self.ask(endpoint, "lease/timetolive", &question).await?;
        let Ok(ttl @ 1..) = u64::try_from(life.ttl) else {
            return Ok(Err("has ended".to_owned()));
        };
        let at = PgConnectOptions::from_str(&member.conn_url)
            .map_err(|_| format!("`{name}` has no usable `conn_url`"))?;
        Ok(Ok(Leader {
            name,
            host: at.get_host().to_owned(),
            port: at.get_port(),
            ttl: Duration::from_secs(ttl),
        }))
    }

    /// The leader's name, its lease, and what it says of itself.
    fn entries(
        &self,
        found: &Range,
    ) -> std::result::Result<std::result::Result<(String, i64, Member), Problem>, Problem> {
        let leader = format!("{}leader", self.prefix);
        let Some(leader) = found
            .kvs
            .iter()
            .find(|entry| entry.key.0 == leader.as_bytes())
        else {
            return Ok(Err("is held by nobody".to_owned()));
        };
        if leader.lease == 0 {
            return Err("the leader's key has no lease".to_owned());
        }
        let name = String::from_utf8_lossy(&leader.value.0).into_owned();
        let member = format!("{}members/{name}", self.prefix);
        let Some(member) = found
            .kvs
            .iter()
            .find(|entry| entry.key.0 == member.as_bytes())
        else {
            return Ok(Err(format!("is that of `{name}`, which is no member")));
        };
        let member = serde_json::from_slice(&member.value.0)
            .map_err(|error| format!("what `{name}` says of itself: {error}"))?;
        Ok(Ok((name, leader.lease, member)))
    }

    async fn ask<T: de::DeserializeOwned>(
        &self,
        endpoint: &str,
        method: &str,
        question: &serde_json::Value,
    ) -> std::result::Result<T, Problem> {
        let asked = self.http.post(format!("{endpoint}/v3/{method}"));
        let answer = async {
            asked
                .json(question)
                .send()
                .await?
                .error_for_status()?
                .json()
                .await
        };
        // the URL is told by the caller
        answer
            .await
            .map_err(|error: reqwest::Error| causes(&error.without_url()))
    }
}

/// An error with what caused it: on its own it says little more than that there
/// was one.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[derive(Deserialize)]
struct Range {
    #[serde(default)]
    kvs: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    key: Bytes,
    #[serde(default)]
    value: Bytes,
    #[serde(default, deserialize_with = "number")]
    lease: i64,
}

#[derive(Deserialize)]
struct TimeToLive {
    /// Seconds; below 0 when there is no such lease. Left out when it is 0.
    #[serde(rename = "TTL", default, deserialize_with = "number")]
    ttl: i64,
}

#[derive(Deserialize)]
struct Member {
    conn_url: String,
}

/// The gateway writes bytes as base64.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(de::Error::custom)
    }
}

/// The gateway writes 64-bit numbers as strings.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<i64, D::Error> {
    String::deserialize(deserializer)?
        .parse()
        .map_err(de::Error::custom)
}
