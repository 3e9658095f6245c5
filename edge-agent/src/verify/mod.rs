//! Checking tokens at the edge (DESIGN §5): signature, agent, resource, times
//! and revocations, with a bound on how old the knowledge of them may be.
//! Nothing here waits or asks; what cannot be decided is said to be so.

mod keys;
mod known;
mod revocations;

use std::{sync::Arc, time::Duration};

use authguardian_proto::{
    credential::sha256,
    grant_token::{self, KeySet, NOT_BEFORE_LEEWAY, Rev},
    ids::{AgentId, GrantId, ResourceTypeName},
    reason::Reason,
};

pub use keys::Keys;
pub use known::{Known, Terms};
pub use revocations::Target;

use crate::{clock::Ambient, freshness::Freshness};

/// No grant lives longer, seconds.
const LONGEST_GRANT: i64 = 24 * 60 * 60;

/// What a check came to.
#[derive(Debug)]
pub enum Check {
    /// It is decided.
    Decided(Decided),
    /// The token says that it was signed by a key which is not known here;
    /// reading the keys again may help.
    UnknownKey,
    /// Only the control plane can say: what is known here is older than the
    /// token allows.
    TooOld(Arc<Known>),
}

/// A decided check.
#[derive(Debug)]
pub struct Decided {
    /// `None`: the token is good. Else why not.
    pub refused: Option<Reason>,
    /// What the token says, where it is one of ours.
    pub known: Option<Arc<Known>>,
    /// How old the knowledge is that the answer rests on; `None` before the
    /// control plane was heard.
    pub staleness: Option<Duration>,
    /// Since boot: until when a good token may be called good. `None`: no later
    /// news can change the answer.
    pub good_until: Option<Duration>,
}

/// Checks tokens with what the streams have told so far.
#[derive(Debug)]
pub struct Verifier {
    freshness: Arc<Freshness>,
    keys: Keys,
    known: known::KnownTokens,
    revocations: revocations::Revocations,
}

impl Verifier {
    /// Knows nothing yet.
    pub fn new(freshness: Arc<Freshness>) -> Arc<Self> {
        Arc::new(Self {
            freshness,
            keys: Keys::default(),
            known: known::KnownTokens::default(),
            revocations: revocations::Revocations::default(),
        })
    }

    /// The public keys, for whoever reads them.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Whether a token is good for an agent and a resource type.
    pub fn check(&self, token: &str, agent: &AgentId, resource_type: &ResourceTypeName) -> Check {
        self.check_for(token, Some(agent), resource_type)
    }

    /// Whether a token is good for a resource type, whichever agent holds it.
    pub fn check_of_anybody(&self, token: &str, resource_type: &ResourceTypeName) -> Check {
        self.check_for(token, None, resource_type)
    }

    fn check_for(
        &self,
        token: &str,
        agent: Option<&AgentId>,
        resource_type: &ResourceTypeName,
    ) -> Check {
        // before anything that it vouches for
        let proof = self.freshness.proof();
        let reading = self.keys.reading();
        let hash = sha256(token.as_bytes());
        let known = match self.known.get(&hash, reading.generation) {
            Some(known) => known,
            None => match grant_token::verify_signature(token, &reading.keys) {
                Ok(claims) => self.known.insert(hash, claims, reading.generation),
                Err(Reason::TokenForeignKey) => return Check::UnknownKey,
                Err(reason) => return self.decided(Some(reason), None),
            },
        };
        // what no later news can mend needs no fresh knowledge
        if let Some(reason) = self.never_good(&known, agent, resource_type) {
            return self.decided(Some(reason), Some(known));
        }
        let Some(proof) = proof.filter(|_| self.keys.suffices(&reading)) else {
            return Check::TooOld(known);
        };
        // the clock is read last: whatever held us up counts
        let now = self.freshness.since_boot();
        let server_now = proof.server_time_ms_at(now).div_euclid(1000);
        let staleness = proof.age_at(now);
        let refused = out_of_time(&known, server_now);
        if refused.is_none() && staleness.as_millis() > u128::from(known.terms.max_staleness_ms) {
            return Check::TooOld(known);
        }
        let max_staleness = Duration::from_millis(known.terms.max_staleness_ms);
        Check::Decided(Decided {
            refused,
            good_until: refused.is_none().then(|| proof.asked_at + max_staleness),
            known: Some(known),
            staleness: Some(staleness),
        })
    }

    /// Ends one grant, `until` the end of its longest token in seconds since
    /// 1970; `None` when that is not known.
    pub fn end(&self, grant: GrantId, until: Option<i64>) {
        let longest = || {
            self.server_now()
                .map_or(i64::MAX, |now| now + LONGEST_GRANT)
        };
        self.revocations.end(grant, until.unwrap_or_else(longest));
    }

    /// Ends all grants that match and stand before a position, `until` the end
    /// of the last that can match, in seconds since 1970.
    pub fn end_matching(&self, target: Target, before: Rev, until: i64) {
        self.revocations.end_matching(target, before, until);
    }

    /// Uses the keys as they were read last, for what needs no newer ones.
    pub fn with_keys<R>(&self, with: impl FnOnce(&KeySet) -> R) -> R {
        with(&self.keys.reading().keys)
    }

    /// When a token ends, if its signature is good: seconds since 1970.
    pub fn end_of(&self, token: &str) -> Option<i64> {
        let claims = grant_token::verify_signature(token, &self.keys.reading().keys).ok()?;
        Some(claims.exp)
    }

    /// The keys have changed: nothing is decided here until they are read.
    pub fn keys_changed(&self) {
        self.keys.changed();
    }

    /// Drops tokens that have ended and revocations of nothing that lives.
    pub fn forget_ended(&self) {
        if let Some(now) = self.server_now() {
            self.known.forget_ended(now);
            self.revocations.forget_spent(now);
        }
    }

    /// How many tokens and single revocations are kept in memory.
    pub fn kept(&self) -> (usize, usize) {
        (self.known.len(), self.revocations.len())
    }

    /// The control plane's time as far as it is known, else this machine's: seconds
    /// since 1970.
    pub fn now(&self, ambient: &Ambient) -> i64 {
        let wall = || ambient.clock.now().unix_timestamp();
        self.server_now().unwrap_or_else(wall)
    }

    /// The control plane's time, seconds since 1970; `None` before it was heard.
    fn server_now(&self) -> Option<i64> {
        let proof = self.freshness.proof()?;
        let now_ms = proof.server_time_ms_at(self.freshness.since_boot());
        Some(now_ms.div_euclid(1000))
    }

    fn never_good(
        &self,
        known: &Known,
        agent: Option<&AgentId>,
        resource_type: &ResourceTypeName,
    ) -> Option<Reason> {
        if agent.is_some_and(|agent| known.terms.agent_id != *agent) {
            return Some(Reason::AgentMismatch);
        }
        if known.terms.resource_type != *resource_type {
            return Some(Reason::ResourceMismatch);
        }
        self.revocations
            .cover(known)
            .then_some(Reason::GrantRevoked)
    }

    fn decided(&self, refused: Option<Reason>, known: Option<Arc<Known>>) -> Check {
        Check::Decided(Decided {
            refused,
            known,
            staleness: self.freshness.age(),
            good_until: None,
        })
    }
}

fn out_of_time(known: &Known, now: i64) -> Option<Reason> {
    if now >= known.expires {
        return Some(Reason::GrantExpired);
    }
    let early = now < known.not_before.saturating_sub(NOT_BEFORE_LEEWAY);
    early.then_some(Reason::TokenInvalid)
}

#[cfg(test)]
mod tests;
