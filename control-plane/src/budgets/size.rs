//! How much a machine is given, and what is asked back from others for it.

use super::account::Amount;

/// What a machine asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ask {
    /// To be ahead of its callers.
    pub wanted: Amount,
    /// What its callers wait for now.
    pub needed: Amount,
}

/// How much of a rest a machine gets where so many machines spend from the budget, itself
/// included, and callers of the others wait for so much: what its own callers wait for;
/// beyond that what it wants, and no more than an equal share of what nobody waits for. So
/// a machine that is ahead of its callers never holds more than `rest / claimants` of what
/// was left when it asked.
pub(super) fn given(rest: Amount, ask: Ask, others_need: Amount, claimants: u64) -> Amount {
    let share = rest.saturating_sub(others_need).div_ceil(claimants.max(1));
    ask.wanted.min(share).max(ask.needed).min(rest)
}

/// What each of the others is asked to give back so that this much comes together: of those
/// that have most free first. `free`: what each has told to lie idle.
pub(super) fn asked_back(mut missing: Amount, free: &[Amount]) -> Vec<Amount> {
    let mut order: Vec<usize> = (0..free.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(free[*at]));
    let mut asked = vec![0; free.len()];
    for at in order {
        asked[at] = free[at].min(missing);
        missing -= asked[at];
    }
    asked
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn whoever_waits_comes_first_and_nobody_takes_all() {
        let ask = |wanted, needed| Ask { wanted, needed };
        assert_eq!(given(1000, ask(300, 0), 0, 2), 300);
        assert_eq!(given(1000, ask(800, 0), 0, 2), 500);
        assert_eq!(given(1000, ask(800, 0), 600, 2), 200);
        assert_eq!(given(1000, ask(800, 700), 600, 2), 700);
        assert_eq!(given(10, ask(800, 700), 0, 2), 10);
        assert_eq!(given(0, ask(1, 1), 0, 1), 0);
        assert_eq!(given(7, ask(0, 0), 0, 0), 0);
        assert_eq!(asked_back(10, &[3, 0, 9]), [1, 0, 9]);
        assert_eq!(asked_back(100, &[3, 0, 9]), [3, 0, 9]);
    }

    proptest! {
        #[test]
        fn no_more_is_given_than_there_is(rest in 0..1000_u64, wanted in 0..2000_u64, needed in 0..2000_u64, others in 0..2000_u64, claimants in 0..20_u64) {
            let given = given(rest, Ask { wanted, needed }, others, claimants);
            prop_assert!(given <= rest);
            prop_assert!(given <= needed.max(rest.div_ceil(claimants.max(1))));
            prop_assert!(given >= needed.min(rest));
        }

        #[test]
        fn as_much_is_asked_back_as_is_missing_or_free(missing in 0..1000_u64, free in proptest::collection::vec(0..300_u64, 0..8)) {
            let asked = asked_back(missing, &free);
            prop_assert!(asked.iter().zip(&free).all(|(asked, free)| asked <= free));
            let (asked, free): (u64, u64) = (asked.iter().sum(), free.iter().sum());
            prop_assert_eq!(asked, missing.min(free));
        }
    }
}
