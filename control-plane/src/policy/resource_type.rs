//! Resource types: what grants are given for.

use std::collections::HashSet;

use authguardian_proto::{
    ids::{AgentId, BoardName, ResourceTypeName},
    reason::{Problem, Reason},
};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use super::{Policies, obligations, score, store};
use crate::{
    audit::{self, Context, Entry},
    db::request::Begun,
    error::{Error, Result},
    events::{self, ChangeBody, Stream},
};

/// TTL of a grant whose type and request say nothing, in seconds.
pub const DEFAULT_TTL_SECONDS: u32 = 300;

/// Longest life of a grant whose type says nothing, in seconds.
pub const DEFAULT_MAX_TTL_SECONDS: u32 = 3600;

/// Risk of calling an agent, where no type of its name says otherwise.
pub const AGENT_RISK: u32 = 300;

/// Risk of using a board that needs a grant, where no type of its name says otherwise.
pub const BOARD_RISK: u32 = 300;

/// Longest life that a type may allow, in seconds.
pub const LONGEST_TTL_SECONDS: u32 = 86_400;

const MAX_RESTRICTIONS: usize = 32;
const MAX_DESCRIPTION: usize = 500;

/// Something that grants are given for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceType {
    /// The audience of its tokens.
    pub name: ResourceTypeName,
    /// Risk before the scope adds to it, 0 to 1000.
    pub base_risk: u32,
    /// What each of its grants carries, such as `read_only`.
    pub restrictions: Vec<String>,
    /// Seconds that a grant lives when the caller asks for nothing.
    pub default_ttl_seconds: u32,
    /// Seconds from first issue that no grant outlives.
    pub max_ttl_seconds: u32,
    /// For people, at most 500 characters.
    pub description: String,
}

impl ResourceType {
    /// What calls of an agent are granted by, where operators have put no type
    /// of its name.
    pub fn of_agent(agent: &AgentId) -> Self {
        Self::usual(ResourceTypeName::of_agent(agent), AGENT_RISK)
    }

    /// What the use of a board is granted by, where operators have put no type
    /// of its name.
    pub fn of_board(board: &BoardName) -> Self {
        Self::usual(ResourceTypeName::of_board(board), BOARD_RISK)
    }

    fn usual(name: ResourceTypeName, base_risk: u32) -> Self {
        Self {
            name,
            base_risk,
            restrictions: Vec::new(),
            default_ttl_seconds: DEFAULT_TTL_SECONDS,
            max_ttl_seconds: DEFAULT_MAX_TTL_SECONDS,
            description: String::new(),
        }
    }

    fn check(&self) -> Result<()> {
        if self.base_risk > score::MAX {
            return Err(Error::invalid(
                "resource_type.base_risk",
                "expected 0 to 1000",
            ));
        }
        if self.restrictions.len() > MAX_RESTRICTIONS
            || !self
                .restrictions
                .iter()
                .all(|name| obligations::is_restriction(name))
            || self.restrictions.iter().collect::<HashSet<_>>().len() < self.restrictions.len()
        {
            return Err(Error::invalid(
                "resource_type.restrictions",
                format!(
                    "expected at most {MAX_RESTRICTIONS} different names, each 1 to 64 characters of `A-Z a-z 0-9 _ : . -`"
                ),
            ));
        }
        if !(1..=LONGEST_TTL_SECONDS).contains(&self.max_ttl_seconds) {
            return Err(Error::invalid(
                "resource_type.max_ttl_seconds",
                format!("expected 1 to {LONGEST_TTL_SECONDS}"),
            ));
        }
        if !(1..=self.max_ttl_seconds).contains(&self.default_ttl_seconds) {
            return Err(Error::invalid(
                "resource_type.default_ttl_seconds",
                format!("expected 1 to the maximum, {}", self.max_ttl_seconds),
            ));
        }
        if self.description.chars().count() > MAX_DESCRIPTION || self.description.contains('\0') {
            return Err(Error::invalid(
                "resource_type.description",
                format!("expected at most {MAX_DESCRIPTION} characters, none of them NUL"),
            ));
        }
        Ok(())
    }
}

impl Policies {
    /// Creates a resource type or replaces it. Grants that were given before
    /// keep what they were given.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with the field; `REQUEST_ID_REUSED`.
    pub async fn put_resource_type(
        &self,
        context: Context,
        new: ResourceType,
    ) -> Result<ResourceType> {
        new.check()?;
        let now = self.ambient.clock.now();
        let key = context.request_key(&self.ambient, "policy.put_resource_type", &new)?;
        let mut request = match self.db.begin_request(key, now).await? {
            Begun::Told(stored) => return Ok(stored),
            Begun::New(request) => request,
        };
        let connection = request.connection();
        store::put_resource_type(connection, &new, now).await?;
        let entry = Entry::ok(context, "resource_type.put", new.name.to_string());
        audit::append(connection, now, &[entry]).await?;
        let policy_version = store::active_version(connection).await?;
        events::append(
            connection,
            Stream::Policy,
            now,
            &[ChangeBody::PolicyChanged { policy_version }],
        )
        .await?;
        request.finish(&new).await?;
        Ok(new)
    }

    /// One resource type.
    ///
    /// # Errors
    /// `UNKNOWN_RESOURCE_TYPE`.
    pub async fn resource_type(&self, name: &ResourceTypeName) -> Result<ResourceType> {
        store::resource_type(&mut *self.db.read().await?, name)
            .await?
            .ok_or_else(|| unknown_resource_type(name))
    }

    /// Lists resource types by name, after a name (`None`: from the first).
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn list_resource_types(
        &self,
        after: Option<&ResourceTypeName>,
        limit: i64,
    ) -> Result<Vec<ResourceType>> {
        store::list_resource_types(&mut *self.db.read().await?, after, limit).await
    }
}

/// Resource types by name, in name order and share-locked until the
/// transaction ends; those that do not exist are left out.
///
/// # Errors
/// When the database refuses.
pub async fn lock_resource_types(
    connection: &mut PgConnection,
    names: &[ResourceTypeName],
) -> Result<Vec<ResourceType>> {
    store::resource_types_for_share(connection, names).await
}

fn unknown_resource_type(name: &ResourceTypeName) -> Error {
    let detail =
        format!("there is no resource type `{name}`; `resource-type list` shows those there are");
    Problem::new(Reason::UnknownResourceType, detail)
        .at("resource_type")
        .into()
}
