//! Edges that were cut off for long, and come back in every order.

use std::collections::BTreeSet;

use authguardian_history::{
    check,
    eventual::{Fate, Merged, Write},
};
use futures::{StreamExt, stream};
use serde_json::json;

use super::{
    Site,
    merging::{replica, stamp},
    open,
};

/// Of each edge, all orders together.
const WRITES: usize = 10_000;
const KEYS: usize = 50;
const ORDERS: [[usize; 3]; 6] = [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
];

#[tokio::test]
async fn three_edges_come_to_the_same_in_whatever_order_they_come_back() {
    let (control_plane, api_key) = open().await;
    let mut sites = Vec::new();
    for machine in ["a", "b", "c"] {
        sites.push(Site::start(&control_plane, machine, &api_key).await);
    }
    let mut writes = Vec::new();
    for (round, order) in ORDERS.into_iter().enumerate() {
        for site in &sites {
            site.cut();
        }
        for (number, site) in sites.iter().enumerate() {
            writes.extend(write_many(site, round, number).await);
        }
        for at in order {
            sites[at].mend();
            // it has handed all over before the next one comes
            sites[at]
                .write(&format!("last of {at}"), json!(round))
                .await;
            let arrived = async || {
                let last = json!({"key": format!("last of {at}"), "consistency": "strong"});
                let (_, body) = sites[at].client.try_call("blackboard_read", last).await;
                body["value"] == round
            };
            crate::wait::until_async("all is handed over", arrived).await;
        }
        for site in &sites {
            for at in 0..sites.len() {
                site.comes_to(&format!("last of {at}"), Some(json!(round)))
                    .await;
            }
        }
    }
    let mut replicas = Vec::new();
    for (number, site) in sites.iter().enumerate() {
        let keys = (0..KEYS).map(|number| format!("k{number}"));
        replicas.push(replica(&site.client, &format!("{number}"), keys).await);
    }
    let siblings = replicas[0].keys.values().map(|key| key.versions.len());
    assert!(siblings.max().unwrap() > 1, "conflicts are told");
    let merged = Merged {
        writes,
        replicas,
        collected: BTreeSet::new(),
    };
    let report = check::convergence(&merged).unwrap_or_else(|violation| panic!("{violation}"));
    assert_eq!(report.unproven, 0, "{report:?}");
}

/// Writes to the same keys as the others, all at once.
async fn write_many(site: &Site, round: usize, number: usize) -> Vec<Write> {
    let calls = (0..WRITES / ORDERS.len()).map(|count| async move {
        let (start, key) = (site.since.elapsed(), format!("k{}", count % KEYS));
        let value = json!(format!("{round}-{number}-{count}"));
        let told = site.write(&key, value.clone()).await;
        Write {
            client: format!("{number}"),
            key,
            value: Some(value.to_string()),
            fate: Fate::Acknowledged,
            stamp: Some(stamp(&told)),
            start,
            end: Some(site.since.elapsed()),
            may_end: false,
        }
    });
    stream::iter(calls).buffer_unordered(16).collect().await
}
