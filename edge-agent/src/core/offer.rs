//! Which tools this edge offers. Its operator can take some away, and give them
//! back, while it runs.

use std::sync::Arc;

use arc_swap::ArcSwap;
use authguardian_proto::reason::{Problem, Reason};
use serde_json::json;
use tokio::sync::watch;

use super::{Core, Tool};
use crate::upstream::{Event, EventName, Subject};

/// The tools that are not offered, and word of when they are others.
pub(super) struct Offer {
    withheld: ArcSwap<Vec<Tool>>,
    changes: watch::Sender<()>,
}

impl Offer {
    pub(super) fn new() -> Self {
        Self {
            withheld: ArcSwap::default(),
            changes: watch::Sender::new(()),
        }
    }

    /// Refuses a tool that is not offered.
    pub(super) fn check(&self, tool: Tool) -> Result<(), Problem> {
        if !self.withheld.load().contains(&tool) {
            return Ok(());
        }
        let detail = format!(
            "`{}` is switched off on this edge, by `tools.disabled` of its configuration",
            tool.name()
        );
        Err(Problem::new(Reason::PermissionDenied, detail))
    }
}

impl Core {
    /// The tools that this edge offers, in the order of `tools/list`.
    pub fn tools(&self) -> Vec<Tool> {
        let withheld = self.offer.withheld.load();
        let offered = Tool::ALL.into_iter();
        offered.filter(|tool| !withheld.contains(tool)).collect()
    }

    /// Offers all tools but these from now on.
    pub fn withhold_tools(&self, withheld: Vec<Tool>) {
        if **self.offer.withheld.load() != withheld {
            self.offer.withheld.store(Arc::new(withheld));
            self.offer.changes.send_replace(());
            let names: Vec<&str> = self.tools().into_iter().map(Tool::name).collect();
            self.upstream.feed().events().tell(Event {
                name: EventName::ToolsListChanged,
                position: None,
                subject: Subject::All,
                data: json!({ "tools": names }).to_string(),
            });
        }
    }

    /// Hears when [`Core::tools`] are others.
    pub fn tool_changes(&self) -> watch::Receiver<()> {
        self.offer.changes.subscribe()
    }
}
