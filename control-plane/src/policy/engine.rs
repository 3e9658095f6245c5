//! Deciding: facts against a parsed set of policies.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwapOption;
use authguardian_proto::reason::Reason;
use cedar_policy::{
    Authorizer, Context, Decision, Entities, EntityId, EntityTypeName, EntityUid, PolicyId,
    Request, RestrictedExpression,
};

use super::{
    facts::Facts,
    rules::{self, Rule},
    verdict::Verdict,
};
use crate::error::{Error, Result};

/// The policies that the control plane ships with; version 1 of every
/// installation.
pub const DEFAULT_POLICIES: &str = include_str!("default.cedar");

const BUILT_IN_POLICIES: &str = include_str!("built_in.cedar");

/// One version of the policies, as text. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyText {
    /// Counts from 1.
    pub version: u64,
    /// Cedar.
    pub source: Arc<str>,
}

/// One worker's own parsed copy of the policies.
///
/// A parsed Cedar set keeps its expressions in `Arc`s, which evaluation clones
/// and drops: two threads that share one set fight over the reference counts,
/// and a clone of the set shares them, too. So every batch operation owns an
/// `Engine`, which parses the text for itself, once per version; of its two
/// batches at a time, one is mostly being written while the other is judged.
#[derive(Debug, Default)]
pub struct Engine {
    copy: ArcSwapOption<PolicySet>,
}

impl Engine {
    /// This worker's copy of a version, parsed anew when it has another one.
    ///
    /// # Errors
    /// `INTERNAL` when the text, which was validated when it was put, does not
    /// parse any more.
    pub fn at(&self, text: &PolicyText) -> Result<Arc<PolicySet>> {
        if let Some(copy) = self.version(text.version) {
            return Ok(copy);
        }
        let copy = Arc::new(PolicySet::parse(text)?);
        self.copy.store(Some(Arc::clone(&copy)));
        Ok(copy)
    }

    /// This worker's copy, if it is of this version.
    pub fn version(&self, version: u64) -> Option<Arc<PolicySet>> {
        self.copy.load_full().filter(|copy| copy.version == version)
    }
}

/// A parsed version together with the built-in rules. Not `Clone`: see
/// [`Engine`].
#[derive(Debug)]
pub struct PolicySet {
    version: u64,
    /// Built-in ones first, then in the order of the text.
    rules: Vec<Rule>,
    positions: HashMap<PolicyId, usize>,
    policies: cedar_policy::PolicySet,
    authorizer: Authorizer,
    entities: Entities,
    names: Names,
}

impl PolicySet {
    /// Parses a version, with the built-in rules.
    ///
    /// # Errors
    /// `INTERNAL` when it does not parse; uploads are validated before they are
    /// stored.
    pub fn parse(text: &PolicyText) -> Result<Self> {
        let broken = |findings: Vec<String>| {
            Error::internal(format!(
                "policy version {} does not parse: {}",
                text.version,
                findings.join("; ")
            ))
        };
        let mut rules = rules::parse(BUILT_IN_POLICIES).map_err(broken)?;
        rules.extend(rules::parse(&text.source).map_err(broken)?);
        let policies =
            cedar_policy::PolicySet::from_policies(rules.iter().map(|rule| rule.policy.clone()))
                .map_err(Error::internal)?;
        let positions = rules
            .iter()
            .enumerate()
            .map(|(at, rule)| (rule.policy.id().clone(), at))
            .collect();
        Ok(Self {
            version: text.version,
            rules,
            positions,
            policies,
            authorizer: Authorizer::new(),
            entities: Entities::empty(),
            names: Names::new()?,
        })
    }

    /// Which version this is.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Decides. A policy that cannot be evaluated denies, whatever the others
    /// say; the log has the cause.
    pub fn evaluate(&self, facts: &Facts) -> Verdict {
        let request = match self.names.request(facts) {
            Ok(request) => request,
            Err(error) => {
                tracing::error!(policy_version = self.version, cause = ?error.cause(), "facts could not be told to the policies");
                return Verdict::denied(facts, [Reason::PolicyForbids], Vec::new());
            }
        };
        let response = self
            .authorizer
            .is_authorized(&request, &self.policies, &self.entities);
        let diagnostics = response.diagnostics();

        let mut failed = Vec::new();
        for error in diagnostics.errors() {
            let cedar_policy::AuthorizationError::PolicyEvaluationError(error) = error;
            tracing::error!(policy_version = self.version, policy_id = %error.policy_id(), cause = %error.inner(), "policy could not be evaluated");
            failed.push(error.policy_id());
        }
        if !failed.is_empty() {
            return Verdict::denied(facts, [Reason::PolicyForbids], ids(&self.in_order(failed)));
        }

        let determining = self.in_order(diagnostics.reason());
        match response.decision() {
            Decision::Allow => allow(facts, &determining),
            Decision::Deny if determining.is_empty() => self.deny_by_default(facts, &request),
            Decision::Deny => {
                let reasons = determining
                    .iter()
                    .map(|forbid| forbid.reason.unwrap_or(Reason::PolicyForbids));
                Verdict::denied(facts, reasons, ids(&determining))
            }
        }
    }

    /// No rule applied: the permits that might have tell why they did not.
    fn deny_by_default(&self, facts: &Facts, request: &Request) -> Verdict {
        let (Some(agent), Some(resource_type)) = (request.principal(), request.resource()) else {
            return Verdict::denied(facts, [], Vec::new());
        };
        let silent: Vec<&Rule> = self
            .rules
            .iter()
            .filter(|rule| {
                rule.is_permit() && rule.reason.is_some() && rule.concerns(agent, resource_type)
            })
            .collect();
        Verdict::denied(
            facts,
            silent.iter().filter_map(|permit| permit.reason),
            ids(&silent),
        )
    }

    fn in_order<'a>(&'a self, policies: impl IntoIterator<Item = &'a PolicyId>) -> Vec<&'a Rule> {
        let mut positions: Vec<usize> = policies
            .into_iter()
            .filter_map(|policy| self.positions.get(policy).copied())
            .collect();
        positions.sort_unstable();
        positions.into_iter().map(|at| &self.rules[at]).collect()
    }
}

fn allow(facts: &Facts, permits: &[&Rule]) -> Verdict {
    let together = permits
        .iter()
        .map(|permit| &permit.obligations)
        .cloned()
        .reduce(|all, one| all.and(&one));
    let obligations = together.unwrap_or_default();
    if obligations.require_approval {
        let denied = Verdict::denied(facts, [Reason::ApprovalUnavailable], ids(permits));
        return Verdict {
            obligations,
            ..denied
        };
    }
    Verdict::granted(facts, ids(permits), obligations)
}

fn ids(rules: &[&Rule]) -> Vec<String> {
    rules.iter().map(|rule| rule.id.clone()).collect()
}

/// Parsed names of the schema, so that no decision parses them again.
#[derive(Debug)]
struct Names {
    agent: EntityTypeName,
    resource_type: EntityTypeName,
    machine: EntityTypeName,
    action: EntityUid,
}

impl Names {
    fn new() -> Result<Self> {
        let named = |name: &str| name.parse::<EntityTypeName>().map_err(Error::internal);
        Ok(Self {
            agent: named("Agent")?,
            resource_type: named("ResourceType")?,
            machine: named("Machine")?,
            action: EntityUid::from_type_name_and_id(named("Action")?, EntityId::new("request")),
        })
    }

    /// The facts in the terms of `authguardian.cedarschema`. Whether they fit
    /// it is a test's affair, not each decision's.
    fn request(&self, facts: &Facts) -> Result<Request> {
        let entity = |kind: &EntityTypeName, id: &str| {
            EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
        };
        let agent = entity(&self.agent, facts.agent_id.as_str());
        let resource_type = entity(&self.resource_type, facts.resource_type.as_str());
        let machine = entity(&self.machine, &facts.machine_id.to_string());
        let context =
            Context::from_pairs(context_pairs(facts, machine)).map_err(Error::internal)?;
        Request::new(agent, self.action.clone(), resource_type, context, None)
            .map_err(Error::internal)
    }
}

fn context_pairs(facts: &Facts, machine: EntityUid) -> Vec<(String, RestrictedExpression)> {
    let long = |figure: u32| RestrictedExpression::new_long(i64::from(figure));
    let mark = RestrictedExpression::new_bool;
    let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
    let at = facts.at.to_offset(time::UtcOffset::UTC);
    let mut pairs = vec![
        ("score", long(facts.score.total)),
        ("justification", long(facts.score.justification)),
        ("trust", long(facts.score.trust)),
        ("risk", long(facts.score.risk)),
        ("agent_known", mark(facts.agent_known)),
        ("agent_trust", long(facts.agent_trust)),
        ("suspended", mark(facts.suspended)),
        ("zone", text(facts.zone.as_str())),
        ("machine", RestrictedExpression::new_entity_uid(machine)),
        ("base_risk", long(facts.base_risk)),
        ("scope_broad", mark(facts.reach.broad)),
        ("scope_writes", mark(facts.reach.writes)),
        ("ttl_seconds", long(facts.ttl_seconds)),
        ("justification_length", long(facts.justification.characters)),
        ("justification_task", mark(facts.justification.task_word)),
        ("justification_specific", mark(facts.justification.specific)),
        ("justification_test", mark(facts.justification.test_word)),
        (
            "justification_instruction",
            mark(facts.justification.instruction),
        ),
        ("justification_stuffed", mark(facts.justification.stuffed)),
        ("hour", long(u32::from(at.hour()))),
        (
            "weekday",
            long(u32::from(at.weekday().number_from_monday())),
        ),
    ];
    if let Some(scope) = &facts.scope {
        pairs.push(("scope", text(scope)));
    }
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
