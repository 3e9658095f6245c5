//! How an identity is written down: one JSON file, so that one rename
//! replaces all of it.

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::{Identity, MachineKey, Validity};

#[derive(Serialize, Deserialize)]
struct Record {
    machine_id: String,
    machine_name: String,
    trust_domain: String,
    server: String,
    /// PKCS #8, base64 of DER.
    key: String,
    /// Leaf first, base64 of DER each.
    chain: Vec<String>,
    /// Base64 of DER each.
    authorities: Vec<String>,
}

/// The JSON of an identity; wiped on drop.
pub(super) fn write(identity: &Identity) -> Zeroizing<Vec<u8>> {
    let encode = |certificates: &[CertificateDer<'_>]| {
        certificates
            .iter()
            .map(|certificate| STANDARD.encode(certificate))
            .collect()
    };
    let record = Record {
        machine_id: identity.machine_id.to_string(),
        machine_name: identity.machine_name.clone(),
        trust_domain: identity.trust_domain.clone(),
        server: identity.server.to_string(),
        key: STANDARD.encode(identity.key.pkcs8()),
        chain: encode(&identity.chain),
        authorities: encode(&identity.authorities),
    };
    // strings and lists of strings always become JSON
    Zeroizing::new(serde_json::to_vec_pretty(&record).unwrap_or_default())
}

/// Reads the JSON; `None` when it is not of its form.
pub(super) fn read(json: &[u8]) -> Option<Identity> {
    let mut record: Record = serde_json::from_slice(json).ok()?;
    let decode = |certificates: Vec<String>| -> Option<Vec<CertificateDer<'static>>> {
        certificates
            .into_iter()
            .map(|certificate| STANDARD.decode(certificate).ok().map(CertificateDer::from))
            .collect()
    };
    let chain = decode(std::mem::take(&mut record.chain))?;
    Some(Identity {
        machine_id: record.machine_id.parse().ok()?,
        machine_name: std::mem::take(&mut record.machine_name),
        trust_domain: std::mem::take(&mut record.trust_domain),
        server: record.server.parse().ok()?,
        validity: Validity::of(chain.first()?)?,
        key: MachineKey::from_pkcs8(STANDARD.decode(record.key.as_bytes()).ok()?),
        authorities: decode(std::mem::take(&mut record.authorities))?,
        chain,
    })
}

impl Drop for Record {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}
