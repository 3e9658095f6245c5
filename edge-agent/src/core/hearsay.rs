//! Records of agents elsewhere, as other edges bring them: checked before they count.

use std::{collections::HashSet, sync::Arc};

use authguardian_proto::{
    agent_record::AgentRecord,
    ids::{AgentId, MachineId},
};

use crate::{
    clock::Ambient,
    neighbours::{Neighbours, Refused, Source},
    verify::Verifier,
};

/// What checks and keeps them.
#[derive(Clone)]
pub struct Hearsay {
    /// Keeps them.
    pub neighbours: Arc<Neighbours>,
    /// Knows the control plane's keys and time.
    pub verifier: Arc<Verifier>,
    /// The wall clock, until the control plane was heard.
    pub ambient: Ambient,
}

/// Records that were checked, each with its bytes.
pub(super) type Checked = Vec<(AgentRecord, usize)>;

impl Hearsay {
    /// The control plane's time as far as known, seconds since 1970.
    pub(super) fn now(&self) -> i64 {
        self.verifier.now(&self.ambient)
    }

    /// The records that count now. Those that have ended meanwhile do not, and are no
    /// fault of whoever brings them; anything else that is wrong with one is.
    pub(super) fn check(
        &self,
        machine: MachineId,
        texts: &[Arc<str>],
        now: i64,
    ) -> Result<Checked, Refused> {
        self.verifier.with_keys(|keys| {
            let mut good = Vec::new();
            for text in texts {
                match self.neighbours.check(machine, text, keys, now) {
                    Ok(record) => good.push((record, text.len())),
                    Err(Refused::Expired) => {}
                    Err(refused) => return Err(refused),
                }
            }
            Ok(good)
        })
    }

    /// Keeps them as all that the machine has.
    pub(super) fn keep(&self, machine: MachineId, checked: Checked, source: Source) {
        let agents: HashSet<AgentId> = checked.iter().map(|(r, _)| r.sub.clone()).collect();
        self.neighbours.keep_only(machine, &agents);
        for (record, bytes) in checked {
            let agent = record.sub.clone();
            if let Err(refused) = self.neighbours.keep(Arc::new(record), bytes, source) {
                tracing::debug!(%machine, %agent, %refused, "a record was not kept");
            }
        }
    }
}
