//! Enrolled machines.

use authguardian_proto::{
    ids::{MachineId, MachineName},
    reason::Reason,
    zone::Zone,
};
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::{Identity, ca::RequestedKey, store};
use crate::{
    audit::{self, Context, Entry},
    error::{Error, Result},
};

/// For how long after its end a certificate may still be renewed, and nothing
/// else.
pub const RENEWABLE: Duration = Duration::days(30);

/// An enrolled machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Its id, as in its certificates.
    pub id: MachineId,
    /// Its unique name.
    pub name: String,
    /// Whether its calls are refused.
    pub banned: bool,
    /// Its calls never count for more.
    pub max_zone: Zone,
    /// When it joined.
    pub created_at: OffsetDateTime,
    /// When its newest certificate ends.
    pub certificate_expires_at: OffsetDateTime,
}

/// A certificate and what it rests on, DER.
#[derive(Debug, Clone)]
pub struct IssuedCertificate {
    /// Leaf first.
    pub chain: Vec<Vec<u8>>,
    /// Every CA certificate that peers are to trust.
    pub ca_certificates: Vec<Vec<u8>>,
    /// When the leaf ends.
    pub expires_at: OffsetDateTime,
}

impl Identity {
    /// Lists machines by name, after a name.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn list_machines(&self, after: &str, limit: i64) -> Result<Vec<Machine>> {
        store::list_machines(&mut *self.db.read().await?, after, limit).await
    }

    /// One machine by id or name.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` (`machine`) when there is none.
    pub async fn find_machine(&self, id_or_name: &str) -> Result<Machine> {
        let mut connection = self.db.read().await?;
        let found = match (
            id_or_name.parse::<MachineId>(),
            id_or_name.parse::<MachineName>(),
        ) {
            (Ok(id), _) => store::machine(&mut connection, id).await?,
            (_, Ok(name)) => store::machine_by_name(&mut connection, name.as_str()).await?,
            _ => {
                return Err(Error::invalid(
                    "machine",
                    "expected `mch_…` or a machine name",
                ));
            }
        };
        found.ok_or_else(|| {
            Error::invalid("machine", format!("no machine `{id_or_name}` is enrolled"))
        })
    }

    /// How many machines are enrolled and active.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn count_machines(&self) -> Result<i64> {
        store::count_machines(&mut *self.db.read().await?).await
    }

    /// Issues the next certificate of an enrolled machine.
    ///
    /// # Errors
    /// `MACHINE_BANNED`, `UNAUTHENTICATED` (the machine is unknown).
    pub async fn renew_certificate(
        &self,
        context: Context,
        machine: MachineId,
        key: &RequestedKey,
    ) -> Result<IssuedCertificate> {
        let now = self.ambient.clock.now();
        let mut tx = self.db.begin().await?;
        active_machine(&mut tx, machine).await?;
        let issued = self.certify(machine, key, now)?;
        store::set_machine_certificate(&mut tx, machine, &key.spki(), issued.expires_at).await?;
        audit::append(
            &mut tx,
            now,
            &[Entry::ok(context, "machine.renew", machine.to_string())],
        )
        .await?;
        self.db.commit(tx).await?;
        Ok(issued)
    }

    pub(super) fn certify(
        &self,
        machine: MachineId,
        key: &RequestedKey,
        now: OffsetDateTime,
    ) -> Result<IssuedCertificate> {
        let until = now + self.settings.certificate_ttl;
        let keyring = self.keyring();
        let chain = keyring.ca().certify_machine(
            &self.settings.trust_domain,
            machine,
            key,
            &self.ambient.entropy,
            now,
            until,
        )?;
        Ok(IssuedCertificate {
            chain: chain
                .iter()
                .map(|certificate| certificate.to_vec())
                .collect(),
            ca_certificates: keyring
                .ca_certificates()
                .iter()
                .map(|ca| ca.to_vec())
                .collect(),
            expires_at: until,
        })
    }
}

/// A machine whose calls count, share-locked until the transaction ends.
///
/// # Errors
/// `UNAUTHENTICATED` when it is unknown, `MACHINE_BANNED`.
pub async fn active_machine(connection: &mut PgConnection, id: MachineId) -> Result<Machine> {
    let machine = store::machine_for_share(connection, id)
        .await?
        .ok_or_else(|| {
            Error::new(
                Reason::Unauthenticated,
                "this machine is not enrolled here; let it join again",
            )
        })?;
    if machine.banned {
        return Err(Error::new(
            Reason::MachineBanned,
            "this machine is banned; ask an operator",
        ));
    }
    Ok(machine)
}

/// Machines by id, share-locked until the transaction ends, in key order.
///
/// # Errors
/// When the database refuses.
pub async fn lock_machines(
    connection: &mut PgConnection,
    ids: &[MachineId],
) -> Result<Vec<Machine>> {
    store::machines_for_share(connection, ids).await
}
