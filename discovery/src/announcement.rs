//! What an instance says of itself, as TXT attributes (RFC 6763 §6).

use authguardian_proto::{base62, ids::MachineId};

/// What an instance says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announcement {
    /// `role=control-plane`: edges may call here.
    ControlPlane {
        /// `ca`: SHA-256 of the certificate of its CA, as join tokens carry it. Whoever knows another CA
        /// need not dial; that it is right, only TLS shows.
        ca_fingerprint: [u8; 32],
    },
    /// `role=edge`: edges may ask here for the records of this machine's agents.
    Edge {
        /// `machine`: which one it says to be; only TLS shows it.
        machine: MachineId,
        /// `records`: another number when there are other records.
        records: u64,
    },
}

impl Announcement {
    /// As attributes.
    pub fn to_txt(self) -> Vec<(String, String)> {
        let pair = |key: &str, value: String| (key.to_owned(), value);
        match self {
            Self::ControlPlane { ca_fingerprint } => vec![
                pair("role", "control-plane".to_owned()),
                pair("ca", base62::encode(&ca_fingerprint)),
            ],
            Self::Edge { machine, records } => vec![
                pair("role", "edge".to_owned()),
                pair("machine", machine.to_string()),
                pair("records", records.to_string()),
            ],
        }
    }

    /// Reads attributes; `None` when they are not of this form.
    pub fn from_txt<'a>(attribute: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        match attribute("role")? {
            "control-plane" => Some(Self::ControlPlane {
                ca_fingerprint: base62::decode(attribute("ca")?)?,
            }),
            "edge" => Some(Self::Edge {
                machine: attribute("machine")?.parse().ok()?,
                records: attribute("records")?.parse().ok()?,
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(String, String)]) -> Option<Announcement> {
        Announcement::from_txt(|key| {
            let pair = pairs.iter().find(|(name, _)| name == key);
            pair.map(|(_, value)| value.as_str())
        })
    }

    #[test]
    fn what_is_said_reads_back() {
        for said in [
            Announcement::ControlPlane {
                ca_fingerprint: std::array::from_fn(|n| u8::try_from(n * 8).unwrap_or(0)),
            },
            Announcement::Edge {
                machine: MachineId::from_uuid(uuid::Uuid::from_u128(7)),
                records: u64::MAX,
            },
        ] {
            assert_eq!(read(&said.to_txt()), Some(said));
        }
    }

    #[test]
    fn what_is_not_of_its_form_is_passed_over() {
        let ca = "0".repeat(43);
        for pairs in [
            vec![],
            vec![("role", "printer")],
            vec![("role", "control-plane")],
            vec![("role", "control-plane"), ("ca", "00")],
            vec![("role", "control-plane"), ("ca", &"é".repeat(32))],
            vec![("ca", ca.as_str())],
            vec![("role", "edge"), ("machine", "mch_1"), ("records", "1")],
            vec![("role", "edge"), ("machine", "mch_0000000000000000000007")],
            vec![
                ("role", "edge"),
                ("machine", "mch_0000000000000000000007"),
                ("records", "-1"),
            ],
        ] {
            let pairs: Vec<_> = pairs
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect();
            assert_eq!(read(&pairs), None, "{pairs:?}");
        }
    }
}
