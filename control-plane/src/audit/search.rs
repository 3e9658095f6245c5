//! Finding entries by who, where, what, what came of it, and when.

use authguardian_proto::ids::{AgentId, MachineId};
use time::OffsetDateTime;

use super::{Outcome, Record, store};
use crate::{db::Db, error::Result};

/// What an entry has to be; what is `None` fits everything.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Whose affair: one of these agents.
    pub agent_ids: Option<Vec<AgentId>>,
    /// Through which machine.
    pub machine_id: Option<MachineId>,
    /// What; a `*` at its end stands for anything.
    pub action: Option<String>,
    /// What came of it.
    pub outcome: Option<Outcome>,
    /// Not before.
    pub since: Option<OffsetDateTime>,
    /// Before.
    pub until: Option<OffsetDateTime>,
    /// On what.
    pub subject: Option<String>,
}

impl Filter {
    /// The agents as text.
    pub(super) fn agents(&self) -> Option<Vec<String>> {
        let agents = self.agent_ids.as_ref()?;
        Some(agents.iter().map(ToString::to_string).collect())
    }

    /// The action as a pattern of SQL's `LIKE`.
    pub(super) fn action_pattern(&self) -> Option<String> {
        let action = self.action.as_ref()?;
        let (text, rest) = match action.strip_suffix('*') {
            Some(text) => (text, "%"),
            None => (action.as_str(), ""),
        };
        let mut pattern = String::with_capacity(text.len() + 1);
        for c in text.chars() {
            if matches!(c, '%' | '_' | '\\') {
                pattern.push('\\');
            }
            pattern.push(c);
        }
        pattern.push_str(rest);
        Some(pattern)
    }
}

/// Entries that fit, sealed or not, newest first, older than `before` (a
/// sequence); only what no failover can undo.
///
/// # Errors
/// When the database refuses.
pub async fn search(
    db: &Db,
    filter: &Filter,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Record>> {
    let mut tx = db.begin_read().await?;
    let records = store::search::search(&mut tx, filter, before, limit).await?;
    db.end_proved(tx).await?;
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_star_at_the_end_stands_for_anything() {
        let pattern = |action: &str| {
            let filter = Filter {
                action: Some(action.to_owned()),
                ..Filter::default()
            };
            filter.action_pattern().unwrap()
        };
        assert_eq!(pattern("grant.revoke"), "grant.revoke");
        assert_eq!(pattern("grant.*"), "grant.%");
        assert_eq!(pattern("api_key.*"), "api\\_key.%");
        assert_eq!(pattern("a%*b"), "a\\%*b");
        assert_eq!(Filter::default().action_pattern(), None);
    }
}
