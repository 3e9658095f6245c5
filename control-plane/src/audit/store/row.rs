//! An entry as a row, whether it is sealed or not.

use authguardian_proto::ids::MachineId;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::audit::{Place, Record};

pub(super) struct Row {
    /// The first three are there once it is sealed.
    pub(super) log: Option<i64>,
    pub(super) origin: Option<String>,
    pub(super) index: Option<i64>,
    pub(super) sequence: i64,
    pub(super) occurred_at: OffsetDateTime,
    pub(super) caller: String,
    pub(super) key_id: Option<String>,
    pub(super) machine_id: Option<Uuid>,
    pub(super) peer_address: Option<String>,
    pub(super) zone: Option<String>,
    pub(super) action: String,
    pub(super) subject: String,
    pub(super) agent_id: Option<String>,
    pub(super) outcome: String,
    pub(super) reason: Option<String>,
    pub(super) request_id: Option<String>,
    pub(super) trace_id: Option<String>,
    pub(super) count: i64,
}

impl From<Row> for Record {
    fn from(row: Row) -> Self {
        Self {
            place: (row.log.zip(row.origin).zip(row.index)).map(|((log, origin), index)| Place {
                log,
                origin,
                index,
            }),
            sequence: row.sequence,
            occurred_at: row.occurred_at,
            caller: row.caller,
            key_id: row.key_id,
            machine_id: row.machine_id.map(MachineId::from_uuid),
            peer_address: row.peer_address,
            zone: row.zone,
            action: row.action,
            subject: row.subject,
            agent_id: row.agent_id,
            outcome: row.outcome,
            reason: row.reason,
            request_id: row.request_id,
            trace_id: row.trace_id,
            count: row.count,
        }
    }
}
