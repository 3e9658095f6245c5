//! Locks and their fencing revisions.

use authguardian_proto::reason::Reason;
use control_plane::blackboard::{Act, Deed, LockAct, LockHeld, Ttl};

use super::{acquire, delete, json, key, lock_of, write};
use crate::rig::Rig;

fn renew(fencing: Option<i64>) -> Act {
    Act::Lock {
        key: key("l"),
        act: LockAct::Renew {
            ttl: Ttl::of_lock("ttl_seconds", 60).unwrap(),
            fencing,
        },
    }
}

fn release(fencing: Option<i64>) -> Act {
    Act::Lock {
        key: key("l"),
        act: LockAct::Release { fencing },
    }
}

/// A write that only the holder of lock `l` may do.
fn fenced(value: &str, fencing_revision: i64) -> Act {
    Act::Deed {
        key: key("data"),
        deed: Deed::Put {
            value: json(value),
            ttl: None,
        },
        if_revision: None,
        if_lock: Some(LockHeld {
            key: key("l"),
            fencing_revision,
        }),
    }
}

/// Lets what is in a key be over, as if its time had gone by.
async fn let_time_go_by(rig: &Rig) {
    sqlx::query("UPDATE board_entry SET expires_at = now() - interval '1 hour' WHERE key = 'l'")
        .execute(rig.database.pool())
        .await
        .unwrap();
}

#[tokio::test]
async fn one_holder_at_a_time_not_even_twice_by_the_same_agent() {
    let rig = Rig::open().await;
    let (one, two) = (rig.analyst().await, rig.agent("scout", 800).await);
    let taken = rig.write(&one, "strong", acquire("l", 60)).await.unwrap();
    assert_eq!(lock_of(&taken), (true, 1, "agent:data_analyst"));
    for session in [&one, &two] {
        let refused = rig
            .write(session, "strong", acquire("l", 60))
            .await
            .unwrap();
        assert_eq!(lock_of(&refused), (false, 1, "agent:data_analyst"));
    }
    let kept = rig.write(&one, "strong", renew(Some(1))).await.unwrap();
    assert_eq!(lock_of(&kept), (true, 1, "agent:data_analyst"));
    for (session, act) in [
        (&two, renew(None)),
        (&two, release(None)),
        (&one, renew(Some(7))),
        (&one, release(Some(7))),
    ] {
        let refused = rig.write(session, "strong", act).await.unwrap();
        assert!(!lock_of(&refused).0);
        assert_eq!(lock_of(&refused).1, 1, "it is held as before");
    }
    let left = rig.write(&one, "strong", release(Some(1))).await.unwrap();
    assert_eq!(lock_of(&left), (false, 1, ""));
    let taken = rig.write(&two, "strong", acquire("l", 60)).await.unwrap();
    assert!(lock_of(&taken).0 && lock_of(&taken).1 > 1);
}

#[tokio::test]
async fn a_late_holder_is_fenced() {
    let rig = Rig::open().await;
    let (late, next) = (rig.analyst().await, rig.agent("scout", 800).await);
    let taken = rig.write(&late, "strong", acquire("l", 60)).await.unwrap();
    let fencing = lock_of(&taken).1;
    rig.write(&late, "strong", fenced("1", fencing))
        .await
        .unwrap();
    let_time_go_by(&rig).await;
    let over = rig.write(&late, "strong", fenced("2", fencing)).await;
    assert_eq!(over.unwrap_err().reason(), Reason::RevisionConflict);
    let taken = rig.write(&next, "strong", acquire("l", 60)).await.unwrap();
    let newer = lock_of(&taken).1;
    assert!(lock_of(&taken).0 && newer > fencing);
    for (session, revision) in [(&late, fencing), (&late, newer), (&next, fencing)] {
        let refused = rig.write(session, "strong", fenced("3", revision)).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.reason(), Reason::RevisionConflict);
        assert_eq!(refused.problem().field.as_deref(), Some("if_lock"));
    }
    rig.write(&next, "strong", fenced("4", newer))
        .await
        .unwrap();
    let lost = rig
        .write(&late, "strong", renew(Some(fencing)))
        .await
        .unwrap();
    assert_eq!(lock_of(&lost), (false, newer, "agent:scout"));
}

#[tokio::test]
async fn a_lock_is_no_value_and_a_value_is_no_lock() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    rig.write(&session, "strong", acquire("l", 60))
        .await
        .unwrap();
    rig.write(&session, "strong", write("v", "1"))
        .await
        .unwrap();
    for act in [write("l", "1"), delete("l"), acquire("v", 60)] {
        let refused = rig.write(&session, "strong", act).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::RevisionConflict);
    }
    let read = rig.read(&session, "strong", "l").await.unwrap().entry;
    assert!(read.is_lock);
    assert_eq!(read.value.unwrap().as_str(), r#"{"holder":"data_analyst"}"#);
    for on in ["session", "eventual"] {
        let refused = rig.write(&session, on, acquire("l", 60)).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::UnsupportedForLevel);
    }
}

#[tokio::test]
async fn of_many_who_want_a_lock_one_gets_it() {
    let rig = Rig::open().await;
    let other = rig.beside().await;
    let session = rig.analyst().await;
    let tries = (0..20).map(|number| {
        let rig = if number % 2 == 0 { &rig } else { &other };
        rig.write(&session, "strong", acquire("l", 60))
    });
    let held = futures::future::join_all(tries).await;
    let held = held
        .iter()
        .filter(|tried| lock_of(tried.as_ref().unwrap()).0);
    assert_eq!(held.count(), 1);
}
