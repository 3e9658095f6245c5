//! Lists of agents that may do something: ids, or [`EVERYBODY`].

use std::collections::HashSet;

use crate::ids::AgentId;

/// Stands for every agent.
pub const EVERYBODY: &str = "*";

/// Most that one list has.
pub const MAX: usize = 1000;

/// Whether a list lets an agent.
pub fn lets(list: &[String], agent: &AgentId) -> bool {
    let mut list = list.iter();
    list.any(|one| one == EVERYBODY || one == agent.as_str())
}

/// Checks a list that somebody has written.
///
/// # Errors
/// What was expected.
pub fn check(list: &[String]) -> Result<(), String> {
    let distinct: HashSet<_> = list.iter().collect();
    let good = |one: &String| one == EVERYBODY || one.parse::<AgentId>().is_ok();
    if list.len() <= MAX && distinct.len() == list.len() && list.iter().all(good) {
        return Ok(());
    }
    Err(format!(
        "expected at most {MAX} different agent ids, or `{EVERYBODY}` for every agent"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list<const N: usize>(agents: [&str; N]) -> Vec<String> {
        agents.map(str::to_owned).to_vec()
    }

    #[test]
    fn a_list_lets_those_that_it_names_or_everybody() {
        let [scout, other] = ["scout", "other"].map(|id| id.parse().expect("an id"));
        assert!(lets(&list(["scout"]), &scout) && !lets(&list(["scout"]), &other));
        assert!(lets(&list(["*"]), &other) && !lets(&[], &other));
    }

    #[test]
    fn a_list_has_ids_each_once_and_not_too_many() {
        assert_eq!(check(&list(["scout", "*"])), Ok(()));
        assert_eq!(check(&[]), Ok(()));
        for bad in [list(["no agent"]), list(["a", "a"])] {
            assert!(check(&bad).is_err(), "{bad:?}");
        }
        let many: Vec<String> = (0..=MAX).map(|number| format!("a{number}")).collect();
        assert!(check(&many).is_err());
    }
}
