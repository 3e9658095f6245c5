//! The resources: what a caller can read and subscribe to.

use authguardian_proto::{
    audit::v1::{Entry, ListOwnEntriesRequest},
    grants::v1::{ActiveGrant, ListActiveGrantsRequest},
    reason::Problem,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    BoardUri, BudgetUri, Caller, Core, DiscoverAgentsResult, Told,
    decision::{given, rfc3339},
    discover_agents::Asked,
    schema_of,
};

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
    /// The agents that can be found.
    Registry,
}

/// `grants://active`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ActiveGrants {
    /// Newest first.
    pub grants: Vec<GrantInForce>,
}

/// A grant as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct GrantInForce {
    /// Id of the grant.
    pub grant_id: String,
    /// Whose it is.
    pub agent_id: String,
    /// What it is for.
    pub resource_type: String,
    /// What exactly; missing when no scope was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Obligations of the holder, such as `read_only`.
    pub restrictions: Vec<String>,
    /// First issue, RFC 3339 in UTC.
    pub issued_at: Option<String>,
    /// End, RFC 3339 in UTC.
    pub expires_at: Option<String>,
}

/// `grants://audit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AuditEntries {
    /// Newest first.
    pub entries: Vec<AuditEntry>,
}

/// One entry of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AuditEntry {
    /// Its number in the order of arrival.
    pub sequence: u64,
    /// When it happened, RFC 3339 in UTC.
    pub occurred_at: Option<String>,
    /// Who did it.
    pub caller: String,
    /// Credential that was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// Machine that it came through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<String>,
    /// Address that it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_address: Option<String>,
    /// Zone that it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// What was done, such as `grant.request`.
    pub action: String,
    /// What it was done to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// How it ended.
    pub outcome: String,
    /// Reason code, unless it ended well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The caller's own id of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Trace that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// How many equal ones it stands for.
    pub count: u64,
    /// Whether it has its place in the log, which proves it from then on.
    pub sealed: bool,
    /// Its place in the log, from 0, once it is sealed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// The log that it is sealed in: what its checkpoints begin with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
}

/// What a URI names that can be read and subscribed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readable {
    /// One of the few that are always there.
    Resource(Resource),
    /// A key of a board, or a whole board.
    Board(BoardUri),
    /// A budget.
    Budget(BudgetUri),
}

impl Readable {
    /// Finds out what a URI names.
    pub fn parse(uri: &str) -> Option<Self> {
        let resource = Resource::parse(uri).map(Self::Resource);
        resource
            .or_else(|| BoardUri::parse(uri).map(Self::Board))
            .or_else(|| BudgetUri::parse(uri).map(Self::Budget))
    }
}

impl Resource {
    /// All of them, in the order of `resources/list`.
    pub const ALL: [Self; 3] = [Self::ActiveGrants, Self::AuditEntries, Self::Registry];

    /// Finds a resource by its URI.
    pub fn parse(uri: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|resource| resource.uri() == uri)
    }

    /// The URI on the wire.
    pub const fn uri(self) -> &'static str {
        match self {
            Self::ActiveGrants => "grants://active",
            Self::AuditEntries => "grants://audit",
            Self::Registry => "agents://registry",
        }
    }

    /// A name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ActiveGrants => "Active grants",
            Self::AuditEntries => "Audit log",
            Self::Registry => "Agents",
        }
    }

    /// The JSON Schema of what is read.
    pub fn schema(self) -> Map<String, Value> {
        match self {
            Self::ActiveGrants => schema_of::<ActiveGrants>(),
            Self::AuditEntries => schema_of::<AuditEntries>(),
            Self::Registry => schema_of::<DiscoverAgentsResult>(),
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
            Self::Registry => {
                "The best 1,000 of the agents that can be found, as `discover_agents` tells them; `next_cursor` says where more begin"
            }
        }
    }
}

impl Core {
    pub(super) async fn active_grants(&self, caller: &Caller) -> Result<ActiveGrants, Problem> {
        let mut grants = Vec::new();
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
            grants.extend(page.grants.into_iter().map(GrantInForce::from));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        Ok(ActiveGrants { grants })
    }

    /// Everybody, as far as there is room.
    pub(super) async fn registry(&self, caller: &Caller) -> Result<DiscoverAgentsResult, Problem> {
        self.find_agents(caller, &Asked::anybody(), PAGE, None)
            .await
    }

    /// A key with what is in it, or the keys of a board.
    pub(super) async fn read_board(
        &self,
        caller: &Caller,
        uri: &BoardUri,
    ) -> Result<Told, Problem> {
        let board = uri.board.as_str();
        match &uri.key {
            Some(key) => {
                let entry = self.board_entry(caller, board, key.as_str()).await;
                entry.map(Told::of)
            }
            None => self.board_keys(caller, board).await.map(Told::of),
        }
    }

    pub(super) async fn audit_entries(&self, caller: &Caller) -> Result<AuditEntries, Problem> {
        let request = ListOwnEntriesRequest::default();
        let page = self
            .upstream
            .list_own_entries(caller.login(), request)
            .await?;
        let entries = page.entries.into_iter().map(AuditEntry::from).collect();
        Ok(AuditEntries { entries })
    }
}

impl From<ActiveGrant> for GrantInForce {
    fn from(grant: ActiveGrant) -> Self {
        Self {
            grant_id: grant.grant_id,
            agent_id: grant.agent_id,
            resource_type: grant.resource_type,
            scope: given(grant.scope),
            restrictions: grant.restrictions,
            issued_at: rfc3339(grant.issued_at),
            expires_at: rfc3339(grant.expires_at),
        }
    }
}

impl From<Entry> for AuditEntry {
    fn from(entry: Entry) -> Self {
        Self {
            sequence: entry.sequence,
            occurred_at: rfc3339(entry.occurred_at),
            caller: entry.caller,
            key_id: given(entry.key_id),
            machine_id: given(entry.machine_id),
            peer_address: given(entry.peer_address),
            zone: given(entry.zone),
            action: entry.action,
            subject: given(entry.subject),
            outcome: entry.outcome,
            reason: given(entry.reason),
            request_id: given(entry.request_id),
            trace_id: given(entry.trace_id),
            count: entry.count,
            sealed: entry.index.is_some(),
            index: entry.index,
            origin: given(entry.origin),
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
        let grant = GrantInForce::from(ActiveGrant {
            grant_id: "grt_1".into(),
            ..ActiveGrant::default()
        });
        let value = serde_json::to_value(grant).unwrap();
        assert_eq!(value["grant_id"], "grt_1");
        assert_eq!(value.get("scope"), None);
        let entry = AuditEntry::from(Entry {
            action: "grant.request".into(),
            count: 2,
            ..Entry::default()
        });
        let value = serde_json::to_value(entry).unwrap();
        assert_eq!(
            (value["action"].as_str(), value["count"].as_u64()),
            (Some("grant.request"), Some(2))
        );
        assert_eq!(value.get("peer_address"), None);
    }

    #[test]
    fn a_sealed_entry_says_where_it_stands() {
        let entry = Entry {
            action: "grant.request".into(),
            ..Entry::default()
        };
        let value = serde_json::to_value(AuditEntry::from(entry.clone())).unwrap();
        assert_eq!(value["sealed"], false);
        assert_eq!((value.get("index"), value.get("origin")), (None, None));
        let sealed = Entry {
            index: Some(0),
            origin: "example.org/audit/1".into(),
            ..entry
        };
        let value = serde_json::to_value(AuditEntry::from(sealed)).unwrap();
        assert_eq!(
            (&value["sealed"], &value["index"]),
            (&true.into(), &0.into())
        );
        assert_eq!(value["origin"], "example.org/audit/1");
    }
}
