//! Tokens whose signature has been checked, by the hash of their text.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use authguardian_proto::{
    grant_token::{GrantClaims, Rev},
    ids::{AgentId, GrantId, MachineId, ResourceTypeName},
};
use papaya::HashMap;

/// Most tokens that are remembered; more are checked anew each time.
const MOST: usize = 1 << 18;

/// SHA-256 of a token's text.
pub(super) type TokenHash = [u8; 32];

/// What a token says that its holder's other tokens are likely to say too.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Terms {
    /// Whose.
    pub agent_id: AgentId,
    /// For what.
    pub resource_type: ResourceTypeName,
    /// Obligations of the holder.
    pub restrictions: Vec<String>,
    /// Through which machine it was asked for.
    pub machine_id: MachineId,
    /// What determined it.
    pub policies: Vec<String>,
    /// How old a checker's knowledge may be, milliseconds.
    pub max_staleness_ms: u64,
}

/// A token of ours.
#[derive(Debug)]
pub struct Known {
    /// Its grant.
    pub grant_id: GrantId,
    /// Where the grant was first issued.
    pub rev: Rev,
    /// Not good before, seconds since 1970.
    pub not_before: i64,
    /// Not good from then on, seconds since 1970.
    pub expires: i64,
    /// What exactly.
    pub scope: Option<Box<str>>,
    /// Shared with other tokens.
    pub terms: Arc<Terms>,
    /// Which reading of the public keys it was checked with.
    pub(super) generation: u64,
}

/// Remembered tokens. Readers take no lock; entries leave when their token has
/// ended.
#[derive(Debug, Default)]
pub(super) struct KnownTokens {
    tokens: HashMap<TokenHash, Arc<Known>>,
    terms: Mutex<HashSet<Arc<Terms>>>,
}

impl KnownTokens {
    /// A token that was checked with this reading of the keys.
    pub(super) fn get(&self, hash: &TokenHash, generation: u64) -> Option<Arc<Known>> {
        let tokens = self.tokens.pin();
        let known = tokens.get(hash)?;
        (known.generation == generation).then(|| Arc::clone(known))
    }

    /// Remembers a token whose signature has been checked.
    pub(super) fn insert(
        &self,
        hash: TokenHash,
        claims: GrantClaims,
        generation: u64,
    ) -> Arc<Known> {
        let known = Arc::new(Known {
            grant_id: claims.jti,
            rev: claims.rev,
            not_before: claims.nbf,
            expires: claims.exp,
            scope: claims.scope.map(String::into_boxed_str),
            terms: self.share(Terms {
                agent_id: claims.sub,
                resource_type: claims.aud,
                restrictions: claims.restrictions,
                machine_id: claims.machine,
                policies: claims.policies,
                max_staleness_ms: claims.max_staleness,
            }),
            generation,
        });
        if self.tokens.len() < MOST {
            self.tokens.pin().insert(hash, Arc::clone(&known));
        }
        known
    }

    /// Drops tokens that have ended, `now` in seconds since 1970.
    pub(super) fn forget_ended(&self, now: i64) {
        self.tokens.pin().retain(|_, known| known.expires > now);
        self.terms
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|terms| Arc::strong_count(terms) > 1);
    }

    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    fn share(&self, terms: Terms) -> Arc<Terms> {
        let mut shared = self.terms.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = shared.get(&terms) {
            return Arc::clone(known);
        }
        let terms = Arc::new(terms);
        shared.insert(Arc::clone(&terms));
        terms
    }
}

#[cfg(test)]
pub(super) mod tests {
    use authguardian_proto::zone::Zone;

    use super::*;

    /// Claims of a token of `data_analyst` for `SAP_API`, issued at `revision`.
    pub(in crate::verify) fn claims(revision: u64) -> GrantClaims {
        GrantClaims {
            iss: "https://example.org".into(),
            aud: "SAP_API".parse().unwrap(),
            sub: "data_analyst".parse().unwrap(),
            jti: "grt_0000000000000000000005".parse().unwrap(),
            scope: Some("read:invoices".into()),
            restrictions: vec!["read_only".into()],
            machine: "mch_0000000000000000000006".parse().unwrap(),
            zone: Zone::LocalMachine,
            rev: Rev { epoch: 1, revision },
            policies: vec!["permit".into()],
            iat: 1_000,
            nbf: 1_000,
            exp: 1_300,
            max_staleness: 5_000,
        }
    }

    pub(in crate::verify) fn known(revision: u64) -> Arc<Known> {
        KnownTokens::default().insert([0; 32], claims(revision), 1)
    }

    #[test]
    fn a_token_is_known_by_the_keys_it_was_checked_with_until_it_ends() {
        let tokens = KnownTokens::default();
        tokens.insert([1; 32], claims(1), 7);
        assert!(tokens.get(&[1; 32], 7).is_some());
        assert!(tokens.get(&[1; 32], 8).is_none(), "other keys");
        assert!(tokens.get(&[2; 32], 7).is_none(), "another token");
        tokens.forget_ended(1_299);
        assert_eq!(tokens.len(), 1);
        tokens.forget_ended(1_300);
        assert_eq!(tokens.len(), 0);
    }

    #[test]
    fn equal_terms_are_kept_once() {
        let tokens = KnownTokens::default();
        let first = tokens.insert([1; 32], claims(1), 1);
        let second = tokens.insert([2; 32], claims(2), 1);
        assert!(Arc::ptr_eq(&first.terms, &second.terms));
    }
}
