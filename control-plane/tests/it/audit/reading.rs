//! Finding entries, following them, and dropping their bodies.

use control_plane::audit::{
    self, Outcome, Tail,
    export::Leaf,
    retention,
    search::{Filter, search},
};

use super::{act, exported};
use crate::{
    records::{fault, request},
    rig::Rig,
};

async fn subjects(rig: &Rig, filter: Filter) -> Vec<String> {
    let mut found = Vec::new();
    let mut before = None;
    loop {
        let page = search(&rig.app.db, &filter, before, 7).await.unwrap();
        let Some(last) = page.last() else {
            return found;
        };
        before = Some(last.sequence);
        found.extend(page.into_iter().map(|record| record.subject));
    }
}

fn acts() -> Filter {
    Filter {
        action: Some("test.act".to_owned()),
        ..Filter::default()
    }
}

#[tokio::test]
async fn entries_are_found_by_everything_that_can_be_asked_for_sealed_or_not() {
    let rig = Rig::open().await;
    let machine = rig.machine("build-7").await;
    let agent = "data_analyst".parse().unwrap();
    rig.append((0..20).map(act)).await;
    rig.signed().await;
    let mut special = act(100);
    special.context.machine_id = Some(machine);
    rig.append([special.about(agent)]).await;
    let newest_first: Vec<String> = std::iter::once(100)
        .chain((0..20).rev())
        .map(|number: i64| number.to_string())
        .collect();
    assert_eq!(subjects(&rig, acts()).await, newest_first);
    let all = Filter {
        action: Some("test.*".to_owned()),
        ..Filter::default()
    };
    assert_eq!(subjects(&rig, all).await, newest_first);
    let by = |filter: Filter| subjects(&rig, filter);
    assert_eq!(
        by(Filter {
            machine_id: Some(machine),
            ..acts()
        })
        .await,
        ["100"]
    );
    assert_eq!(
        by(Filter {
            agent_ids: Some(vec!["data_analyst".parse().unwrap()]),
            ..acts()
        })
        .await,
        ["100"]
    );
    assert_eq!(
        by(Filter {
            agent_ids: Some(vec!["other".parse().unwrap()]),
            ..acts()
        })
        .await,
        [""; 0]
    );
    assert_eq!(
        by(Filter {
            outcome: Some(Outcome::Denied),
            ..acts()
        })
        .await,
        ["17", "10", "3"]
    );
    assert_eq!(
        by(Filter {
            subject: Some("12".to_owned()),
            ..acts()
        })
        .await,
        ["12"]
    );
    let now = rig.app.ambient.clock.now();
    let hour = time::Duration::hours(1);
    assert_eq!(
        by(Filter {
            since: Some(now + hour),
            ..acts()
        })
        .await,
        [""; 0]
    );
    assert_eq!(
        by(Filter {
            until: Some(now - hour),
            ..acts()
        })
        .await,
        [""; 0]
    );
    assert_eq!(
        by(Filter {
            since: Some(now - hour),
            until: Some(now + hour),
            ..acts()
        })
        .await
        .len(),
        21
    );
    assert_eq!(
        by(Filter {
            action: Some("test_act".to_owned()),
            ..Filter::default()
        })
        .await,
        [""; 0]
    );
}

#[tokio::test]
async fn a_tail_gives_each_entry_once_in_order_from_the_newest_lines_on() {
    let rig = Rig::open().await;
    rig.append((0..30).map(act)).await;
    rig.signed().await;
    let mut tail = Tail::begin(rig.app.db.clone(), 5).await.unwrap();
    let mut seen: Vec<String> = Vec::new();
    for part in 0..20 {
        rig.append((part * 100..part * 100 + 60).map(|number| act(number + 1000)))
            .await;
        seen.extend(
            tail.read()
                .await
                .unwrap()
                .into_iter()
                .map(|record| record.subject),
        );
    }
    rig.signed().await;
    loop {
        let more = tail.read().await.unwrap();
        if more.is_empty() {
            break;
        }
        seen.extend(more.into_iter().map(|record| record.subject));
    }
    let later = (0..20).flat_map(|part| (part * 100..part * 100 + 60).map(|number| number + 1000));
    let expected: Vec<String> = (25..30)
        .chain(later)
        .map(|number: i64| number.to_string())
        .collect();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn retention_drops_bodies_and_keeps_every_proof() {
    let rig = Rig::open().await;
    rig.append((0..300).map(act)).await;
    let (_, old) = rig.signed().await;
    rig.clock.advance(std::time::Duration::from_hours(24 * 10));
    rig.append((300..320).map(act)).await;
    rig.signed().await;
    let (db, ambient) = (&rig.app.db, &rig.app.ambient);
    assert_eq!(retention::days(db).await.unwrap(), 0);
    assert_eq!(retention::sweep(db, ambient).await.unwrap(), 0);
    let refused = fault(retention::set_days(db, ambient, request("a"), 36_501).await);
    assert_eq!(refused, ("INVALID_ARGUMENT".into(), "days".into()));
    assert_eq!(
        retention::set_days(db, ambient, request("b"), 7)
            .await
            .unwrap(),
        7
    );
    assert_eq!(
        retention::set_days(db, ambient, request("b"), 7)
            .await
            .unwrap(),
        7
    );
    assert!(
        retention::set_days(db, ambient, request("b"), 8)
            .await
            .is_err()
    );
    assert_eq!(retention::days(db).await.unwrap(), 7);

    while retention::sweep(db, ambient).await.unwrap() > 0 {}
    let (log, _) = rig.signed().await;
    assert_eq!(log.bodies_from, old.head.size);
    let (_, leaves) = exported(&rig, "").await;
    let dropped = leaves
        .iter()
        .filter(|leaf| matches!(leaf, Leaf::Dropped(_)))
        .count();
    assert_eq!(i64::try_from(dropped), Ok(old.head.size));
    assert_eq!(
        rig.verify(&old.note).await,
        [],
        "old checkpoints still hold"
    );
    let mut connection = db.read().await.unwrap();
    let proved = audit::proof::inclusion(&mut connection, "", 3)
        .await
        .unwrap();
    assert!(proved.record.is_none());
    authguardian_proto::merkle::verify_inclusion(
        &proved.path,
        proved.signed.head.of_tree(),
        3,
        proved.leaf_hash,
    )
    .unwrap();
    let told = subjects(
        &rig,
        Filter {
            action: Some("audit.*".to_owned()),
            ..Filter::default()
        },
    )
    .await;
    assert_eq!(told.last().map(String::as_str), Some("7 days"));
    assert!(
        told[0].ends_with(&format!(" 0 to {}", old.head.size - 1)),
        "{told:?}"
    );
    // what retention did not drop is still missed
    sqlx::query("DELETE FROM sealed_audit_entry WHERE index = $1")
        .bind(old.head.size)
        .execute(rig.database.pool())
        .await
        .unwrap();
    assert_eq!(rig.found().await, [("deleted", Some(old.head.size))]);
}

#[tokio::test]
async fn of_old_checkpoints_the_last_of_each_hour_is_kept() {
    let rig = Rig::open().await;
    let mut sizes = Vec::new();
    for hour in 0..2 {
        for number in 0..3 {
            rig.append([act(hour * 10 + number)]).await;
            sizes.push(rig.signed().await.1.head.size);
            rig.clock.advance(std::time::Duration::from_mins(2));
        }
        rig.clock.advance(std::time::Duration::from_mins(54));
    }
    let of_a_day: i64 = sqlx::query_scalar("SELECT count(*) FROM audit_checkpoint")
        .fetch_one(rig.database.pool())
        .await
        .unwrap();
    assert!(of_a_day >= 6);
    rig.clock.advance(std::time::Duration::from_hours(24));
    while retention::sweep(&rig.app.db, &rig.app.ambient)
        .await
        .unwrap()
        > 0
    {}
    let kept: Vec<i64> = sqlx::query_scalar("SELECT size FROM audit_checkpoint ORDER BY size")
        .fetch_all(rig.database.pool())
        .await
        .unwrap();
    assert_eq!(kept, [sizes[2], sizes[5]]);
    assert_eq!(rig.verify("").await, []);
}
