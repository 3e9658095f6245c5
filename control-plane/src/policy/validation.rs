//! Whether an upload may be put in force: syntax, annotations, and Cedar's
//! strict validation against the schema.

use std::sync::LazyLock;

use cedar_policy::{Schema, ValidationMode, Validator};

use super::rules::{self, BUILT_IN_PREFIX, Rule};

/// What policies can speak about, in Cedar's schema syntax.
pub const SCHEMA: &str = include_str!("authguardian.cedarschema");

/// Longest text of a policy set, in bytes.
pub const MAX_SOURCE_BYTES: usize = 1 << 20;

#[expect(
    clippy::expect_used,
    reason = "a shipped file; every test of this file parses it"
)]
static PARSED_SCHEMA: LazyLock<Schema> =
    LazyLock::new(|| SCHEMA.parse().expect("the schema is valid"));

/// What was found in an upload, one line each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Validation {
    /// Findings that refuse it.
    pub errors: Vec<String>,
    /// Findings that do not.
    pub warnings: Vec<String>,
}

impl Validation {
    /// Whether it may be put in force.
    pub fn is_valid(&self) -> bool {
        self.errors.is_empty()
    }

    fn refused(errors: &[String]) -> Self {
        Self {
            errors: errors.iter().map(|finding| one_line(finding)).collect(),
            warnings: Vec::new(),
        }
    }
}

/// Checks an upload as a whole. It may take a while for a large one: keep it
/// off the runtime's workers.
pub fn validate(source: &str) -> Validation {
    if source.len() > MAX_SOURCE_BYTES {
        return Validation::refused(&[format!(
            "the source has {} bytes, at most {MAX_SOURCE_BYTES} are taken",
            source.len()
        )]);
    }
    if source.contains('\0') {
        return Validation::refused(&[
            "the source has a NUL character, which the database cannot store".to_owned(),
        ]);
    }
    match rules::parse(source) {
        Ok(rules) => validate_rules(&rules),
        Err(findings) => Validation::refused(&findings),
    }
}

fn validate_rules(rules: &[Rule]) -> Validation {
    let reserved = rules
        .iter()
        .filter(|rule| rule.id.starts_with(BUILT_IN_PREFIX));
    let mut errors: Vec<String> = reserved
        .map(|rule| {
            format!(
                "`@id(\"{}\")`: ids in `{BUILT_IN_PREFIX}` are reserved",
                rule.id
            )
        })
        .collect();
    let policies = match cedar_policy::PolicySet::from_policies(
        rules.iter().map(|rule| rule.policy.clone()),
    ) {
        Ok(policies) => policies,
        Err(error) => return Validation::refused(&[error.to_string()]),
    };
    let result = Validator::new(PARSED_SCHEMA.clone()).validate(&policies, ValidationMode::Strict);
    errors.extend(
        result
            .validation_errors()
            .map(|error| one_line(&error.to_string())),
    );
    let mut warnings: Vec<String> = result
        .validation_warnings()
        .map(|warning| one_line(&warning.to_string()))
        .collect();
    if !rules.iter().any(Rule::is_permit) {
        warnings.push("there is no permit: every request would be denied".to_owned());
    }
    errors.sort_unstable();
    warnings.sort_unstable();
    Validation { errors, warnings }
}

fn one_line(finding: &str) -> String {
    finding.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::{super::engine::DEFAULT_POLICIES, *};

    fn errors(source: &str) -> Vec<String> {
        validate(source).errors
    }

    fn when(condition: &str) -> String {
        format!("@id(\"a\") permit (principal, action, resource) when {{ {condition} }};")
    }

    #[test]
    fn the_shipped_policies_are_valid_without_a_warning() {
        assert_eq!(validate(DEFAULT_POLICIES), Validation::default());
    }

    #[test]
    fn the_built_in_policies_are_valid_but_reserved() {
        let found = errors(include_str!("built_in.cedar"));
        assert_eq!(found.len(), 3);
        assert!(
            found.iter().all(|finding| finding.contains("reserved")),
            "{found:?}"
        );
    }

    #[test]
    fn what_the_schema_does_not_know_is_refused() {
        for condition in [
            "context.scor >= 500",
            "context.score >= \"500\"",
            "principal.trust > 5",
            "resource.name == \"SAP_API\"",
            "context.scope == \"x\"",
            "principal == User::\"x\"",
            "context.zone > 5",
            "1",
        ] {
            assert!(!errors(&when(condition)).is_empty(), "`{condition}`");
        }
        assert!(
            !errors("@id(\"a\") permit (principal, action == Action::\"delete\", resource);")
                .is_empty()
        );
    }

    #[test]
    fn what_the_schema_knows_is_taken() {
        for condition in [
            "context.score >= 500 && context.hour >= 8 && context.weekday <= 5",
            "context has scope && context.scope like \"read:*\"",
            "context.machine == Machine::\"mch_x\"",
            "principal == Agent::\"data_analyst\" && resource == ResourceType::\"SAP_API\"",
            "context.justification_task && !context.justification_stuffed",
            "[\"external\", \"trusted_network\"].contains(context.zone)",
        ] {
            assert_eq!(
                errors(&when(condition)),
                Vec::<String>::new(),
                "`{condition}`"
            );
        }
    }

    #[test]
    fn an_upload_of_more_than_a_mebibyte_is_refused() {
        let fits = format!(
            "{}{}",
            " ".repeat(MAX_SOURCE_BYTES - when("true").len()),
            when("true")
        );
        assert!(validate(&fits).is_valid());
        assert!(errors(&format!(" {fits}"))[0].contains("1048577 bytes"));
    }

    #[test]
    fn a_set_without_permits_is_warned_about() {
        for source in [
            "",
            "// nothing",
            "@id(\"a\") forbid (principal, action, resource);",
        ] {
            let validation = validate(source);
            assert!(validation.is_valid());
            assert_eq!(
                validation.warnings,
                ["there is no permit: every request would be denied"]
            );
        }
    }

    #[test]
    fn a_policy_that_never_applies_is_warned_about() {
        for source in [
            when("false"),
            "@id(\"a\") permit (principal == Machine::\"m\", action, resource);".to_owned(),
        ] {
            let validation = validate(&source);
            assert!(
                validation.is_valid() && !validation.warnings.is_empty(),
                "{validation:?}"
            );
        }
    }

    #[test]
    fn a_nul_character_is_refused_wherever_it_stands() {
        assert!(errors(&format!("{} // \0", when("true")))[0].contains("NUL"));
        assert!(errors(&when("context.zone == \"\0\""))[0].contains("NUL"));
    }

    #[test]
    fn findings_are_one_line_each() {
        for finding in errors("permit (\n\n  principal,\n  wrong\n);") {
            assert!(!finding.contains('\n'));
        }
    }
}
