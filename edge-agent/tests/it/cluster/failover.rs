//! The cluster itself: it fails over, and nothing of it is left behind.

use std::path::Path;

use sqlx::{Connection, PgConnection};

use super::{Cluster, NODES, Process};

#[tokio::test]
async fn a_killed_primary_is_succeeded_and_comes_back_as_a_standby() {
    let cluster = Cluster::start().await;
    let place = cluster.dir.path().to_owned();
    let first = cluster.primary().await.unwrap();

    cluster.kill(Process::Postgres(first)).await;
    let second = cluster.until_primary_is_not(first).await;
    cluster.until_writes_are_confirmed(first).await;
    let mut connection = PgConnection::connect(&cluster.url_of(second))
        .await
        .unwrap();
    let writable = sqlx::query("CREATE TABLE seen AS SELECT 1").execute(&mut connection);
    writable.await.unwrap();
    assert_eq!(cluster.until_whole().await, second);

    drop(cluster);
    assert!(!place.exists());
    assert_eq!(processes_at(&place), Vec::<String>::new());
}

#[tokio::test]
async fn a_node_that_is_cut_off_is_succeeded_and_found_again() {
    let cluster = Cluster::start_with_network().await;
    let first = cluster.primary().await.unwrap();

    cluster.cut(first);
    let second = cluster.until_primary_is_not(first).await;
    cluster.mend(first);
    assert_eq!(cluster.until_whole().await, second);
}

#[tokio::test]
async fn any_process_can_be_stopped_killed_and_started_again() {
    let cluster = Cluster::start().await;
    let first = cluster.primary().await.unwrap();
    for process in [Process::Etcd(0), Process::Patroni(first)] {
        cluster.pause(process);
        cluster.resume(process);
        cluster.kill(process).await;
        cluster.start_again(process).await;
    }
    assert_eq!(cluster.until_whole().await, first);

    cluster.kill_node(first).await;
    let second = cluster.until_primary_is_not(first).await;
    cluster.start_again(Process::Patroni(first)).await;
    assert_eq!(cluster.until_whole().await, second);
}

#[tokio::test]
async fn what_ends_the_test_ends_the_cluster() {
    let mut cluster = Cluster::start().await;
    let place = cluster.dir.path().to_owned();
    // as the kernel does with the files of a killed process
    drop(cluster.script.stdin.take());
    cluster.script.wait().unwrap();
    assert_eq!(processes_at(&place), Vec::<String>::new());
    for node in 0..NODES {
        assert!(Process::Postgres(node).find(&place).is_empty());
    }
}

/// All that works in a directory, whether it still exists or not.
fn processes_at(place: &Path) -> Vec<String> {
    let all = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let places = all.filter_map(|entry| std::fs::read_link(entry.path().join("cwd")).ok());
    let within = places.filter(|at| at.starts_with(place));
    within.map(|at| at.display().to_string()).collect()
}
