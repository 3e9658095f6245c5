//! Whether replicas have the same.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    check::{Rule, Violation},
    eventual::{Dot, Replica, Version},
};

/// Compares all replicas with the first. Tombstones that are forgotten are
/// forgotten by some of them first.
///
/// # Errors
/// The key, the version and the two replicas of which only one has it.
pub(super) fn check(replicas: &[Replica], collected: &BTreeSet<Dot>) -> Result<(), Violation> {
    let Some((first, others)) = replicas.split_first() else {
        return Ok(());
    };
    for other in others {
        let keys: BTreeSet<&String> = first.keys.keys().chain(other.keys.keys()).collect();
        for key in keys {
            same_versions([first, other], key, collected)?;
            same_winner(first, other, key)?;
        }
    }
    Ok(())
}

fn same_versions(
    [first, other]: [&Replica; 2],
    key: &str,
    collected: &BTreeSet<Dot>,
) -> Result<(), Violation> {
    let (one, two) = (
        versions(first, key, collected),
        versions(other, key, collected),
    );
    let dots: BTreeSet<&Dot> = one.keys().chain(two.keys()).copied().collect();
    for dot in dots {
        let text = match (one.get(dot), two.get(dot)) {
            (Some(one), Some(two)) if one == two => continue,
            (Some(one), None) => format!(
                "replica {} has not in {key:?} what {} has: {one}",
                other.name, first.name
            ),
            (None, Some(two)) => format!(
                "replica {} has not in {key:?} what {} has: {two}",
                first.name, other.name
            ),
            (one, two) => {
                let text = format!(
                    "replicas {} and {} have {dot} in {key:?} each as another",
                    first.name, other.name
                );
                let both = [one, two].into_iter().flatten();
                return Err(Violation::new(Rule::DotTwice, text).with(both));
            }
        };
        let lines = [(first, &one), (other, &two)].map(|(replica, versions)| {
            let all: Vec<String> = versions.values().map(ToString::to_string).collect();
            format!("{}: [{}]", replica.name, all.join("; "))
        });
        return Err(Violation::new(Rule::Diverged, text).with(lines));
    }
    Ok(())
}

fn versions<'r>(
    replica: &'r Replica,
    key: &str,
    collected: &BTreeSet<Dot>,
) -> BTreeMap<&'r Dot, &'r Version> {
    let siblings = replica.keys.get(key).into_iter();
    let versions = siblings.flat_map(|siblings| &siblings.versions);
    versions
        .filter(|version| version.value.is_some() || !collected.contains(&version.dot))
        .map(|version| (&version.dot, version))
        .collect()
}

fn same_winner(first: &Replica, other: &Replica, key: &str) -> Result<(), Violation> {
    let told = |replica: &Replica| {
        let siblings = replica.keys.get(key);
        siblings.and_then(|siblings| siblings.winner.clone())
    };
    if told(first) == told(other) {
        return Ok(());
    }
    let text = format!("of the same versions of {key:?}, two replicas tell their readers others");
    let lines = [first, other].map(|replica| {
        let told = told(replica).unwrap_or("nothing".to_owned());
        format!("{}: {told}", replica.name)
    });
    Err(Violation::new(Rule::Winner, text).with(lines))
}
