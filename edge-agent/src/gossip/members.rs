//! What is kept of other machines, and what of it others lack.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use authguardian_proto::ids::MachineId;
use rustls_pki_types::UnixTime;

use super::{Entry, Known, Life, MAX_RECORDS_BYTES, Message, message::MAX_MESSAGE};
use crate::trust::{self, OwnCertificate, PeerAddress, SignError, Statement, Trust};

/// How far a machine's time may be from ours, seconds: what it has said is not
/// taken later than that, so that nobody can make it live on for longer.
const MAX_AGE: i64 = 60;

/// A machine's records, with what they are named by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Records {
    fingerprint: String,
    texts: Arc<[Arc<str>]>,
    bytes: usize,
}

/// A machine, and where others reach it.
pub type Reached = (MachineId, PeerAddress);

/// A machine that has shown that it is there.
#[derive(Debug)]
struct Member {
    life: Life,
    statement: Statement,
    records: Records,
    /// Since boot: when its counter last rose.
    heard_at: Duration,
}

/// What this machine says of itself.
#[derive(Debug)]
pub struct Own {
    machine: MachineId,
    incarnation: u64,
    counter: u64,
    peer_address: PeerAddress,
    certificate: OwnCertificate,
    records: Records,
    statement: Option<Statement>,
}

/// This machine and the others.
#[derive(Debug)]
pub struct Members {
    own: Own,
    others: HashMap<MachineId, Member>,
    max: usize,
}

/// An entry that is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nobody of the trust domain has said it, or it says something else than it is
    /// brought as.
    #[error("it is forged")]
    Forged,
    /// It was said too long ago, or will be.
    #[error("it is not of now")]
    Stale,
    /// The machine may take part no more.
    #[error("its machine may take part no more")]
    Refused,
    /// Its records are others than it names.
    #[error("its records are not those that it names")]
    OtherRecords,
    /// A record among them is not the control plane's word on an agent of it.
    #[error("a record of it is not good")]
    BadRecord,
    /// Its records are others than those that are known, and did not come with it.
    #[error("its records did not come with it")]
    NoRecords,
    /// Bounded.
    #[error("there is no room for it")]
    Full,
}

impl Records {
    /// In the order that they are named in.
    ///
    /// # Errors
    /// `Full` when they are too many bytes.
    pub fn new(mut texts: Vec<Arc<str>>) -> Result<Self, Fault> {
        let bytes = texts.iter().map(|text| text.len()).sum();
        if bytes > MAX_RECORDS_BYTES {
            return Err(Fault::Full);
        }
        texts.sort_unstable();
        Ok(Self {
            fingerprint: trust::fingerprint(&texts),
            texts: texts.into(),
            bytes,
        })
    }

    /// The records.
    pub fn texts(&self) -> &[Arc<str>] {
        &self.texts
    }
}

impl Own {
    /// Nothing is said yet. `incarnation` is higher than that of every process
    /// before.
    pub fn new(
        machine: MachineId,
        incarnation: u64,
        peer_address: PeerAddress,
        certificate: OwnCertificate,
    ) -> Self {
        Self {
            machine,
            incarnation,
            counter: 0,
            peer_address,
            certificate,
            records: Records {
                fingerprint: trust::fingerprint(&[]),
                texts: Arc::default(),
                bytes: 0,
            },
            statement: None,
        }
    }
}

impl Members {
    /// Knows this machine, and has room for so many others.
    pub fn new(own: Own, max: usize) -> Self {
        Self {
            own,
            others: HashMap::new(),
            max,
        }
    }

    /// This machine has these records from now on; too many bytes, and those of
    /// before are told still.
    ///
    /// # Errors
    /// `Full`.
    pub fn own_records(&mut self, records: Vec<Arc<str>>) -> Result<(), Fault> {
        self.own.records = Records::new(records)?;
        Ok(())
    }

    /// Says once more that this machine is there; `now` as in [`Members::take`].
    ///
    /// # Errors
    /// When its key cannot sign.
    pub fn speak(&mut self, now: i64) -> Result<(), SignError> {
        self.own.counter += 1;
        let life = Life {
            machine: self.own.machine,
            incarnation: self.own.incarnation,
            counter: self.own.counter,
            at: now,
            records: self.own.records.fingerprint.clone(),
            peer_address: self.own.peer_address.clone(),
        };
        // strings and numbers always become JSON
        let said = serde_json::to_string(&life).unwrap_or_default();
        self.own.statement = Some(Statement::sign(said, &self.own.certificate.load())?);
        Ok(())
    }

    /// What is known of whom.
    pub fn digest(&self) -> Vec<Known> {
        let own = self.own.statement.as_ref().map(|_| Known {
            machine: self.own.machine,
            incarnation: self.own.incarnation,
            counter: self.own.counter,
            records: self.own.records.fingerprint.clone(),
        });
        let others = self.others.values().map(|member| Known {
            machine: member.life.machine,
            incarnation: member.life.incarnation,
            counter: member.life.counter,
            records: member.records.fingerprint.clone(),
        });
        own.into_iter().chain(others).collect()
    }

    /// What somebody lacks who knows this, as much as a message has room for.
    pub fn news_for(&self, digest: &[Known]) -> Vec<Entry> {
        let known: HashMap<_, _> = digest.iter().map(|known| (known.machine, known)).collect();
        let own = self.own.statement.as_ref().map(|statement| {
            let order = (self.own.incarnation, self.own.counter);
            (self.own.machine, order, statement, &self.own.records)
        });
        let others = self.others.values().map(|member| {
            let life = &member.life;
            (
                life.machine,
                life.order(),
                &member.statement,
                &member.records,
            )
        });
        let mut room = MAX_MESSAGE / 2;
        let mut news = Vec::new();
        for (machine, order, statement, records) in own.into_iter().chain(others) {
            let theirs = known.get(&machine);
            if theirs.is_some_and(|theirs| theirs.order() >= order) {
                continue;
            }
            let has_records = theirs.is_some_and(|theirs| theirs.records == records.fingerprint);
            let texts = (!has_records).then(|| records.texts.to_vec());
            let size = statement.len() + if has_records { 0 } else { records.bytes };
            // one alone always fits
            if size > room && !news.is_empty() {
                continue;
            }
            room = room.saturating_sub(size);
            news.push(Entry {
                life: statement.clone(),
                records: texts,
            });
        }
        news
    }

    /// Takes what was said of a machine; `now` is the control plane's time as far as
    /// known, seconds since 1970, `since_boot` this machine's steady clock. `check` sees
    /// other records than before, and refuses them before they are kept. Returns the
    /// machine if that is news.
    ///
    /// # Errors
    /// [`Fault`]; what was known stays as it was.
    pub fn take(
        &mut self,
        entry: Entry,
        trust: &Trust,
        now: i64,
        since_boot: Duration,
        check: impl FnOnce(MachineId, &Records) -> Result<(), Fault>,
    ) -> Result<Option<MachineId>, Fault> {
        // the cheap checks first
        let life: Life = serde_json::from_str(entry.life.said()).map_err(|_| Fault::Forged)?;
        let machine = life.machine;
        let known = self.others.get(&machine);
        if known.is_some_and(|known| known.life.order() >= life.order()) {
            return Ok(None);
        }
        if (now - life.at).abs() > MAX_AGE {
            return Err(Fault::Stale);
        }
        trust.check(machine).map_err(|_| Fault::Refused)?;
        let seconds = u64::try_from(now).unwrap_or_default();
        let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        if entry.life.speaker(trust, at) != Ok(machine) {
            return Err(Fault::Forged);
        }
        if machine == self.own.machine {
            self.outlive(&life);
            return Ok(None);
        }
        let records = match (entry.records, known) {
            (Some(texts), _) => {
                let records = Records::new(texts)?;
                if records.fingerprint != life.records {
                    return Err(Fault::OtherRecords);
                }
                records
            }
            (None, Some(known)) if known.records.fingerprint == life.records => {
                known.records.clone()
            }
            (None, _) => return Err(Fault::NoRecords),
        };
        if known.is_none_or(|known| known.records.fingerprint != life.records) {
            check(machine, &records)?;
        }
        if known.is_none() && self.others.len() >= self.max {
            return Err(Fault::Full);
        }
        let member = Member {
            life,
            statement: entry.life,
            records,
            heard_at: since_boot,
        };
        self.others.insert(machine, member);
        Ok(Some(machine))
    }

    /// Machines with their addresses, those heard within `recent` before the others.
    pub fn addresses(
        &self,
        since_boot: Duration,
        recent: Duration,
    ) -> (Vec<Reached>, Vec<Reached>) {
        let address = |member: &Member| (member.life.machine, member.life.peer_address.clone());
        let (recent, silent): (Vec<_>, Vec<_>) = self
            .others
            .values()
            .partition(|member| since_boot.saturating_sub(member.heard_at) < recent);
        (
            recent.into_iter().map(address).collect(),
            silent.into_iter().map(address).collect(),
        )
    }

    /// Forgets machines that may take part no more, and those that were silent for
    /// this long: by then nothing that they have said before is taken again.
    pub fn forget(&mut self, trust: &Trust, since_boot: Duration, silence: Duration) {
        let silence = silence.max(Duration::from_secs(2 * MAX_AGE.unsigned_abs()));
        self.others.retain(|machine, member| {
            since_boot.saturating_sub(member.heard_at) < silence && trust.check(*machine).is_ok()
        });
    }

    /// Those that are kept.
    pub fn machines(&self) -> HashSet<MachineId> {
        self.others.keys().copied().collect()
    }

    /// A message that asks for what is newer, with this machine's own word.
    pub fn question(&self) -> Message {
        let own = self.own.statement.as_ref().map(|statement| Entry {
            life: statement.clone(),
            records: None,
        });
        Message {
            digest: Some(self.digest()),
            news: own.into_iter().collect(),
        }
    }

    /// An earlier process of this machine has said more than this one, as its clock
    /// was set back since.
    fn outlive(&mut self, life: &Life) {
        if life.order() > (self.own.incarnation, self.own.counter) {
            self.own.incarnation = life.incarnation.saturating_add(1);
        }
    }
}
