//! Rules: Cedar policies with their annotations understood.

use std::collections::HashSet;

use authguardian_proto::reason::Reason;
use cedar_policy::{
    Effect, EntityUid, ParseError, Policy, PolicyId, PrincipalConstraint, ResourceConstraint,
};
use miette::Diagnostic;

use super::{nesting, obligations::Obligations};

/// Ids that begin with this belong to the rules that no upload can change.
pub(super) const BUILT_IN_PREFIX: &str = "builtin-";

/// One policy of a set.
#[derive(Debug)]
pub(super) struct Rule {
    /// `@id`: its name in decisions.
    pub(super) id: String,
    /// `@reason`: what a denied caller is told, by a forbid when it applies,
    /// by a permit when no permit does.
    pub(super) reason: Option<Reason>,
    /// What a permit asks in return.
    pub(super) obligations: Obligations,
    /// The policy under its `@id`.
    pub(super) policy: Policy,
}

/// Reads a set's text, in the order of the text.
///
/// # Errors
/// With every finding: syntax, templates, ids that are missing or given twice,
/// annotations that are unknown or malformed.
pub(super) fn parse(source: &str) -> Result<Vec<Rule>, Vec<String>> {
    nesting::check(source).map_err(|finding| vec![finding])?;
    let set: cedar_policy::PolicySet =
        source
            .parse()
            .map_err(|errors: cedar_policy::ParseErrors| {
                errors
                    .iter()
                    .map(|error| syntax_finding(source, error))
                    .collect::<Vec<_>>()
            })?;
    let mut findings: Vec<String> = set
        .templates()
        .map(|_| "templates (`?principal`, `?resource`) are not supported".into())
        .collect();
    let mut rules = Vec::new();
    let mut ids = HashSet::new();
    for (position, policy) in set.policies().enumerate() {
        match Rule::read(policy) {
            Ok(rule) if !ids.insert(rule.id.clone()) => {
                findings.push(format!("`@id(\"{}\")` is given twice", rule.id));
            }
            Ok(rule) => rules.push(rule),
            Err(found) => {
                let name = policy.annotation("id").map_or_else(
                    || format!("policy {}", position + 1),
                    |id| format!("policy `{id}`"),
                );
                findings.extend(
                    found
                        .into_iter()
                        .map(|finding| format!("{name}: {finding}")),
                );
            }
        }
    }
    if findings.is_empty() {
        Ok(rules)
    } else {
        Err(findings)
    }
}

impl Rule {
    fn read(policy: &Policy) -> Result<Self, Vec<String>> {
        let mut findings = Vec::new();
        let mut obligations = Obligations::default();
        let (mut id, mut reason) = (None, None);
        for (name, value) in policy.annotations() {
            match name {
                "id" if is_rule_id(value) => id = Some(value.to_owned()),
                "id" => findings
                    .push("`@id` takes 1 to 128 characters of `A-Z a-z 0-9 _ - . : /`".to_owned()),
                "reason" => match Reason::parse(value) {
                    Some(known) => reason = Some(known),
                    None => findings.push(format!(
                        "`@reason` takes a reason code such as `POLICY_FORBIDS`, not `{value}`"
                    )),
                },
                "description" => {}
                _ => match obligations.annotate(name, value) {
                    Ok(()) if policy.effect() == Effect::Forbid => {
                        findings.push(format!(
                            "`@{name}` stands on a forbid; only permits have obligations"
                        ));
                    }
                    Ok(()) => {}
                    Err(error) => findings.push(error.to_string()),
                },
            }
        }
        if policy.annotation("id").is_none() {
            findings.push("`@id` is missing".to_owned());
        }
        match id {
            Some(id) if findings.is_empty() => Ok(Self {
                policy: policy.new_id(PolicyId::new(&id)),
                id,
                reason,
                obligations,
            }),
            _ => {
                findings.sort_unstable();
                Err(findings)
            }
        }
    }

    pub(super) fn is_permit(&self) -> bool {
        self.policy.effect() == Effect::Permit
    }

    /// Whether the policy's head fits a request, whatever its conditions say.
    pub(super) fn concerns(&self, agent: &EntityUid, resource_type: &EntityUid) -> bool {
        let principal_fits = match self.policy.principal_constraint() {
            PrincipalConstraint::Any | PrincipalConstraint::Is(_) => true,
            PrincipalConstraint::Eq(only)
            | PrincipalConstraint::In(only)
            | PrincipalConstraint::IsIn(_, only) => only == *agent,
        };
        let resource_fits = match self.policy.resource_constraint() {
            ResourceConstraint::Any | ResourceConstraint::Is(_) => true,
            ResourceConstraint::Eq(only)
            | ResourceConstraint::In(only)
            | ResourceConstraint::IsIn(_, only) => only == *resource_type,
        };
        principal_fits && resource_fits
    }
}

fn is_rule_id(id: &str) -> bool {
    (1..=128).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-.:/".contains(&b))
}

/// The error with its line and column, where the parser knows them.
fn syntax_finding(source: &str, error: &ParseError) -> String {
    let offset = error
        .labels()
        .and_then(|mut labels| labels.next())
        .map(|label| label.offset());
    match offset.and_then(|offset| source.get(..offset)) {
        Some(before) => {
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            format!("line {line}, column {column}: {error}")
        }
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = "(principal, action, resource);";

    fn findings(source: &str) -> Vec<String> {
        parse(source).unwrap_err()
    }

    #[test]
    fn rules_keep_the_order_of_the_text() {
        let policies: Vec<String> = (0..20)
            .rev()
            .map(|n| format!("@id(\"r{n}\") permit {BODY}"))
            .collect();
        let source = policies.join("\n");
        let ids: Vec<String> = parse(&source)
            .unwrap()
            .into_iter()
            .map(|rule| rule.id)
            .collect();
        assert_eq!(
            ids,
            (0..20).rev().map(|n| format!("r{n}")).collect::<Vec<_>>()
        );
    }

    #[test]
    fn every_annotation_is_understood() {
        let source = format!(
            "@id(\"a\") @description(\"any text\") @reason(\"SCORE_TOO_LOW\") @require_approval @ttl(\"60s\") \
             @max_staleness(\"1s\") @restrictions(\"read_only\") permit {BODY}"
        );
        let [rule] = <[Rule; 1]>::try_from(parse(&source).unwrap()).unwrap();
        assert_eq!(
            (rule.id.as_str(), rule.reason),
            ("a", Some(Reason::ScoreTooLow))
        );
        assert!(rule.is_permit() && rule.obligations.require_approval);
        assert_eq!(rule.obligations.ttl.unwrap().as_secs(), 60);
        assert_eq!(rule.obligations.max_staleness.as_secs(), 1);
        assert!(rule.obligations.restrictions.contains("read_only"));
    }

    #[test]
    fn an_id_is_required() {
        assert_eq!(
            findings(&format!("permit {BODY}")),
            ["policy 1: `@id` is missing"]
        );
        assert_eq!(findings(&format!("@id permit {BODY}")).len(), 1);
        assert_eq!(findings(&format!("@id(\"a b\") permit {BODY}")).len(), 1);
    }

    #[test]
    fn an_id_may_not_be_given_twice() {
        let source =
            format!("@id(\"a\") permit {BODY} @id(\"b\") permit {BODY} @id(\"a\") forbid {BODY}");
        assert_eq!(findings(&source), ["`@id(\"a\")` is given twice"]);
    }

    #[test]
    fn an_unknown_annotation_is_refused() {
        assert_eq!(
            findings(&format!("@id(\"a\") @tll(\"5\") permit {BODY}")),
            ["policy `a`: unknown annotation `@tll`"]
        );
    }

    #[test]
    fn malformed_annotations_are_refused_each() {
        for annotation in [
            "@require_approval(\"no\")",
            "@ttl",
            "@ttl(\"soon\")",
            "@max_staleness(\"61s\")",
            "@restrictions",
            "@restrictions(\"a b\")",
            "@reason",
            "@reason(\"BECAUSE\")",
        ] {
            assert_eq!(
                findings(&format!("@id(\"a\") {annotation} permit {BODY}")).len(),
                1,
                "`{annotation}`"
            );
        }
    }

    #[test]
    fn a_forbid_has_no_obligations() {
        for annotation in [
            "@require_approval",
            "@ttl(\"5\")",
            "@max_staleness(\"5\")",
            "@restrictions(\"a\")",
        ] {
            let found = findings(&format!("@id(\"a\") {annotation} forbid {BODY}"));
            assert!(
                found[0].contains("only permits have obligations"),
                "{found:?}"
            );
        }
    }

    #[test]
    fn every_finding_is_told() {
        let source = format!("@ttl(\"x\") @foo permit {BODY} @id(\"b\") @bar forbid {BODY}");
        assert_eq!(findings(&source).len(), 4);
    }

    #[test]
    fn templates_are_refused() {
        let found = findings("@id(\"a\") permit (principal == ?principal, action, resource);");
        assert!(found[0].contains("templates"), "{found:?}");
    }

    #[test]
    fn syntax_errors_name_their_place() {
        let found = findings(&format!(
            "@id(\"a\") permit {BODY}\n  permit (principal, nonsense, resource);"
        ));
        assert!(found[0].starts_with("line 2, column "), "{found:?}");
        assert!(!findings("permit (").is_empty());
    }
}
