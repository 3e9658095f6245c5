//! Fuzz targets: what machines and edges send and the control plane reads.
//! Each runs for a second, or for `BOLERO_RANDOM_TEST_TIME_MS` (`make soak`).

use std::{panic::RefUnwindSafe, sync::Arc};

use authguardian_proto::{ids::MachineId, reason::Reason, testing::Damage, zone::Zone};
use bolero::check;
use control_plane::identity::{
    Role, Session,
    ca::{self, RequestedKey},
};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData};
use tokio::runtime::Runtime;

use crate::rig::{Rig, admin, anonymous};

#[test]
fn a_damaged_signing_request_is_refused_or_of_the_same_key() {
    let requests = [&PKCS_ECDSA_P256_SHA256, &PKCS_ED25519].map(|algorithm| {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let csr = CertificateParams::default()
            .serialize_request(&key)
            .unwrap();
        (csr.der().to_vec(), key.subject_public_key_info())
    });
    check!()
        .with_type()
        .for_each(|(damage, which): &(Damage, bool)| {
            let (der, spki) = &requests[usize::from(*which)];
            if let Ok(key) = RequestedKey::from_csr(&damage.to_bytes(der)) {
                assert_eq!(key.spki(), *spki);
            }
        });
}

#[test]
fn any_certificate_names_a_machine_or_none() {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let name = "spiffe://example.org/machine/mch_0000000000000000000007";
    let mut params = CertificateParams::default();
    params
        .subject_alt_names
        .push(rcgen::SanType::URI(name.try_into().unwrap()));
    let der = params.self_signed(&key).unwrap().der().to_vec();
    let named = |der: &[u8]| ca::machine_of(&der.to_vec().into(), "example.org");
    assert!(named(&der).is_some());
    check!().with_type().for_each(|damage: &Damage| {
        let _: Option<MachineId> = named(&damage.to_bytes(&der));
    });
}

/// A control plane and a session at it.
struct WithSession {
    runtime: Runtime,
    rig: Rig,
    machine: MachineId,
    token: String,
    session: Arc<Session>,
}

// nothing is looked at after a panic
impl RefUnwindSafe for WithSession {}

impl WithSession {
    fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let (rig, machine, (token, session)) = runtime.block_on(async {
            let rig = Rig::open().await;
            let machine = rig.machine("host").await;
            let key = rig.api_key(&["data_analyst"], false).await;
            let identity = &rig.app.identity;
            let (nonce, _) = identity.create_challenge(machine, key.id()).await.unwrap();
            let signature = key.sign_nonce(&nonce).unwrap();
            let made = identity
                .create_session(
                    anonymous(),
                    machine,
                    key.id(),
                    &nonce,
                    &signature,
                    Zone::LocalMachine,
                )
                .await
                .unwrap();
            (rig, machine, (made.token, made.session))
        });
        Self {
            runtime,
            rig,
            machine,
            token,
            session,
        }
    }

    fn read(&self, token: &str) -> control_plane::error::Result<Arc<Session>> {
        let reading = self.rig.app.identity.authenticate(token, self.machine);
        self.runtime.block_on(reading)
    }

    fn is_an_admins(&self, token: &str) -> bool {
        let Ok(token) = token.parse() else {
            return false;
        };
        let identity = &self.rig.app.identity;
        let known = self.runtime.block_on(identity.authenticate_admin(&token));
        known.is_ok()
    }
}

#[test]
fn only_the_very_session_token_that_was_made_is_accepted() {
    let fixture = WithSession::start();
    let (header, rest) = fixture.token.split_once('.').unwrap();
    check!()
        .with_type()
        .for_each(|(damage, whole): &(Damage, u8)| {
            // a key that is not known is looked for, once a second at most
            let token = if *whole == 0 {
                damage.to_text(&fixture.token)
            } else {
                format!("{header}.{}", damage.to_text(rest))
            };
            match fixture.read(&token) {
                Ok(session) => {
                    assert_eq!(token, fixture.token);
                    assert_eq!(session.jti, fixture.session.jti);
                }
                Err(error) => {
                    assert_ne!(token, fixture.token, "{error}");
                    assert_eq!(error.reason(), Reason::Unauthenticated);
                }
            }
        });
}

#[test]
fn a_damaged_admin_token_is_nobodys() {
    let fixture = WithSession::start();
    let identity = &fixture.rig.app.identity;
    let making = identity.create_admin_token(admin(), "fuzz", Role::Viewer, None);
    let made = fixture.runtime.block_on(making).unwrap();
    let text = made.0.unwrap().to_string();
    assert!(fixture.is_an_admins(&text));
    check!().with_type().for_each(|damage: &Damage| {
        let damaged = damage.to_text(&text);
        assert_eq!(fixture.is_an_admins(&damaged), damaged == text);
    });
}
