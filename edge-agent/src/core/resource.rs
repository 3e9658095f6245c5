//! The resources: what a caller can read and subscribe to.

use authguardian_proto::{
    audit::v1::{Entry, ListOwnEntriesRequest},
    grants::v1::{ActiveGrant, ListActiveGrantsRequest},
    reason::Problem,
};
use serde_json::{Map, Value, json};

use super::{Caller, Core, decision::rfc3339};

const PAGE: u32 = 1000;
/// A caller with more active grants than this sees the newest.
const MAX_PAGES: usize = 10;

/// Something to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resource {
    /// The caller's active grants.
    ActiveGrants,
    /// The newest audit entries about the caller's agents.
    AuditEntries,
}

impl Resource {
    /// All of them, in the order of `resources/list`.
    pub const ALL: [Self; 2] = [Self::ActiveGrants, Self::AuditEntries];

    /// Finds a resource by its URI.
    pub fn parse(uri: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|resource| resource.uri() == uri)
    }

    /// The URI on the wire.
    pub const fn uri(self) -> &'static str {
        match self {
            Self::ActiveGrants => "grants://active",
            Self::AuditEntries => "grants://audit",
        }
    }

    /// A name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ActiveGrants => "Active grants",
            Self::AuditEntries => "Audit log",
        }
    }

    /// What it holds, for people and models.
    pub const fn description(self) -> &'static str {
        match self {
            Self::ActiveGrants => {
                "Grants in force of the agents that this API key speaks for, newest first"
            }
            Self::AuditEntries => {
                "The newest 100 audit entries about the agents that this API key speaks for, newest first"
            }
        }
    }
}

impl Core {
    pub(super) async fn active_grants(&self, caller: &Caller) -> Result<Value, Problem> {
        let mut grants: Vec<Value> = Vec::new();
        let mut page_token = String::new();
        for _ in 0..MAX_PAGES {
            let request = ListActiveGrantsRequest {
                page_size: PAGE,
                page_token,
            };
            let page = self
                .upstream
                .list_active_grants(caller.login(), request)
                .await?;
            grants.extend(page.grants.into_iter().map(grant));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        Ok(json!({ "grants": grants }))
    }

    pub(super) async fn audit_entries(&self, caller: &Caller) -> Result<Value, Problem> {
        let request = ListOwnEntriesRequest::default();
        let page = self
            .upstream
            .list_own_entries(caller.login(), request)
            .await?;
        let entries: Vec<Value> = page.entries.into_iter().map(entry).collect();
        Ok(json!({ "entries": entries }))
    }
}

fn grant(grant: ActiveGrant) -> Value {
    let mut object = Object::default();
    object.put("grant_id", grant.grant_id);
    object.put("agent_id", grant.agent_id);
    object.put("resource_type", grant.resource_type);
    object.put_given("scope", grant.scope);
    object.put("restrictions", grant.restrictions);
    object.put("issued_at", rfc3339(grant.issued_at));
    object.put("expires_at", rfc3339(grant.expires_at));
    Value::Object(object.0)
}

fn entry(entry: Entry) -> Value {
    let mut object = Object::default();
    object.put("sequence", entry.sequence);
    object.put("occurred_at", rfc3339(entry.occurred_at));
    object.put("caller", entry.caller);
    object.put_given("key_id", entry.key_id);
    object.put_given("machine_id", entry.machine_id);
    object.put_given("peer_address", entry.peer_address);
    object.put_given("zone", entry.zone);
    object.put("action", entry.action);
    object.put_given("subject", entry.subject);
    object.put("outcome", entry.outcome);
    object.put_given("reason", entry.reason);
    object.put_given("request_id", entry.request_id);
    object.put_given("trace_id", entry.trace_id);
    object.put("count", entry.count);
    Value::Object(object.0)
}

/// A JSON object without the fields that messages leave empty.
#[derive(Default)]
struct Object(Map<String, Value>);

impl Object {
    fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    fn put_given(&mut self, name: &str, text: String) {
        if !text.is_empty() {
            self.put(name, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_read_back() {
        for resource in Resource::ALL {
            assert_eq!(Resource::parse(resource.uri()), Some(resource));
        }
        assert_eq!(Resource::parse("grants://other"), None);
    }

    #[test]
    fn what_is_empty_is_left_out() {
        let value = grant(ActiveGrant {
            grant_id: "grt_1".into(),
            ..ActiveGrant::default()
        });
        assert_eq!(value["grant_id"], "grt_1");
        assert_eq!(value.get("scope"), None);
        let value = entry(Entry {
            action: "grant.request".into(),
            count: 2,
            ..Entry::default()
        });
        assert_eq!(
            (value["action"].as_str(), value["count"].as_u64()),
            (Some("grant.request"), Some(2))
        );
        assert_eq!(value.get("peer_address"), None);
    }
}
