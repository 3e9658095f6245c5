//! What operators do to machines. Bans and evictions end grants as well: the
//! acts themselves are whole in `grants`, and begin here.

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{
    Identity, Machine, TermsChange,
    machine::{Act, MachineRef},
    store, terms,
};
use crate::{
    audit::{self, Context, Entry},
    db::request::Begun,
    error::{Error, Result},
    events::{self, ChangeBody, Stream},
};

/// What ends all that a machine could do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expulsion {
    /// Until it is unbanned.
    Ban,
    /// For good.
    Evict,
}

impl Identity {
    /// Lets a banned machine call again; of an active one it succeeds.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` (`machine`), `MACHINE_EVICTED`, `REQUEST_ID_REUSED`,
    /// `OUTCOME_UNKNOWN`.
    pub async fn unban_machine(&self, context: Context, named: &MachineRef) -> Result<Machine> {
        let now = self.ambient.clock.now();
        let key = context.request_key(&self.ambient, "identity.unban_machine", named)?;
        let mut request = match self.db.begin_request(key, now).await? {
            Begun::Told(machine) => return Ok(machine),
            Begun::New(request) => request,
        };
        let entry = |machine: &Machine| Entry::ok(context, "machine.unban", machine.id.to_string());
        let (machine, change) =
            undergo(request.connection(), named, &Act::Unban, now, entry).await?;
        tell(request.connection(), now, change).await?;
        request.finish(&machine).await?;
        self.machines_changed().await;
        Ok(machine)
    }

    /// Changes what a machine is for. Other zones or agents end its sessions.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` (`machine`, `server_names`), `MACHINE_EVICTED`,
    /// `REQUEST_ID_REUSED`, `OUTCOME_UNKNOWN`.
    pub async fn update_machine(
        &self,
        context: Context,
        named: &MachineRef,
        mut change: TermsChange,
    ) -> Result<Machine> {
        if change == TermsChange::default() {
            return Err(Error::invalid(
                "max_zone",
                "expected something to change: `max_zone`, `agents` or `server_names`",
            ));
        }
        if let Some(names) = &mut change.server_names {
            terms::check_names(names, &self.settings.server_names)?;
        }
        let now = self.ambient.clock.now();
        let asked = (named, &change);
        let key = context.request_key(&self.ambient, "identity.update_machine", &asked)?;
        let mut request = match self.db.begin_revocation_request(key, now).await? {
            Begun::Told(machine) => return Ok(machine),
            Begun::New(request) => request,
        };
        let entry =
            |machine: &Machine| Entry::ok(context, "machine.update", machine.id.to_string());
        let act = Act::Update(change);
        let (machine, change) = undergo(request.connection(), named, &act, now, entry).await?;
        tell(request.connection(), now, change).await?;
        request.finish(&machine).await?;
        self.machines_changed().await;
        Ok(machine)
    }
}

/// The beginning of a ban or an eviction, for a transaction that ends grants
/// after it, and then appends the change to `identity`, if there is one.
///
/// # Errors
/// `INVALID_ARGUMENT` (`machine`), `MACHINE_EVICTED`.
pub async fn expel(
    connection: &mut PgConnection,
    context: Context,
    named: &MachineRef,
    how: Expulsion,
    now: OffsetDateTime,
) -> Result<(Machine, Option<ChangeBody>)> {
    let (act, action) = match how {
        Expulsion::Ban => (Act::Ban, "machine.ban"),
        Expulsion::Evict => (Act::Evict, "machine.evict"),
    };
    let entry = |machine: &Machine| Entry::ok(context, action, machine.id.to_string());
    undergo(connection, named, &act, now, entry).await
}

async fn undergo(
    connection: &mut PgConnection,
    named: &MachineRef,
    act: &Act,
    now: OffsetDateTime,
    entry: impl FnOnce(&Machine) -> Entry,
) -> Result<(Machine, Option<ChangeBody>)> {
    let found = store::machine_named_for_update(connection, named).await?;
    let mut machine = found.ok_or_else(|| named.unknown())?;
    let changed = machine.undergo(act)?;
    if changed {
        store::update_machine(connection, &machine).await?;
    }
    audit::append(connection, now, &[entry(&machine)]).await?;
    let change = changed.then(|| ChangeBody::MachineChanged {
        machine_id: machine.id,
        state: machine.state.as_str().to_owned(),
    });
    Ok((machine, change))
}

async fn tell(
    connection: &mut PgConnection,
    now: OffsetDateTime,
    change: Option<ChangeBody>,
) -> Result<()> {
    if let Some(change) = change {
        events::append(connection, Stream::Identity, now, &[change]).await?;
    }
    Ok(())
}
