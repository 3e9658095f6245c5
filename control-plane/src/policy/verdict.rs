//! What a set of policies said about a request, and the sentence that tells
//! the caller what to do about it.

use authguardian_proto::reason::Reason;

use super::{facts::Facts, obligations::Obligations, score::Score};

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A permit applies and no forbid does.
    Granted,
    /// Anything else.
    Denied,
}

/// An explained decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What became of the request.
    pub outcome: Outcome,
    /// Why it was denied: each reason once, those of built-in rules first,
    /// then in the order of the policies. Empty when granted.
    pub reasons: Vec<Reason>,
    /// `@id`s of the rules that determined the outcome, in the same order.
    /// Where no rule applied: of the permits that might have.
    pub policy_ids: Vec<String>,
    /// What the determining permits ask in return, together; the default for
    /// a denial by other rules.
    pub obligations: Obligations,
    /// One sentence for people.
    pub detail: String,
}

impl Verdict {
    pub(super) fn granted(
        facts: &Facts,
        policy_ids: Vec<String>,
        obligations: Obligations,
    ) -> Self {
        let detail = format!("granted with a score of {}", facts.score.total);
        Self {
            outcome: Outcome::Granted,
            reasons: Vec::new(),
            policy_ids,
            obligations,
            detail,
        }
    }

    /// `reasons` may repeat; without any it is `POLICY_FORBIDS`.
    pub(super) fn denied(
        facts: &Facts,
        reasons: impl IntoIterator<Item = Reason>,
        policy_ids: Vec<String>,
    ) -> Self {
        let mut told = Vec::new();
        for reason in reasons {
            if !told.contains(&reason) {
                told.push(reason);
            }
        }
        if told.is_empty() {
            told.push(Reason::PolicyForbids);
        }
        let detail = told
            .iter()
            .map(|reason| explain(*reason, facts))
            .collect::<Vec<_>>()
            .join("; ");
        Self {
            outcome: Outcome::Denied,
            reasons: told,
            policy_ids,
            obligations: Obligations::default(),
            detail,
        }
    }

    /// Whether a token may be issued.
    pub fn is_granted(&self) -> bool {
        self.outcome == Outcome::Granted
    }
}

/// What the caller can do about a reason. Thresholds are the policies' own
/// affair, so that only the figure itself is told.
fn explain(reason: Reason, facts: &Facts) -> String {
    let Score {
        total,
        justification,
        trust,
        risk,
    } = facts.score;
    match reason {
        Reason::JustificationRejected => format!(
            "the justification scores {justification}: say what the task is and what exactly it needs"
        ),
        Reason::TrustTooLow if !facts.agent_known => {
            format!(
                "agent `{}` has no record, so that its trust is {trust}",
                facts.agent_id
            )
        }
        Reason::TrustTooLow => format!(
            "effective trust is {trust}: the smaller of the agent's {} and the limit {} of zone `{}`",
            facts.agent_trust,
            facts.zone.trust_limit(),
            facts.zone.as_str()
        ),
        Reason::RiskTooHigh => {
            format!("the risk is {risk}: ask for a narrow scope that only reads")
        }
        Reason::ScopeTooBroad => match &facts.scope {
            Some(scope) => format!("scope `{scope}` is too broad: name what exactly you need"),
            None => "no scope counts as a broad one: name what exactly you need".to_owned(),
        },
        Reason::ScoreTooLow => format!(
            "the score is {total} (justification {justification}, trust {trust}, risk {risk}): \
             justify better, or ask for less"
        ),
        Reason::ZoneForbids => {
            format!(
                "zone `{}` does not allow what was asked: name a scope that only reads",
                facts.zone.as_str()
            )
        }
        Reason::Suspended => {
            "an operator has suspended the agent, its machine, this resource type or everything: \
             ask again when it is lifted"
                .to_owned()
        }
        Reason::ApprovalUnavailable => {
            "a person would have to approve this, which is not possible yet".to_owned()
        }
        Reason::PolicyForbids => "the policies in force do not allow it".to_owned(),
        other => format!("the policies in force refuse it with `{other}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::facts::tests::Example, *};

    #[test]
    fn reasons_are_told_once_and_in_order() {
        let facts = Example::default().facts();
        let reasons = [
            Reason::RiskTooHigh,
            Reason::ScopeTooBroad,
            Reason::RiskTooHigh,
        ];
        let verdict = Verdict::denied(&facts, reasons, vec!["a".into()]);
        assert_eq!(
            verdict.reasons,
            [Reason::RiskTooHigh, Reason::ScopeTooBroad]
        );
        assert_eq!(
            verdict.detail,
            "the risk is 700: ask for a narrow scope that only reads; \
             no scope counts as a broad one: name what exactly you need"
        );
    }

    #[test]
    fn a_denial_without_a_reason_says_that_policy_forbids() {
        let verdict = Verdict::denied(&Example::default().facts(), [], Vec::new());
        assert_eq!(verdict.reasons, [Reason::PolicyForbids]);
        assert!(!verdict.is_granted());
    }

    #[test]
    fn every_reason_has_a_sentence() {
        let facts = Example {
            agent_trust: None,
            scope: Some("*"),
            ..Example::default()
        }
        .facts();
        for reason in Reason::ALL {
            let sentence = explain(*reason, &facts);
            assert!(
                !sentence.is_empty() && !sentence.ends_with('.') && !sentence.contains('\n'),
                "{sentence}"
            );
        }
        assert!(explain(Reason::TrustTooLow, &facts).contains("no record"));
        assert!(explain(Reason::ScopeTooBroad, &facts).contains("`*`"));
    }
}
