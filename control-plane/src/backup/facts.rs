//! What a database says of itself: what a backup notes, and what has to be the
//! same once it was restored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a database holds, as of one snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Made once, at the first start.
    pub installation_id: Uuid,
    /// The name in certificates and tokens.
    pub trust_domain: String,
    /// Counts promotions and restores.
    pub epoch: i64,
    /// The newest migration that was applied.
    pub schema_version: i64,
    /// The last revision of each change stream.
    pub streams: BTreeMap<String, i64>,
    /// The audit log that is written to; `None` before the first start.
    pub audit: Option<AuditHead>,
}

/// Where an audit log ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    /// First line of its checkpoints.
    pub origin: String,
    /// Sealed entries.
    pub size: i64,
    /// RFC 6962 root at that size, hexadecimal.
    pub root: String,
    /// Entries that were not sealed yet.
    pub unsealed: i64,
    /// The newest signed checkpoint, a C2SP signed note; `None`: there was none.
    pub checkpoint: Option<String>,
}

impl Facts {
    /// What is not as it was noted, in words; `None`: all is.
    pub(super) fn difference(&self, noted: &Self) -> Option<String> {
        let parts: [(&str, String, String); 6] = [
            (
                "installation",
                self.installation_id.to_string(),
                noted.installation_id.to_string(),
            ),
            (
                "trust domain",
                self.trust_domain.clone(),
                noted.trust_domain.clone(),
            ),
            ("epoch", self.epoch.to_string(), noted.epoch.to_string()),
            (
                "schema version",
                self.schema_version.to_string(),
                noted.schema_version.to_string(),
            ),
            (
                "heads of the streams",
                format!("{:?}", self.streams),
                format!("{:?}", noted.streams),
            ),
            (
                "audit log",
                format!("{:?}", self.audit),
                format!("{:?}", noted.audit),
            ),
        ];
        let (what, is, was) = parts.into_iter().find(|(_, is, was)| is != was)?;
        Some(format!("{what}: `{is}`, and `{was}` in the manifest"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named() {
        let noted = Facts {
            installation_id: Uuid::nil(),
            trust_domain: "example.org".to_owned(),
            epoch: 5,
            schema_version: 7,
            streams: [("grants".to_owned(), 450)].into(),
            audit: None,
        };
        assert_eq!(noted.difference(&noted), None);
        let mut is = noted.clone();
        is.streams.insert("grants".to_owned(), 449);
        let told = is.difference(&noted).unwrap();
        assert!(told.starts_with("heads of the streams"), "{told}");
        is.epoch = 6;
        let told = is.difference(&noted).unwrap();
        assert_eq!(told, "epoch: `6`, and `5` in the manifest");
    }
}
