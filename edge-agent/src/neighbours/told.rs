//! What this machine tells others of its own agents.

use std::sync::Arc;

use authguardian_proto::credential::sha256;

use super::MAX_RECORDS_OF_MACHINE;
use crate::trust;

/// The signed records of this machine's agents that are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Another number for other records, also across restarts.
    pub version: u64,
    /// In the order of their text.
    pub records: Vec<Arc<str>>,
}

impl Default for Told {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Told {
    /// Of these, as many as others would take.
    pub(super) fn new(mut records: Vec<Arc<str>>) -> Self {
        records.sort_unstable();
        records.dedup();
        records.truncate(MAX_RECORDS_OF_MACHINE);
        let fingerprint = trust::fingerprint(&records);
        let hash = sha256(fingerprint.as_bytes());
        let version = hash
            .iter()
            .take(8)
            .fold(0, |version: u64, &byte| (version << 8) | u64::from(byte));
        Self { version, records }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_tells_other_records_and_nothing_else() {
        let told = |texts: &[&str]| Told::new(texts.iter().map(|&text| text.into()).collect());
        assert_eq!(told(&["a", "b"]), told(&["b", "a", "b"]));
        assert_ne!(told(&["a", "b"]).version, told(&["a"]).version);
        assert_ne!(told(&["ab"]).version, told(&["a", "b"]).version);
        assert_eq!(told(&[]), Told::default());
    }
}
