//! Whether what the control planes have come to is what was acknowledged.

use std::collections::BTreeMap;

use authguardian_proto::ids::MachineId;
use control_plane::audit::Context;
use sqlx::{FromRow, PgConnection};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    tally::{Of, Tally},
    task,
    world::World,
};
use crate::wait::{DEADLINE, until_async};

/// A slice, as it is in the database.
#[derive(Debug, FromRow)]
struct Row {
    task_id: String,
    machine_id: Uuid,
    journal: i64,
    granted: i64,
    returned: i64,
    reported: i64,
    is_closed: bool,
}

/// What there is of a budget in all its windows, and what its slices and the budgets below
/// it come to.
#[derive(Debug, FromRow)]
struct Sums {
    task_id: String,
    reported: i64,
    overdraft: i64,
    outstanding: i64,
    slices_reported: i64,
    slices_overdraft: i64,
    slices_outstanding: i64,
    children_counted: i64,
    children_outstanding: i64,
}

/// By edge: its machine, and the journal that its disk has now.
type Machines = BTreeMap<usize, (MachineId, i64)>;

/// Waits until all was heard, and fails the test where it is not what it should be.
pub(super) async fn judge(world: &World, tally: &Tally) {
    tally.is_sound();
    let mut machines = Machines::new();
    for edge in 0..world.edges.len() {
        let machine = world.machine(edge).await;
        machines.insert(edge, (machine, world.journal(edge)));
    }
    all_is_told(world, tally, &machines).await;
    adds_up(world).await;
    what_disks_held_counts_as_spent(world, tally, &machines).await;
    close_children(world).await;
    // and it stays so
    all_is_told(world, tally, &machines).await;
    adds_up(world).await;
    tally.is_sound();
}

/// Waits until the control planes know of everything that was acknowledged, and of nothing
/// else.
async fn all_is_told(world: &World, tally: &Tally, machines: &Machines) {
    let began = Instant::now();
    loop {
        let differ = differences(tally, machines, &rows(world).await);
        if differ.is_empty() {
            return;
        }
        assert!(began.elapsed() < DEADLINE, "{differ:#?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// Where what was told of a disk that is there is not what was acknowledged.
fn differences(tally: &Tally, machines: &Machines, rows: &[Row]) -> Vec<String> {
    let spent = tally.spent();
    let mut differ = Vec::new();
    for (edge, (machine, journal)) in machines {
        let disk = tally.disk(*edge);
        for (number, task) in task::ALL.iter().enumerate() {
            let edge = *edge;
            let of = Of {
                edge,
                disk,
                task: number,
            };
            let acknowledged = spent.get(&of).copied().unwrap_or(0);
            let own = rows.iter().filter(|row| row.is_of(task.name, *machine));
            let own = own.filter(|row| row.journal == *journal);
            let reported: u64 = own.map(|row| row.reported.unsigned_abs()).sum();
            if reported != acknowledged {
                let name = task.name;
                differ.push(format!(
                    "{name} at edge {edge}: {acknowledged} acknowledged, {reported} reported"
                ));
            }
        }
    }
    differ
}

/// What a destroyed disk held is spent as far as the control planes go, and that covers
/// what was acknowledged there; operators may say so.
async fn what_disks_held_counts_as_spent(world: &World, tally: &Tally, machines: &Machines) {
    let spent = tally.spent();
    for edge in &world.destroyed {
        let (machine, journal) = machines[edge];
        for (number, task) in task::ALL.iter().enumerate() {
            let of = Of {
                edge: *edge,
                disk: 0,
                task: number,
            };
            let acknowledged = spent.get(&of).copied().unwrap_or(0);
            let rows = rows(world).await;
            let lost = rows.iter().filter(|row| row.is_of(task.name, machine));
            let lost: Vec<&Row> = lost.filter(|row| row.journal != journal).collect();
            let counted: u64 = lost
                .iter()
                .map(|row| row.reported() + row.outstanding())
                .sum();
            let name = task.name;
            // what was more than there was is nowhere else
            assert!(
                counted >= acknowledged || task.is_loose,
                "{name} at edge {edge}: {acknowledged} acknowledged, {counted} counted: {lost:#?}"
            );
            // of several windows it cannot be said
            let open = lost.iter().filter(|row| !row.is_closed);
            let [holding] = open.collect::<Vec<_>>()[..] else {
                continue;
            };
            let all = holding.reported() + holding.outstanding();
            let budgets = &world.app.budgets;
            let task = name.parse().unwrap();
            let settled = budgets.settle(Context::system(), task, machine, Some(all));
            let settled = settled.await.unwrap();
            assert_eq!((settled.released, settled.slice.slice.reported), (0, all));
        }
    }
}

/// Closes those that are taken from others: these count what was spent, and have the rest.
async fn close_children(world: &World) {
    for task in task::ALL.iter().filter(|task| task.parent.is_some()) {
        let budgets = &world.app.budgets;
        let closed = budgets.close(Context::system(), task.name.parse().unwrap());
        closed.await.unwrap();
        until_async("the parent has counted it", async || {
            let mut connection = world.app.db.read().await.unwrap();
            sqlx::query_scalar("SELECT is_released FROM budget WHERE task_id = $1")
                .bind(task.name)
                .fetch_one(&mut *connection)
                .await
                .unwrap()
        })
        .await;
    }
}

/// Every account is the sum of its slices and of what is taken from it, and within its total.
async fn adds_up(world: &World) {
    let mut connection = world.app.db.read().await.unwrap();
    for sums in sums(&mut connection).await {
        assert_eq!(
            (sums.reported, sums.overdraft, sums.outstanding),
            (
                sums.slices_reported + sums.children_counted,
                sums.slices_overdraft,
                sums.slices_outstanding + sums.children_outstanding
            ),
            "{sums:?}"
        );
        let is_loose = task::ALL[task::at(&sums.task_id)].is_loose;
        assert!(sums.overdraft == 0 || is_loose, "{sums:?}");
    }
}

async fn sums(connection: &mut PgConnection) -> Vec<Sums> {
    let query = sqlx::query_as(
        "WITH account AS (
             SELECT task_id, sum(reported)::bigint AS reported, sum(overdraft)::bigint AS overdraft,
                    sum(outstanding)::bigint AS outstanding
             FROM budget_account GROUP BY task_id
         ), slice AS (
             SELECT task_id, sum(reported)::bigint AS reported,
                    sum(GREATEST(reported + returned - granted, 0))::bigint AS overdraft,
                    sum(GREATEST(granted - returned - reported, 0))::bigint AS outstanding
             FROM budget_slice GROUP BY task_id
         ), child AS (
             SELECT parent AS task_id, sum(counted)::bigint AS counted,
                    sum(CASE WHEN is_released THEN 0 ELSE total - counted END)::bigint AS outstanding
             FROM budget WHERE parent IS NOT NULL GROUP BY parent
         )
         SELECT task_id, account.reported, account.overdraft, account.outstanding,
                COALESCE(slice.reported, 0) AS slices_reported,
                COALESCE(slice.overdraft, 0) AS slices_overdraft,
                COALESCE(slice.outstanding, 0) AS slices_outstanding,
                COALESCE(child.counted, 0) AS children_counted,
                COALESCE(child.outstanding, 0) AS children_outstanding
         FROM account LEFT JOIN slice USING (task_id) LEFT JOIN child USING (task_id)",
    );
    query.fetch_all(connection).await.unwrap()
}

async fn rows(world: &World) -> Vec<Row> {
    let mut connection = world.app.db.read().await.unwrap();
    sqlx::query_as(
        "SELECT task_id, machine_id, journal, granted, returned, reported, is_closed FROM budget_slice",
    )
    .fetch_all(&mut *connection)
    .await
    .unwrap()
}

impl Row {
    fn is_of(&self, task: &str, machine: MachineId) -> bool {
        self.task_id == task && self.machine_id == machine.as_uuid()
    }

    fn reported(&self) -> u64 {
        self.reported.unsigned_abs()
    }

    /// What it holds and was not told of.
    fn outstanding(&self) -> u64 {
        let held = self.granted - self.returned - self.reported;
        if self.is_closed {
            0
        } else {
            held.max(0).unsigned_abs()
        }
    }
}
