//! Edges that are killed, and disks that are older than they should be.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::json;

use super::{Site, open};

/// Writes at once, in each test.
const WRITERS: usize = 8;

#[tokio::test]
async fn every_acknowledged_write_outlives_kills_and_reaches_the_others() {
    let (control_plane, api_key) = open().await;
    let mut a = Site::start(&control_plane, "a", &api_key).await;
    let b = Site::start(&control_plane, "b", &api_key).await;
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    for round in 0..3 {
        let is_over = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (client, acknowledged) = (a.client.clone(), acknowledged.clone());
                let is_over = is_over.clone();
                tokio::spawn(async move {
                    for number in 0.. {
                        if is_over.load(Ordering::Relaxed) {
                            return;
                        }
                        let key = format!("{round}/{writer}/{number}");
                        let write = json!({"key": key, "value": number});
                        let sent = client.post("blackboard_write").json(&write).send().await;
                        if sent.is_ok_and(|answer| answer.status().is_success()) {
                            acknowledged.lock().unwrap().push((key, number));
                        }
                    }
                })
            })
            .collect();
        let enough = (round + 1) * 150;
        crate::wait::until("much is written", || {
            acknowledged.lock().unwrap().len() >= enough
        })
        .await;
        // the last time nobody hears of what is written before it is killed
        if round == 2 {
            a.cut();
            let more = acknowledged.lock().unwrap().len() + 100;
            crate::wait::until("more is written", || {
                acknowledged.lock().unwrap().len() >= more
            })
            .await;
        }
        let killed = a.edge.kill().await;
        is_over.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.await.unwrap();
        }
        a.way.mend();
        a.edge = killed.run_again().await;
        a.client = a.edge.client(&api_key);
    }
    let acknowledged = acknowledged.lock().unwrap().clone();
    let (last, _) = acknowledged.last().unwrap();
    let arrived = async || b.value(last).await.is_some();
    crate::wait::until_async("the last one has arrived", arrived).await;
    for (key, number) in acknowledged {
        for site in [&a, &b] {
            assert_eq!(site.value(&key).await, Some(json!(number)), "{key}");
        }
    }
}

fn file(site: &Site) -> PathBuf {
    site.edge.dir.path().join("replica.redb")
}

#[tokio::test]
async fn a_disk_that_is_put_back_harms_nobody() {
    let (control_plane, api_key) = open().await;
    let mut a = Site::start(&control_plane, "a", &api_key).await;
    let b = Site::start(&control_plane, "b", &api_key).await;
    a.write("kept", json!("old")).await;
    a.write("deleted", json!("old")).await;
    b.comes_to("deleted", Some(json!("old"))).await;
    // a copy of the disk, as of a backup
    let path = file(&a);
    let copy = path.with_extension("copy");
    let killed = a.edge.kill().await;
    std::fs::copy(&path, &copy).unwrap();
    a.edge = killed.run_again().await;
    a.client = a.edge.client(&api_key);
    // what the copy does not know, has been handed over or not
    a.write("kept", json!("new")).await;
    a.write("later", json!(1)).await;
    a.delete("deleted").await;
    b.comes_to("deleted", None).await;
    let killed = a.edge.kill().await;
    std::fs::rename(&copy, &path).unwrap();
    a.edge = killed.run_again().await;
    a.client = a.edge.client(&api_key);
    a.comes_to("later", Some(json!(1))).await;
    a.comes_to("deleted", None).await;
    a.comes_to("kept", Some(json!("new"))).await;
    let written = a.write("kept", json!("newest")).await;
    b.comes_to("kept", Some(json!("newest"))).await;
    assert_eq!(b.value("deleted").await, None);
    assert_eq!(b.read("kept").await.unwrap()["siblings"], 1);
    let clock = written["vector_clock"].as_object().unwrap();
    assert!(
        clock.keys().any(|actor| !actor.ends_with(".1")),
        "{clock:?}"
    );
}
