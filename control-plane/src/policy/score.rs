//! The score of a request: 0.4·J + 0.3·T + 0.3·(1−R), in integers 0 to 1000
//! (Cedar has no floats, and figures in tests and documents are to be exact).

use authguardian_proto::zone::Zone;
use serde::{Deserialize, Serialize};

use super::scope::Reach;

/// The upper bound of every part and of the total.
pub const MAX: u32 = 1000;

/// Trust of an agent that nobody has put a record for.
pub const UNKNOWN_AGENT_TRUST: u32 = 300;

/// What a broad scope, and again what a writing one, adds to the risk.
pub const SCOPE_RISK: u32 = 200;

/// A score and what it was made of, each 0 to 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Score {
    /// 0.4 justification + 0.3 trust + 0.3 (1000 − risk), rounded down.
    pub total: u32,
    /// J: how well the request was justified.
    pub justification: u32,
    /// T: effective trust.
    pub trust: u32,
    /// R: base risk of the type and what the scope adds.
    pub risk: u32,
}

impl Score {
    /// Weighs J, T and R; each is cut to 1000.
    pub fn weigh(justification: u32, trust: u32, risk: u32) -> Self {
        let [justification, trust, risk] = [justification, trust, risk].map(|part| part.min(MAX));
        let total = (4 * justification + 3 * trust + 3 * (MAX - risk)) / 10;
        Self {
            total,
            justification,
            trust,
            risk,
        }
    }
}

/// T: the smaller of the agent's trust (`None`: it has no record) and what its
/// zone is trusted at most.
pub fn effective_trust(agent: Option<u32>, zone: Zone) -> u32 {
    agent.unwrap_or(UNKNOWN_AGENT_TRUST).min(zone.trust_limit())
}

/// R: the type's risk, and what the scope adds to it.
pub fn risk(base: u32, scope: Reach) -> u32 {
    let added = SCOPE_RISK * (u32::from(scope.broad) + u32::from(scope.writes));
    base.saturating_add(added).min(MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::justification::Justification, *};

    #[test]
    fn the_roadmaps_example_scores_570() {
        let justification = Justification::read("Q4 analysis task").score();
        let trust = effective_trust(Some(800), Zone::LocalMachine);
        let risk = risk(500, Reach::read(None));
        assert_eq!((justification, trust, risk), (600, 800, 700));
        assert_eq!(Score::weigh(justification, trust, risk).total, 570);
    }

    #[test]
    fn each_part_has_its_weight() {
        assert_eq!(Score::weigh(0, 0, 1000).total, 0);
        assert_eq!(Score::weigh(1000, 0, 1000).total, 400);
        assert_eq!(Score::weigh(0, 1000, 1000).total, 300);
        assert_eq!(Score::weigh(0, 0, 0).total, 300);
        assert_eq!(Score::weigh(1000, 1000, 0).total, 1000);
    }

    #[test]
    fn fractions_are_rounded_down() {
        assert_eq!(Score::weigh(0, 333, 1000).total, 99);
    }

    #[test]
    fn trust_is_the_smaller_of_agent_and_zone() {
        assert_eq!(effective_trust(Some(1000), Zone::LocalMachine), 900);
        assert_eq!(effective_trust(Some(1000), Zone::TrustedNetwork), 700);
        assert_eq!(effective_trust(Some(1000), Zone::External), 500);
        assert_eq!(effective_trust(Some(450), Zone::External), 450);
    }

    #[test]
    fn an_agent_without_a_record_is_trusted_300() {
        assert_eq!(effective_trust(None, Zone::LocalMachine), 300);
    }

    #[test]
    fn risk_grows_by_200_for_breadth_and_by_200_for_writing() {
        assert_eq!(
            risk(
                500,
                Reach {
                    broad: false,
                    writes: false
                }
            ),
            500
        );
        assert_eq!(
            risk(
                500,
                Reach {
                    broad: true,
                    writes: false
                }
            ),
            700
        );
        assert_eq!(
            risk(
                500,
                Reach {
                    broad: false,
                    writes: true
                }
            ),
            700
        );
        assert_eq!(
            risk(
                500,
                Reach {
                    broad: true,
                    writes: true
                }
            ),
            900
        );
        assert_eq!(
            risk(
                700,
                Reach {
                    broad: true,
                    writes: true
                }
            ),
            1000,
            "at most"
        );
    }

    proptest! {
        #[test]
        fn every_part_and_the_total_stay_within_bounds(j: u32, t: u32, r: u32) {
            let score = Score::weigh(j, t, r);
            for part in [score.total, score.justification, score.trust, score.risk] {
                prop_assert!(part <= MAX);
            }
        }

        #[test]
        fn more_trust_or_less_risk_never_lowers_the_score(j in 0..=1000u32, t in 0..1000u32, r in 1..=1000u32) {
            let score = Score::weigh(j, t, r).total;
            prop_assert!(Score::weigh(j, t + 1, r).total >= score);
            prop_assert!(Score::weigh(j, t, r - 1).total >= score);
        }

        #[test]
        fn risk_never_exceeds_1000(base: u32, broad: bool, writes: bool) {
            let risk = risk(base, Reach { broad, writes });
            prop_assert!(risk <= MAX);
        }
    }
}
