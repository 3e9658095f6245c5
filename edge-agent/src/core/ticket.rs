//! Tickets: how a page opens a stream, which cannot send a credential of its own.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use authguardian_proto::{
    credential::StreamTicket,
    ids::ApiKeyId,
    reason::{Problem, Reason},
};
use time::OffsetDateTime;

use super::{AnswerBy, Caller, Core, Peer};
use crate::upstream::Login;

/// How long a ticket counts.
const LIFE: Duration = Duration::from_secs(30);
/// Unused tickets, in all and of one key.
const MAX: usize = 4096;
const MAX_OF_A_KEY: usize = 64;

/// The page that a request comes from, as its browser says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// `Origin`; `None`: no browser, or one that leaves it out for a page of this edge's own.
    pub origin: Option<String>,
    /// Of a request to the page's own origin, the authority that it was sent to.
    pub own_authority: Option<String>,
}

impl Page {
    /// Whether this one may use what that one was given.
    fn is(&self, given: &Self) -> bool {
        if self.origin.is_some() || given.origin.is_none() {
            return self.origin == given.origin;
        }
        let authority = given
            .origin
            .as_deref()
            .and_then(|origin| origin.split_once("://"));
        authority.is_some_and(|(_, authority)| self.own_authority.as_deref() == Some(authority))
    }
}

/// The unused tickets of this edge, by the hash of their secrets.
#[derive(Debug, Default)]
pub(super) struct Tickets(Mutex<HashMap<[u8; 32], Kept>>);

#[derive(Debug)]
struct Kept {
    login: Login,
    page: Page,
    /// Since boot.
    ends: Duration,
}

impl Tickets {
    fn keep(&self, ticket: &StreamTicket, kept: Kept, now: Duration) -> Result<(), Problem> {
        let mut tickets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tickets.retain(|_, kept| now < kept.ends);
        let key = kept.key();
        let of_key = tickets.values().filter(|kept| kept.key() == key).count();
        if tickets.len() >= MAX || of_key >= MAX_OF_A_KEY {
            let detail =
                "there are too many unused tickets; use them, or wait until they have ended";
            return Err(Problem::new(Reason::ResourceExhausted, detail));
        }
        tickets.insert(ticket.hash(), kept);
        Ok(())
    }

    /// Takes a ticket out: whatever comes of it, it does not count again.
    fn take(&self, ticket: &StreamTicket, now: Duration) -> Option<Kept> {
        let mut tickets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = tickets.remove(&ticket.hash());
        kept.filter(|kept| now < kept.ends)
    }
}

impl Kept {
    fn key(&self) -> ApiKeyId {
        self.login.session().api_key_id
    }
}

impl Core {
    /// Makes a ticket for one stream of a page, which begins as if with the
    /// caller's own credential. Returns it and when it ends.
    ///
    /// # Errors
    /// `RATE_LIMITED`, `RESOURCE_EXHAUSTED`.
    pub async fn make_ticket(
        &self,
        caller: &Caller,
        page: Page,
    ) -> Result<(StreamTicket, OffsetDateTime), Problem> {
        self.admit(caller, None, || "ticket.create".to_owned())
            .await?;
        let ticket = StreamTicket::new(self.ambient.entropy.bytes());
        let now = self.ambient.clock.since_boot();
        let kept = Kept {
            login: caller.login().without_key(),
            page,
            ends: now + LIFE,
        };
        self.tickets.keep(&ticket, kept, now)?;
        self.note_outcome(caller, || "ticket.create".to_owned(), || None, None);
        Ok((ticket, self.ambient.clock.now() + LIFE))
    }

    /// Finds out who opens a stream with a ticket, from where; the ticket counts
    /// no more. On a refusal, also whose it was.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for a ticket that does not count, or not for this page;
    /// else as [`Core::authenticate`] for a session.
    pub async fn redeem_ticket(
        &self,
        text: &str,
        page: &Page,
        peer: Peer,
        answer: AnswerBy,
    ) -> Result<Caller, (Problem, Option<ApiKeyId>)> {
        let nobody = |problem| (problem, None);
        self.upstream.feed().standing().check().map_err(nobody)?;
        let now = self.ambient.clock.since_boot();
        let ticket: Option<StreamTicket> = text.parse().ok();
        let kept = ticket.and_then(|ticket| self.tickets.take(&ticket, now));
        let kept = kept.ok_or_else(|| nobody(unknown()))?;
        let key = kept.key();
        let checked = async {
            if !page.is(&kept.page) {
                return Err(foreign());
            }
            kept.login.session().check_zone(peer.zone())?;
            let caller = Caller::admitted(kept.login, peer, answer)?;
            self.still_counts(&caller).await?;
            Ok(caller)
        };
        checked.await.map_err(|problem| (problem, Some(key)))
    }

    /// Whether what a ticket was made with has not ended since, as is found out
    /// for a credential that is presented: the kept session counts while the
    /// streams are fresh, and while nobody can be asked.
    async fn still_counts(&self, caller: &Caller) -> Result<(), Problem> {
        let session = caller.session();
        let is_kept = self.upstream.sessions().keeps(session.id);
        if is_kept && self.upstream.feed().freshness().is_fresh() {
            return Ok(());
        }
        match self.stands(caller, &session).await {
            Err(problem) if is_kept && problem.reason == Reason::Unavailable => Ok(()),
            outcome => outcome,
        }
    }
}

fn unknown() -> Problem {
    let detail =
        "this ticket is unknown, was used, or has ended; get another at `POST /auth/ticket`";
    Problem::new(Reason::Unauthenticated, detail)
}

fn foreign() -> Problem {
    let detail = "this ticket was made for a page of another origin, and counts no more";
    Problem::new(Reason::Unauthenticated, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn kept(key: u128) -> Kept {
        Kept {
            login: Login::of_nobody(ApiKeyId::from_uuid(uuid::Uuid::from_u128(key))),
            page: Page::default(),
            ends: NOW + LIFE,
        }
    }

    fn ticket(number: u32) -> StreamTicket {
        let mut secret = [0; 32];
        secret[..4].copy_from_slice(&number.to_le_bytes());
        StreamTicket::new(secret)
    }

    #[test]
    fn a_ticket_counts_once_and_for_its_time_only() {
        let tickets = Tickets::default();
        for number in 0..3 {
            tickets.keep(&ticket(number), kept(1), NOW).unwrap();
        }
        assert!(tickets.take(&ticket(0), NOW).is_some());
        assert!(tickets.take(&ticket(0), NOW).is_none(), "used");
        assert!(tickets.take(&ticket(9), NOW).is_none(), "unknown");
        let nearly = Duration::from_millis(29_999);
        assert!(tickets.take(&ticket(1), NOW + nearly).is_some());
        assert!(tickets.take(&ticket(2), NOW + LIFE).is_none(), "ended");
    }

    #[test]
    fn unused_tickets_are_bounded_and_ended_ones_make_room() {
        let tickets = Tickets::default();
        let per_key = u32::try_from(MAX_OF_A_KEY).unwrap();
        for number in 0..per_key {
            tickets.keep(&ticket(number), kept(1), NOW).unwrap();
        }
        let refused = tickets.keep(&ticket(per_key), kept(1), NOW).unwrap_err();
        assert_eq!(refused.reason, Reason::ResourceExhausted);
        tickets.keep(&ticket(per_key), kept(2), NOW).unwrap();
        let others = u32::try_from(MAX).unwrap() - per_key - 1;
        for number in 0..others {
            let key = 3 + u128::from(number / per_key);
            tickets
                .keep(&ticket(1000 + number), kept(key), NOW)
                .unwrap();
        }
        assert!(
            tickets
                .keep(&ticket(0xffff_ffff), kept(99_999), NOW)
                .is_err()
        );
        let later = NOW + LIFE;
        assert!(
            tickets
                .keep(&ticket(0xffff_ffff), kept(99_999), later)
                .is_ok()
        );
        assert_eq!(tickets.0.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_ticket_is_for_the_page_that_it_was_made_for() {
        let page = |origin: Option<&str>, own: Option<&str>| Page {
            origin: origin.map(str::to_owned),
            own_authority: own.map(str::to_owned),
        };
        let given = page(Some("https://app.example"), None);
        assert!(page(Some("https://app.example"), None).is(&given));
        assert!(page(None, Some("app.example")).is(&given), "its own edge");
        for other in [
            page(None, None),
            page(Some("http://app.example"), None),
            page(Some("https://app.example:8443"), None),
            page(Some("null"), Some("app.example")),
            page(None, Some("app.example:8443")),
        ] {
            assert!(!other.is(&given), "{other:?}");
        }
        let to_no_browser = page(None, None);
        assert!(page(None, None).is(&to_no_browser));
        assert!(!page(Some("https://app.example"), None).is(&to_no_browser));
    }
}
