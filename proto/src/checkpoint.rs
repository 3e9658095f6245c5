//! Signed heads of the audit log: a checkpoint (C2SP tlog-checkpoint) says
//! which log, how many entries and which root, in a note (C2SP signed-note)
//! that is signed with Ed25519. The name of the key is the log's origin.

use std::{collections::BTreeMap, fmt, str::FromStr};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use signed_note::{Note, Signature, Verifier, VerifierList, is_key_name_valid, key_id};

use crate::merkle::{Hash, MAX_SIZE};

/// The number of Ed25519 among the algorithms of signed notes.
const ED25519_ALGORITHM: u8 = 1;

/// The head of a log at one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: String,
    /// How many entries.
    pub size: u64,
    /// The root of its tree at that size.
    pub root: Hash,
}

/// Why a note is no checkpoint that counts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// It is no signed note with a checkpoint in it.
    #[error("not a signed note with a checkpoint in it")]
    Malformed,
    /// None of the known keys has signed it.
    #[error("signed by none of the known keys")]
    UnknownKey,
    /// A known key is named, but the signature is not its own.
    #[error("the signature does not fit")]
    Signature,
    /// It was signed under the name of another log.
    #[error("signed under a name that is not its origin")]
    Name,
}

/// A public key that checkpoints of one log are checked with. Its text form is
/// `<origin>+<key id, 8 hex digits>+<base64 of algorithm and key>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    public: [u8; 32],
}

/// The text is no verifier key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a verifier key: `<origin>+<8 hex digits>+<base64>`, of Ed25519")]
pub struct ParseVerifierKeyError;

/// A key that signs checkpoints.
pub struct CheckpointSigner {
    pair: Ed25519KeyPair,
    public: [u8; 32],
}

impl CheckpointSigner {
    /// Reads the key from PKCS #8; `None` when it is none.
    pub fn from_pkcs8(secret: &[u8]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(secret).ok()?;
        let public = pair.public_key().as_ref().try_into().ok()?;
        Some(Self { pair, public })
    }

    /// The key that checks what this one signs for a log.
    pub fn verifier_key(&self, origin: &str) -> VerifierKey {
        VerifierKey::new(origin, self.public)
    }

    /// Signs; returns the whole note. `None` when the origin cannot stand in
    /// one.
    pub fn sign(&self, checkpoint: &Checkpoint) -> Option<String> {
        let text = checkpoint.text()?;
        let id = self.verifier_key(&checkpoint.origin).id();
        let signature = self.pair.sign(&text).as_ref().to_vec();
        let signature = Signature::new(checkpoint.origin.clone(), id, signature).ok()?;
        let note = Note::new(&text, &[signature]).ok()?;
        String::from_utf8(note.to_bytes()).ok()
    }
}

impl fmt::Debug for CheckpointSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CheckpointSigner(redacted)")
    }
}

impl Checkpoint {
    /// Reads a note that one of these keys has signed.
    ///
    /// # Errors
    /// When it is no checkpoint, or none of the keys has signed it.
    pub fn open(note: &str, keys: &[VerifierKey]) -> Result<Self, CheckpointError> {
        let parsed = Note::from_bytes(note.as_bytes()).map_err(|_| CheckpointError::Malformed)?;
        let checkpoint = Self::of(&parsed)?;
        // a key that stands there twice would be ambiguous
        let known: BTreeMap<(&str, u32), &VerifierKey> = keys
            .iter()
            .map(|key| ((key.name(), key.id()), key))
            .collect();
        let known = known
            .into_values()
            .map(|key| Box::new(key.clone()) as Box<dyn Verifier>);
        let (signatures, _) =
            parsed
                .verify(&VerifierList::new(known.collect()))
                .map_err(|error| match error {
                    signed_note::NoteError::UnverifiedNote => CheckpointError::UnknownKey,
                    _ => CheckpointError::Signature,
                })?;
        if signatures
            .iter()
            .any(|signature| signature.name() == checkpoint.origin)
        {
            Ok(checkpoint)
        } else {
            Err(CheckpointError::Name)
        }
    }

    /// Reads a note whatever its signatures: for learning which log it is of.
    ///
    /// # Errors
    /// When it is no checkpoint.
    pub fn read_unverified(note: &str) -> Result<Self, CheckpointError> {
        Self::of(&Note::from_bytes(note.as_bytes()).map_err(|_| CheckpointError::Malformed)?)
    }

    fn of(note: &Note) -> Result<Self, CheckpointError> {
        let read = tlog_tiles::Checkpoint::from_bytes(note.text())
            .map_err(|_| CheckpointError::Malformed)?;
        if read.size() > MAX_SIZE {
            return Err(CheckpointError::Malformed);
        }
        Ok(Self {
            origin: read.origin().to_owned(),
            size: read.size(),
            root: (*read.hash()).into(),
        })
    }

    fn text(&self) -> Option<Vec<u8>> {
        let text =
            tlog_tiles::Checkpoint::new(&self.origin, self.size, self.root.into(), "").ok()?;
        Some(text.to_bytes())
    }
}

impl VerifierKey {
    /// A key of the log of this origin.
    pub fn new(origin: &str, public: [u8; 32]) -> Self {
        Self {
            name: origin.to_owned(),
            public,
        }
    }

    /// The 33 bytes that stand in the text form: algorithm, then key.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![ED25519_ALGORITHM];
        bytes.extend_from_slice(&self.public);
        bytes
    }

    /// Tells keys of one name apart: the first four bytes of a hash of both.
    pub fn id(&self) -> u32 {
        key_id(&self.name, &self.bytes())
    }

    /// The log's origin.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Verifier for VerifierKey {
    fn name(&self) -> &str {
        &self.name
    }

    fn key_id(&self) -> u32 {
        self.id()
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, self.public);
        key.verify(message, signature).is_ok()
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}+{:08x}+{}",
            self.name,
            self.id(),
            STANDARD.encode(self.bytes())
        )
    }
}

impl FromStr for VerifierKey {
    type Err = ParseVerifierKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.trim().splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(ParseVerifierKeyError);
        };
        let bytes = STANDARD.decode(key).map_err(|_| ParseVerifierKeyError)?;
        let Some((&ED25519_ALGORITHM, public)) = bytes.split_first() else {
            return Err(ParseVerifierKeyError);
        };
        let public = public.try_into().map_err(|_| ParseVerifierKeyError)?;
        let read = Self::new(name, public);
        if is_key_name_valid(name) && format!("{:08x}", read.id()) == id {
            Ok(read)
        } else {
            Err(ParseVerifierKeyError)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::leaf_hash;
    use aws_lc_rs::{
        encoding::{AsDer, Pkcs8V1Der},
        rand::SystemRandom,
    };

    const ORIGIN: &str = "example.org/audit/0f0e0d0c0b0a09080706050403020100";

    fn signer() -> CheckpointSigner {
        let _ = SystemRandom::new();
        let pair = Ed25519KeyPair::generate().unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        CheckpointSigner::from_pkcs8(der.as_ref()).unwrap()
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            origin: ORIGIN.to_owned(),
            size: 7,
            root: leaf_hash(b"root"),
        }
    }

    #[test]
    fn what_is_signed_is_read_with_its_key_and_with_no_other() {
        let (ours, other) = (signer(), signer());
        let note = ours.sign(&checkpoint()).unwrap();
        assert!(note.starts_with(&format!("{ORIGIN}\n7\n")), "{note}");
        let (key, foreign) = (ours.verifier_key(ORIGIN), other.verifier_key(ORIGIN));
        let keys = [foreign.clone(), key.clone(), key.clone()];
        assert_eq!(Checkpoint::open(&note, &keys).unwrap(), checkpoint());
        assert_eq!(
            Checkpoint::open(&note, &[foreign]),
            Err(CheckpointError::UnknownKey)
        );
        assert_eq!(
            Checkpoint::open(&note, &[]),
            Err(CheckpointError::UnknownKey)
        );
        assert_eq!(Checkpoint::read_unverified(&note).unwrap(), checkpoint());
    }

    #[test]
    fn a_note_that_was_changed_is_refused() {
        let ours = signer();
        let keys = [ours.verifier_key(ORIGIN)];
        let note = ours.sign(&checkpoint()).unwrap();
        let larger = note.replacen("\n7\n", "\n8\n", 1);
        assert_eq!(
            Checkpoint::open(&larger, &keys),
            Err(CheckpointError::Signature)
        );
        for bad in [
            "",
            "x",
            "a\n1\n",
            &note[..note.len() - 9],
            &note.replacen('\n', "\n\n", 1),
        ] {
            assert!(Checkpoint::open(bad, &keys).is_err(), "{bad}");
        }
        let huge = note.replacen("\n7\n", "\n18446744073709551615\n", 1);
        assert_eq!(
            Checkpoint::open(&huge, &keys),
            Err(CheckpointError::Malformed)
        );
    }

    #[test]
    fn a_verifier_key_reads_back_and_a_changed_one_does_not() {
        let key = signer().verifier_key(ORIGIN);
        let text = key.to_string();
        assert_eq!(text.parse::<VerifierKey>().unwrap(), key);
        let parts: Vec<&str> = text.splitn(3, '+').collect();
        for bad in [
            String::new(),
            ORIGIN.to_owned(),
            format!("{}+{}", parts[0], parts[1]),
            format!("other+{}+{}", parts[1], parts[2]),
            format!("{}+00000000+{}", parts[0], parts[2]),
            format!("{}+{}+{}", parts[0], parts[1], STANDARD.encode([2; 33])),
            format!("{}+{}+AQ==", parts[0], parts[1]),
        ] {
            assert!(bad.parse::<VerifierKey>().is_err(), "{bad}");
        }
    }
}
