//! Obligations: what a permit asks in return, written as annotations of the
//! Cedar policy.
//!
//! | annotation | value | strictest |
//! |---|---|---|
//! | `@require_approval` | none, or `true` | any |
//! | `@ttl("5m")` | 1 s to 1 day | smallest |
//! | `@max_staleness("10s")` | 0 s to 60 s | smallest |
//! | `@restrictions("read_only,max_records:100")` | names, separated by commas | union |
//!
//! Durations are whole numbers with a unit `ms`, `s`, `m` or `h`; seconds where
//! there is none.

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};

/// How old an edge's knowledge of revocations may be when nothing else is said.
pub const DEFAULT_MAX_STALENESS: Duration = Duration::from_secs(5);

/// The most that a policy may allow.
const LONGEST_MAX_STALENESS: Duration = Duration::from_mins(1);

const LONGEST_TTL: Duration = Duration::from_hours(24);

/// What a permit asks in return.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obligations {
    /// A person has to agree first.
    pub require_approval: bool,
    /// The grant lives at most this long; `None`: as its type says.
    pub ttl: Option<Duration>,
    /// Bound on how stale an edge may be that calls the token valid.
    pub max_staleness: Duration,
    /// What the holder must keep to.
    pub restrictions: BTreeSet<String>,
}

impl Default for Obligations {
    /// Those of a permit without annotations.
    fn default() -> Self {
        Self {
            require_approval: false,
            ttl: None,
            max_staleness: DEFAULT_MAX_STALENESS,
            restrictions: BTreeSet::new(),
        }
    }
}

/// An annotation that is not of its form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnnotationError {
    /// No annotation of this name means anything.
    #[error("unknown annotation `@{0}`")]
    Unknown(String),
    /// The value is not what the annotation takes.
    #[error("`@{name}` takes {expected}, not `{value}`")]
    Malformed {
        /// The annotation.
        name: &'static str,
        /// What it takes.
        expected: &'static str,
        /// What it was given.
        value: String,
    },
}

impl Obligations {
    /// Takes one annotation in.
    ///
    /// # Errors
    /// When it is unknown, or not of its form.
    pub fn annotate(&mut self, name: &str, value: &str) -> Result<(), AnnotationError> {
        match name {
            "require_approval" => self.require_approval = parse_flag(value)?,
            "ttl" => self.ttl = Some(parse_ttl(value)?),
            "max_staleness" => self.max_staleness = parse_staleness(value)?,
            "restrictions" => self.restrictions = parse_restrictions(value)?,
            _ => return Err(AnnotationError::Unknown(name.to_owned())),
        }
        Ok(())
    }

    /// Both at once, the stricter of each. A permit that says nothing of
    /// staleness stands for the default, so that another cannot loosen it.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.require_approval |= other.require_approval;
        self.ttl = self.ttl.into_iter().chain(other.ttl).min();
        self.max_staleness = self.max_staleness.min(other.max_staleness);
        self.restrictions.extend(other.restrictions.iter().cloned());
        self
    }
}

fn malformed(name: &'static str, expected: &'static str, value: &str) -> AnnotationError {
    AnnotationError::Malformed {
        name,
        expected,
        value: value.to_owned(),
    }
}

fn parse_flag(value: &str) -> Result<bool, AnnotationError> {
    match value {
        "" | "true" => Ok(true),
        _ => Err(malformed("require_approval", "no value, or `true`", value)),
    }
}

fn parse_ttl(value: &str) -> Result<Duration, AnnotationError> {
    parse_duration(value)
        .filter(|ttl| {
            (Duration::from_secs(1)..=LONGEST_TTL).contains(ttl) && ttl.subsec_nanos() == 0
        })
        .ok_or_else(|| malformed("ttl", "whole seconds from `1s` to `24h`", value))
}

fn parse_staleness(value: &str) -> Result<Duration, AnnotationError> {
    parse_duration(value)
        .filter(|bound| *bound <= LONGEST_MAX_STALENESS)
        .ok_or_else(|| malformed("max_staleness", "a duration from `0s` to `60s`", value))
}

fn parse_duration(value: &str) -> Option<Duration> {
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = value.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60 * 1000,
        "h" => 3600 * 1000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

fn parse_restrictions(value: &str) -> Result<BTreeSet<String>, AnnotationError> {
    let names: Vec<&str> = value.split(',').map(str::trim).collect();
    if names.iter().all(|name| is_restriction(name)) {
        Ok(names.into_iter().map(str::to_owned).collect())
    } else {
        Err(malformed(
            "restrictions",
            "names of `A-Z a-z 0-9 _ : . -`, separated by commas",
            value,
        ))
    }
}

/// Whether a text can name a restriction: 1 to 64 characters of
/// `A-Z a-z 0-9 _ : . -`.
pub fn is_restriction(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_:.-".contains(&b))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_set, prelude::*};

    use super::*;

    fn annotated(name: &str, value: &str) -> Result<Obligations, AnnotationError> {
        let mut obligations = Obligations::default();
        obligations.annotate(name, value).map(|()| obligations)
    }

    #[test]
    fn approval_is_required_by_the_bare_annotation_or_true() {
        assert!(annotated("require_approval", "").unwrap().require_approval);
        assert!(
            annotated("require_approval", "true")
                .unwrap()
                .require_approval
        );
        for value in ["false", "yes", "TRUE", " "] {
            annotated("require_approval", value).unwrap_err();
        }
    }

    #[test]
    fn a_ttl_is_whole_seconds_up_to_a_day() {
        for (value, seconds) in [
            ("1", 1),
            ("300s", 300),
            ("5m", 300),
            ("24h", 86_400),
            ("2000ms", 2),
        ] {
            assert_eq!(
                annotated("ttl", value).unwrap().ttl,
                Some(Duration::from_secs(seconds)),
                "`{value}`"
            );
        }
        for value in [
            "",
            "0",
            "-1",
            "1.5",
            "1500ms",
            "25h",
            "5 m",
            "5d",
            "s",
            "m5",
            "99999999999999999999",
        ] {
            annotated("ttl", value).unwrap_err();
        }
    }

    #[test]
    fn staleness_may_be_up_to_a_minute() {
        for (value, millis) in [("0", 0), ("500ms", 500), ("10s", 10_000), ("1m", 60_000)] {
            let bound = annotated("max_staleness", value).unwrap().max_staleness;
            assert_eq!(bound, Duration::from_millis(millis), "`{value}`");
        }
        for value in ["", "61", "2m", "-5", "five"] {
            annotated("max_staleness", value).unwrap_err();
        }
    }

    #[test]
    fn restrictions_are_names_separated_by_commas() {
        let obligations = annotated("restrictions", "read_only, max_records:100").unwrap();
        assert!(
            obligations
                .restrictions
                .iter()
                .eq(["max_records:100", "read_only"])
        );
        for value in ["", ",", "a,,b", "a b", "a;b", "ä", &"x".repeat(65)] {
            annotated("restrictions", value).unwrap_err();
        }
    }

    #[test]
    fn another_annotation_is_unknown() {
        assert_eq!(
            annotated("tll", "5"),
            Err(AnnotationError::Unknown("tll".into()))
        );
    }

    #[test]
    fn a_silent_permit_keeps_staleness_at_its_default() {
        let loose = annotated("max_staleness", "60s").unwrap();
        assert_eq!(
            loose.clone().and(&loose).max_staleness,
            Duration::from_mins(1)
        );
        assert_eq!(
            loose.and(&Obligations::default()).max_staleness,
            DEFAULT_MAX_STALENESS
        );
    }

    fn any_obligations() -> impl Strategy<Value = Obligations> {
        (
            any::<bool>(),
            proptest::option::of(1..86_400u64),
            0..60u64,
            btree_set("[a-e]", 0..4),
        )
            .prop_map(
                |(require_approval, ttl, staleness, restrictions)| Obligations {
                    require_approval,
                    ttl: ttl.map(Duration::from_secs),
                    max_staleness: Duration::from_secs(staleness),
                    restrictions,
                },
            )
    }

    proptest! {
        #[test]
        fn combining_is_commutative(a in any_obligations(), b in any_obligations()) {
            prop_assert_eq!(a.clone().and(&b), b.and(&a));
        }

        #[test]
        fn combining_is_associative(a in any_obligations(), b in any_obligations(), c in any_obligations()) {
            prop_assert_eq!(a.clone().and(&b).and(&c), a.and(&b.and(&c)));
        }

        #[test]
        fn combining_is_idempotent(a in any_obligations()) {
            prop_assert_eq!(a.clone().and(&a), a);
        }

        #[test]
        fn the_strictest_wins(a in any_obligations(), b in any_obligations()) {
            let both = a.clone().and(&b);
            for one in [&a, &b] {
                prop_assert!(both.require_approval || !one.require_approval);
                prop_assert!(one.ttl.is_none_or(|ttl| both.ttl.is_some_and(|both| both <= ttl)));
                prop_assert!(both.max_staleness <= one.max_staleness);
                prop_assert!(both.restrictions.is_superset(&one.restrictions));
            }
        }
    }
}
