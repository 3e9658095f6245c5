//! Budgets, on a real PostgreSQL.

mod children;
mod exchanges;
mod holds;
mod ledger;
mod operators;
mod windows;

use authguardian_proto::{
    ids::{MachineId, TaskId},
    reason::Reason,
};
use control_plane::{
    budgets::{
        Answer, Ask, Budget, Exchange, Memory, NewBudget, NoSlice, Report, Terms, Told, View,
        Window,
    },
    error::Result,
    identity,
};

use crate::{
    records::request,
    rig::{Rig, admin},
};

pub(crate) fn task(text: &str) -> TaskId {
    text.parse().unwrap()
}

/// Ten thousand tokens for everybody, for ever.
pub(crate) fn terms() -> Terms {
    Terms {
        unit: "tokens".to_owned(),
        total: 10_000,
        parent: None,
        window: Window::None,
        carries_over: false,
        thresholds: Vec::new(),
        owner: String::new(),
        spenders: Vec::new(),
    }
}

/// A machine that tells what it is made to tell.
pub(crate) struct Machine {
    pub(crate) id: MachineId,
    pub(crate) sequence: i64,
    pub(crate) journal: i64,
}

impl Rig {
    pub(crate) async fn budget(&self, name: &str, terms: Terms) -> Budget {
        let new = NewBudget {
            task: task(name),
            terms,
        };
        self.app.budgets.create(admin(), new).await.unwrap()
    }

    pub(crate) async fn spender(&self, name: &str) -> Machine {
        self.spender_for(name, identity::Terms::default()).await
    }

    pub(crate) async fn spender_for(&self, name: &str, terms: identity::Terms) -> Machine {
        Machine {
            id: self.machine_for(name, terms).await,
            sequence: 0,
            journal: 7,
        }
    }

    pub(crate) async fn view(&self, name: &str) -> View {
        self.app.budgets.get(&task(name)).await.unwrap()
    }

    pub(crate) async fn tell(
        &self,
        machine: &mut Machine,
        reports: Vec<(&str, Report)>,
    ) -> Result<Vec<Told>> {
        machine.sequence += 1;
        let exchange = Exchange {
            machine: machine.id,
            incarnation: 1,
            sequence: machine.sequence,
            journal: machine.journal,
            reports: reports
                .into_iter()
                .map(|(name, report)| (task(name), report))
                .collect(),
            complete: false,
            memory: Memory::default(),
        };
        Ok(self.app.budgets.exchange(exchange).await?.slices)
    }

    /// Tells of one slice.
    pub(crate) async fn told(
        &self,
        machine: &mut Machine,
        name: &str,
        report: Report,
    ) -> std::result::Result<Answer, NoSlice> {
        let mut told = self.tell(machine, vec![(name, report)]).await.unwrap();
        told.remove(0).slice.map(|(_, answer)| answer)
    }

    /// A slice of so much.
    pub(crate) async fn slice(&self, machine: &mut Machine, name: &str, needed: u64) -> Answer {
        self.told(machine, name, needs(needed)).await.unwrap()
    }

    /// The leases of all slices have ended some time ago.
    pub(crate) async fn leases_end(&self) {
        let ended = "UPDATE budget_slice
                     SET leased_until = clock_timestamp() - interval '1 second', heard_at = clock_timestamp() - interval '1 hour'";
        sqlx::query(ended)
            .execute(self.database.pool())
            .await
            .unwrap();
    }

    /// `kind amount` of a budget's movements, the oldest first.
    pub(crate) async fn moved(&self, name: &str) -> Vec<String> {
        let (_, movements) = self
            .app
            .budgets
            .movements(&task(name), None, 1000)
            .await
            .unwrap();
        let told = movements.iter().rev();
        told.map(|one| format!("{} {}", one.movement.kind.as_str(), one.movement.amount))
            .collect()
    }

    /// What slices and children come to is what the account says.
    pub(crate) async fn adds_up(&self, name: &str) {
        let sums: (i64, i64, i64) = sqlx::query_as(
            "SELECT COALESCE(sum(reported), 0)::bigint, COALESCE(sum(GREATEST(reported + returned - granted, 0)), 0)::bigint,
                    COALESCE(sum(GREATEST(granted - returned - reported, 0)), 0)::bigint
             FROM budget_slice WHERE task_id = $1",
        )
        .bind(name)
        .fetch_one(self.database.pool())
        .await
        .unwrap();
        let account = self.view(name).await.account;
        let held = (account.reported, account.overdraft, account.outstanding);
        assert_eq!(
            (
                sums.0.unsigned_abs(),
                sums.1.unsigned_abs(),
                sums.2.unsigned_abs()
            ),
            held
        );
    }
}

/// Asks for a slice of so much.
pub(crate) fn needs(needed: u64) -> Report {
    Report {
        ask: Ask { wanted: 0, needed },
        ..Report::default()
    }
}

/// So much was spent of a slice.
pub(crate) fn spent(of: &Answer, spent: u64) -> Report {
    Report {
        epoch: of.epoch,
        granted: of.granted,
        returned: of.returned,
        spent,
        ..Report::default()
    }
}

/// An admin's call, once.
pub(crate) fn once(id: &str) -> control_plane::audit::Context {
    request(id)
}

/// Why a call was refused.
pub(crate) fn why<T: std::fmt::Debug>(result: Result<T>) -> Reason {
    result.unwrap_err().reason()
}
