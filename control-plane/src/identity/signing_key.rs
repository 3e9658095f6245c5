//! The life of a key of ours: prepared, active, retired. A key is published
//! from its preparation on, and signs only when everybody who checks tokens,
//! or certificates, has had the time to learn of it; a retired one is accepted
//! until the last of what it signed has ended.

use std::fmt;

use authguardian_proto::{
    ids::SigningKeyId,
    reason::{Problem, Reason},
};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use super::{machine::RENEWABLE, session::SESSION_TTL};
use crate::{
    error::{Error, Result},
    policy::resource_type::LONGEST_TTL_SECONDS,
};

/// How long another control plane may go on signing with a key that was just
/// retired: it has not heard of it yet, or its clock runs ahead.
const STRAGGLERS: Duration = Duration::minutes(1);

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Certificates.
    Ca,
    /// Grant tokens.
    Grant,
    /// Session tokens.
    Session,
    /// Checkpoints of the audit log.
    Audit,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ca, Self::Grant, Self::Session, Self::Audit];

    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ca => "ca",
            Self::Grant => "grant",
            Self::Session => "session",
            Self::Audit => "audit",
        }
    }

    /// Reads the stable name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|purpose| purpose.as_str() == text)
    }

    /// How long after a key's last signature what it signed can count; a
    /// machine's certificate, which lives for `certificate_ttl`, may be renewed
    /// for some time after its end.
    fn lives_on(self, certificate_ttl: Duration) -> Duration {
        match self {
            Self::Ca => certificate_ttl + RENEWABLE,
            Self::Grant => Duration::seconds(i64::from(LONGEST_TTL_SECONDS)),
            Self::Session => SESSION_TTL,
            // a checkpoint counts for ever, and the log knows the keys of all times
            Self::Audit => Duration::ZERO,
        }
    }
}

/// Where a key stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// Published, not yet signing.
    Prepared,
    /// The one that signs.
    Active,
    /// Signs no more.
    Retired,
}

impl KeyState {
    const ALL: [Self; 3] = [Self::Prepared, Self::Active, Self::Retired];

    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Active => "active",
            Self::Retired => "retired",
        }
    }

    /// Reads the stable name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// A key of ours, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningKey {
    /// The `kid` of its tokens, where it signs tokens.
    pub id: SigningKeyId,
    /// What it is for.
    pub purpose: Purpose,
    /// Where it stands.
    pub state: KeyState,
    /// When it was prepared, and published with it.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// `None`: it has never signed.
    #[serde(with = "time::serde::rfc3339::option")]
    pub activated_at: Option<OffsetDateTime>,
    /// `None`: not retired.
    #[serde(with = "time::serde::rfc3339::option")]
    pub retired_at: Option<OffsetDateTime>,
    /// Until when what it signed may count; `None` before it is retired.
    #[serde(with = "time::serde::rfc3339::option")]
    pub accepted_until: Option<OffsetDateTime>,
    /// When it was taken out of the published keys; what it signed is refused
    /// from then on. `None`: it is published.
    #[serde(with = "time::serde::rfc3339::option")]
    pub dropped_at: Option<OffsetDateTime>,
}

impl SigningKey {
    /// A key that was just made.
    pub(super) fn prepared(id: SigningKeyId, purpose: Purpose, now: OffsetDateTime) -> Self {
        Self {
            id,
            purpose,
            state: KeyState::Prepared,
            created_at: now,
            activated_at: None,
            retired_at: None,
            accepted_until: None,
            dropped_at: None,
        }
    }

    /// One of the very first, which nobody has to learn of before it signs.
    pub(super) fn first(id: SigningKeyId, purpose: Purpose, now: OffsetDateTime) -> Self {
        Self {
            state: KeyState::Active,
            activated_at: Some(now),
            ..Self::prepared(id, purpose, now)
        }
    }

    /// How long it has to wait until it may sign; zero for one that need not.
    pub fn publication_left(&self, now: OffsetDateTime, publication: Duration) -> Duration {
        match self.state {
            KeyState::Prepared => (self.created_at + publication - now).max(Duration::ZERO),
            KeyState::Active | KeyState::Retired => Duration::ZERO,
        }
    }

    /// Lets it sign. `force`: although not everybody can know it yet.
    ///
    /// # Errors
    /// `REVISION_CONFLICT` (`key_id`) when it is not prepared, or not for long
    /// enough.
    pub(super) fn activate(
        &mut self,
        now: OffsetDateTime,
        publication: Duration,
        force: bool,
    ) -> Result<()> {
        match self.state {
            KeyState::Prepared => {}
            KeyState::Active => return Err(self.illegal("is active already")),
            KeyState::Retired => {
                return Err(self.illegal("is retired and cannot come back; prepare a new one"));
            }
        }
        let left = self.publication_left(now, publication);
        if left.is_positive() && !force {
            let seconds = whole_seconds(left);
            return Err(self.illegal(format_args!(
                "was prepared only now: holders of the published keys may not know it for another {seconds} s; wait, or force it"
            )));
        }
        self.state = KeyState::Active;
        self.activated_at = Some(now);
        Ok(())
    }

    /// Ends its signing, as another one takes over: what it signed lives on.
    pub(super) fn supersede(&mut self, now: OffsetDateTime, certificate_ttl: Duration) {
        self.state = KeyState::Retired;
        self.retired_at = Some(now);
        self.accepted_until = Some(now + self.purpose.lives_on(certificate_ttl) + STRAGGLERS);
    }

    /// Gives up a prepared key, or with `force` ends the tokens of a retired
    /// one at once. Without, a retired key stays as it is. Returns whether
    /// anything changed.
    ///
    /// # Errors
    /// `REVISION_CONFLICT` (`key_id`) when it is active.
    pub(super) fn retire(&mut self, now: OffsetDateTime, force: bool) -> Result<bool> {
        match self.state {
            KeyState::Active => Err(self.illegal(
                "is the active one and cannot be retired; activate another one in its place",
            )),
            KeyState::Retired if !force || self.dropped_at.is_some() => Ok(false),
            KeyState::Prepared | KeyState::Retired => {
                self.state = KeyState::Retired;
                self.retired_at = self.retired_at.or(Some(now));
                self.accepted_until = Some(now);
                self.dropped_at = Some(now);
                Ok(true)
            }
        }
    }

    fn illegal(&self, why: impl fmt::Display) -> Error {
        Problem::new(Reason::RevisionConflict, format!("key `{}` {why}", self.id))
            .at("key_id")
            .into()
    }
}

/// Seconds, begun ones counted as whole.
pub fn whole_seconds(span: Duration) -> i64 {
    span.whole_seconds() + i64::from(span.subsec_nanoseconds() > 0)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const START: OffsetDateTime = datetime!(2026-11-23 09:30 UTC);
    const PUBLICATION: Duration = Duration::seconds(60);
    const CERTIFICATE_TTL: Duration = Duration::days(1);

    fn key() -> SigningKey {
        let id = SigningKeyId::from_uuid(uuid::Uuid::from_u128(7));
        SigningKey::prepared(id, Purpose::Grant, START)
    }

    #[test]
    fn a_key_is_published_before_it_signs() {
        let mut key = key();
        let early = START + Duration::milliseconds(59_001);
        let refused = key.activate(early, PUBLICATION, false).unwrap_err();
        assert_eq!(refused.reason(), Reason::RevisionConflict);
        assert!(
            refused.problem().detail.contains("another 1 s"),
            "{refused}"
        );
        assert_eq!(key.state, KeyState::Prepared);
        let mut forced = key.clone();
        forced.activate(early, PUBLICATION, true).unwrap();
        assert_eq!(forced.state, KeyState::Active);
        key.activate(START + PUBLICATION, PUBLICATION, false)
            .unwrap();
        assert_eq!(key.activated_at, Some(START + PUBLICATION));
        assert!(
            key.activate(START + PUBLICATION, PUBLICATION, true)
                .is_err()
        );
    }

    #[test]
    fn an_active_key_is_retired_by_the_next_one_only() {
        let mut key = key();
        key.activate(START, PUBLICATION, true).unwrap();
        assert!(key.retire(START, true).is_err());
        assert_eq!(key.state, KeyState::Active);
        key.supersede(START, CERTIFICATE_TTL);
        assert_eq!(
            key.accepted_until,
            Some(START + Duration::days(1) + STRAGGLERS),
            "no resource type gives longer grants"
        );
        assert_eq!(key.dropped_at, None);
        assert!(!key.retire(START, false).unwrap());
        assert!(key.activate(START, PUBLICATION, true).is_err());
        let later = START + Duration::minutes(5);
        assert!(key.retire(later, true).unwrap());
        assert_eq!((key.retired_at, key.dropped_at), (Some(START), Some(later)));
        assert!(!key.retire(later, true).unwrap());
    }

    #[test]
    fn a_prepared_key_that_is_given_up_is_gone_at_once() {
        let mut key = key();
        assert!(key.retire(START, false).unwrap());
        assert_eq!(
            (key.state, key.dropped_at),
            (KeyState::Retired, Some(START))
        );
    }

    #[test]
    fn a_retired_ca_is_trusted_until_its_last_certificate_can_no_longer_be_renewed() {
        let mut ca = SigningKey::first(key().id, Purpose::Ca, START);
        ca.supersede(START, CERTIFICATE_TTL);
        let trusted = CERTIFICATE_TTL + Duration::days(30) + STRAGGLERS;
        assert_eq!(ca.accepted_until, Some(START + trusted));
    }
}
