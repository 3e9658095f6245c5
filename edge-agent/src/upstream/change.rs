//! A change at the control plane, as far as this edge cares.

use authguardian_proto::{
    common::v1::Position,
    events::v1::{self as pb, change::Body, grants_revoked},
    ids::{AgentId, ApiKeyId, GrantId, MachineId, ResourceTypeName, SessionId, TaskId},
    reason::Reason,
};

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A grant was given or renewed, or ran out.
    Grant {
        /// Whose; `None`: it cannot be told.
        agent_id: Option<AgentId>,
    },
    /// A grant was ended before its time.
    Revoked {
        /// Which.
        grant_id: GrantId,
        /// Whose; `None`: it cannot be told.
        agent_id: Option<AgentId>,
        /// When its longest token would have ended, seconds since 1970.
        until: i64,
    },
    /// All grants that match and stand before this change were ended.
    RevokedMatching {
        /// Which grants.
        target: Target,
        /// Where the change stands in `grants`.
        position: Position,
        /// When the last grant that it can match ends, seconds since 1970.
        until: i64,
    },
    /// An API key was ended, and with it its sessions.
    ApiKeyRevoked(ApiKeyId),
    /// The limits of an API key are others: its sessions are made anew.
    ApiKeyChanged(ApiKeyId),
    /// A session was ended by its holder.
    SessionEnded(SessionId),
    /// The keys that tokens are checked with are others.
    SigningKeysChanged,
    /// This machine's state, or what it is for, is another: its sessions have
    /// ended, or say too much.
    Machine {
        /// Why its calls are refused now; `None`: they count.
        refused: Option<Reason>,
    },
    /// Something is another about an agent of the registry.
    Agent {
        /// Which.
        agent_id: AgentId,
        /// What.
        news: AgentNews,
        /// Where it is or was registered; `None`: nowhere.
        machine_id: Option<MachineId>,
        /// Which registration; 0: none.
        epoch: u64,
    },
    /// Something happened to a budget that is more than spending.
    Budget {
        /// Which.
        task_id: TaskId,
        /// What.
        news: BudgetNews,
    },
    /// Another machine's calls are refused from now on, or count again.
    OtherMachine {
        /// Which.
        machine_id: MachineId,
        /// Whether they are refused.
        refused: bool,
    },
    /// Changes were missed: everything may be different. What was revoked is
    /// told again right after it.
    Everything,
}

/// What is another about an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentNews {
    /// It was registered where it was not.
    Registered,
    /// What it has registered.
    Updated,
    /// Its registration was taken back.
    Deregistered,
    /// An operator has ended its lease.
    Released,
    /// It is there again.
    Live,
    /// It was not heard for longer than usual.
    Suspect,
    /// Its lease has ended.
    Gone,
    /// What operators say of it, or something that is not known here.
    Other,
}

impl AgentNews {
    pub(super) fn read(what: &str) -> Self {
        match what {
            "registered" => Self::Registered,
            "updated" => Self::Updated,
            "deregistered" => Self::Deregistered,
            "released" => Self::Released,
            "live" => Self::Live,
            "suspect" => Self::Suspect,
            "gone" => Self::Gone,
            _ => Self::Other,
        }
    }
}

/// What happened to a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BudgetNews {
    /// It was made.
    Created,
    /// There is more of it.
    ToppedUp,
    /// Nothing can be set aside.
    Frozen,
    /// It can again.
    Thawed,
    /// It has ended.
    Closed,
    /// An operator has ended the slice of a machine that was silent.
    Settled,
    /// A machine is silent.
    Fenced,
    /// So much was spent, percent of the total.
    Threshold(u32),
    /// Callers wait for what lies idle at other machines.
    Wanted,
    /// Something that is not known here.
    Other,
}

impl BudgetNews {
    pub(super) fn read(body: &pb::BudgetChanged) -> Self {
        match body.what.as_str() {
            "created" => Self::Created,
            "topped_up" => Self::ToppedUp,
            "frozen" => Self::Frozen,
            "thawed" => Self::Thawed,
            "closed" => Self::Closed,
            "settled" => Self::Settled,
            "fenced" => Self::Fenced,
            "threshold" => Self::Threshold(body.percent),
            "wanted" => Self::Wanted,
            _ => Self::Other,
        }
    }
}

/// Whose grants a predicate ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// One agent's.
    Agent(AgentId),
    /// Those through one machine.
    Machine(MachineId),
    /// Those of one resource type.
    ResourceType(ResourceTypeName),
    /// Those that a policy determined.
    Policy(String),
    /// All, also where this edge cannot tell whose.
    Everything,
}

/// A change that this edge must not pass over, and cannot read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unreadable;

impl Change {
    /// Reads a message; `None` for kinds that nothing here depends on, and for
    /// kinds of a newer control plane.
    pub(super) fn read(message: pb::Change, own: MachineId) -> Result<Option<Self>, Unreadable> {
        let grant = |agent: String| Self::Grant {
            agent_id: agent.parse().ok(),
        };
        Ok(Some(match message.body {
            Some(Body::GrantIssued(body)) => grant(body.agent_id),
            Some(Body::GrantRenewed(body)) => grant(body.agent_id),
            Some(Body::GrantExpired(body)) => grant(body.agent_id),
            Some(Body::GrantRevoked(body)) => Self::Revoked {
                grant_id: body.grant_id.parse().map_err(|_| Unreadable)?,
                agent_id: body.agent_id.parse().ok(),
                until: seconds(body.expires_at)?,
            },
            Some(Body::GrantsRevoked(body)) => Self::RevokedMatching {
                target: Target::read(body.target),
                position: message.position.ok_or(Unreadable)?,
                until: seconds(body.expires_at)?,
            },
            Some(Body::ApiKeyRevoked(body)) => {
                Self::ApiKeyRevoked(body.api_key_id.parse().map_err(|_| Unreadable)?)
            }
            Some(Body::ApiKeyChanged(body)) => {
                Self::ApiKeyChanged(body.api_key_id.parse().map_err(|_| Unreadable)?)
            }
            Some(Body::SessionEnded(body)) => {
                Self::SessionEnded(body.session_id.parse().map_err(|_| Unreadable)?)
            }
            Some(Body::SigningKeysChanged(_)) => Self::SigningKeysChanged,
            Some(Body::MachineChanged(body)) if body.machine_id.parse() == Ok(own) => {
                let refused = match body.state.as_str() {
                    "banned" => Some(Reason::MachineBanned),
                    "evicted" => Some(Reason::MachineEvicted),
                    _ => None,
                };
                Self::Machine { refused }
            }
            Some(Body::MachineChanged(body)) => Self::OtherMachine {
                machine_id: body.machine_id.parse().map_err(|_| Unreadable)?,
                refused: body.state != "active",
            },
            // nothing is revoked by it: one that cannot be read is passed over
            Some(Body::AgentChanged(body)) => match body.agent_id.parse() {
                Ok(agent_id) => Self::Agent {
                    agent_id,
                    news: AgentNews::read(&body.what),
                    machine_id: body.machine_id.parse().ok(),
                    epoch: body.epoch,
                },
                Err(_) => return Ok(None),
            },
            // nothing is given away by it either
            Some(Body::BudgetChanged(body)) => match body.task_id.parse() {
                Ok(task_id) => Self::Budget {
                    task_id,
                    news: BudgetNews::read(&body),
                },
                Err(_) => return Ok(None),
            },
            Some(Body::SuspensionChanged(_) | Body::PolicyChanged(_)) | None => {
                return Ok(None);
            }
        }))
    }
}

impl Target {
    /// A target that cannot be read is taken for all there is.
    pub(super) fn read(target: Option<grants_revoked::Target>) -> Self {
        use grants_revoked::Target as Pb;
        let read = match target {
            Some(Pb::AgentId(id)) => id.parse().ok().map(Self::Agent),
            Some(Pb::MachineId(id)) => id.parse().ok().map(Self::Machine),
            Some(Pb::ResourceType(name)) => name.parse().ok().map(Self::ResourceType),
            Some(Pb::PolicyId(id)) => Some(Self::Policy(id)),
            Some(Pb::Everything(_)) | None => None,
        };
        read.unwrap_or(Self::Everything)
    }
}

fn seconds(time: Option<prost_types::Timestamp>) -> Result<i64, Unreadable> {
    let time = time.ok_or(Unreadable)?;
    // a fraction of a second still belongs to the life of what ends then
    Ok(time.seconds + i64::from(time.nanos > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> MachineId {
        "mch_0000000000000000000007".parse().unwrap()
    }

    fn read(body: Body) -> Result<Option<Change>, Unreadable> {
        let change = pb::Change {
            body: Some(body),
            position: Some(Position {
                epoch: 1,
                revision: 2,
            }),
            ..pb::Change::default()
        };
        Change::read(change, own())
    }

    fn at(seconds: i64) -> prost_types::Timestamp {
        prost_types::Timestamp { seconds, nanos: 1 }
    }

    #[test]
    fn grants_changes_name_their_agent() {
        let issued = pb::GrantIssued {
            agent_id: "data_analyst".into(),
            ..Default::default()
        };
        let agent_id = Some("data_analyst".parse().unwrap());
        assert_eq!(
            read(Body::GrantIssued(issued)),
            Ok(Some(Change::Grant { agent_id }))
        );
    }

    #[test]
    fn a_predicate_that_cannot_be_read_concerns_everything() {
        for target in [None, Some(grants_revoked::Target::MachineId("?".into()))] {
            let revoked = pb::GrantsRevoked {
                target,
                expires_at: Some(at(9)),
            };
            match read(Body::GrantsRevoked(revoked)) {
                Ok(Some(Change::RevokedMatching { target, until, .. })) => {
                    assert_eq!((target, until), (Target::Everything, 10));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_revocation_that_cannot_be_read_is_not_passed_over() {
        let key = pb::ApiKeyRevoked {
            api_key_id: "?".into(),
        };
        assert_eq!(read(Body::ApiKeyRevoked(key)), Err(Unreadable));
        let grant = pb::GrantRevoked {
            grant_id: "?".into(),
            expires_at: Some(at(1)),
            ..Default::default()
        };
        assert_eq!(read(Body::GrantRevoked(grant)), Err(Unreadable));
        assert_eq!(Change::read(pb::Change::default(), own()), Ok(None));
    }

    #[test]
    fn what_is_told_of_agents_is_read_as_far_as_it_is_known_here() {
        let changed = |agent: &str, what: &str| {
            let body = pb::AgentChanged {
                agent_id: agent.into(),
                what: what.into(),
                machine_id: own().to_string(),
                epoch: 5,
            };
            read(Body::AgentChanged(body))
        };
        for (what, news) in [
            ("registered", AgentNews::Registered),
            ("gone", AgentNews::Gone),
            ("put", AgentNews::Other),
            ("", AgentNews::Other),
            ("painted", AgentNews::Other),
        ] {
            let expected = Change::Agent {
                agent_id: "a".parse().unwrap(),
                news,
                machine_id: Some(own()),
                epoch: 5,
            };
            assert_eq!(changed("a", what), Ok(Some(expected)));
        }
        assert_eq!(changed("", "gone"), Ok(None));
    }

    #[test]
    fn what_is_told_of_budgets_is_read_as_far_as_it_is_known_here() {
        let changed = |task_id: &str, what: &str| {
            read(Body::BudgetChanged(pb::BudgetChanged {
                task_id: task_id.into(),
                what: what.into(),
                percent: 80,
                machine_id: String::new(),
            }))
        };
        for (what, news) in [
            ("frozen", BudgetNews::Frozen),
            ("threshold", BudgetNews::Threshold(80)),
            ("wanted", BudgetNews::Wanted),
            ("painted", BudgetNews::Other),
        ] {
            let expected = Change::Budget {
                task_id: "q4/report".parse().unwrap(),
                news,
            };
            assert_eq!(changed("q4/report", what), Ok(Some(expected)));
        }
        assert_eq!(changed("", "frozen"), Ok(None));
    }

    #[test]
    fn this_machine_is_told_from_others() {
        let changed = |machine_id: &str, state: &str| {
            read(Body::MachineChanged(pb::MachineChanged {
                machine_id: machine_id.to_owned(),
                state: state.to_owned(),
            }))
        };
        let own = own().to_string();
        for (state, refused) in [
            ("active", None),
            ("banned", Some(Reason::MachineBanned)),
            ("evicted", Some(Reason::MachineEvicted)),
        ] {
            assert_eq!(changed(&own, state), Ok(Some(Change::Machine { refused })));
        }
        let machine_id = "mch_0000000000000000000008".parse().unwrap();
        for (state, refused) in [("active", false), ("banned", true)] {
            assert_eq!(
                changed("mch_0000000000000000000008", state),
                Ok(Some(Change::OtherMachine {
                    machine_id,
                    refused
                }))
            );
        }
    }
}
