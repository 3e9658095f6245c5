//! What a machine's certificate is to be good for besides the machine's id.

use std::{collections::BTreeSet, net::IpAddr};

use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;

/// The DNS names and IP addresses that a certificate carries; none where it
/// cannot be read.
pub(super) fn carried(certificate: &CertificateDer<'_>) -> BTreeSet<String> {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else {
        return BTreeSet::new();
    };
    let Ok(Some(names)) = parsed.subject_alternative_name() else {
        return BTreeSet::new();
    };
    names.value.general_names.iter().filter_map(text).collect()
}

fn text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(octets) => {
            let address = <[u8; 4]>::try_from(*octets)
                .map(IpAddr::from)
                .or_else(|_| <[u8; 16]>::try_from(*octets).map(IpAddr::from));
            address.ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    #[test]
    fn names_and_addresses_are_read_and_ids_are_not() {
        let key = KeyPair::generate().unwrap();
        let names = ["build-7.example.org", "10.0.0.7", "2001:db8::7"];
        let mut params = CertificateParams::new(names.map(str::to_owned)).unwrap();
        let id = "spiffe://example.org/machine/mch_0000000000000000000007";
        let id = SanType::URI(id.try_into().unwrap());
        params.subject_alt_names.push(id);
        let certificate = params.self_signed(&key).unwrap();
        assert_eq!(carried(certificate.der()), names.map(str::to_owned).into());
        assert!(carried(&CertificateDer::from(vec![1, 2])).is_empty());
    }
}
