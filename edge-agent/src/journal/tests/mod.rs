//! A journal beside an audit log that is a table.

mod bounds;
mod damage;
mod disks;
mod kills;
mod log;
mod shipping;
mod times;

use authguardian_proto::{reason::Reason, zone::Zone};

use super::{Call, Outcome};

pub(super) use log::{Edge, Way};

/// Which boot of the machine it is.
pub(super) const BOOT: &str = "boot-1";

/// A refused call of some client.
pub(super) fn call(client: u16) -> Call {
    let [high, low] = client.to_be_bytes();
    Call {
        action: "tool.revoke_token".into(),
        outcome: Outcome::Refused,
        reason: Some(Reason::AgentMismatch),
        api_key_id: None,
        claimed: None,
        agent_id: None,
        zone: Zone::External,
        client: Some([192, 0, high, low].into()),
    }
}
