//! Who may call what: every RPC is tried without credentials and with too low
//! a role, over real listeners. A new RPC that is not in the table fails here.

use std::collections::BTreeSet;

use authguardian_proto::{DESCRIPTORS, reason::Reason};
use control_plane::{
    grpc::auth::{Access, TABLE},
    identity::Role,
};
use prost::Message;
use tonic::transport::Identity;

use crate::{
    rig::admin,
    serving::{Serving, call, pem},
};

#[test]
fn the_table_lists_every_rpc_and_nothing_else() {
    let set = prost_types::FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let mut rpcs = BTreeSet::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                rpcs.insert(format!(
                    "/{}.{}/{}",
                    file.package(),
                    service.name(),
                    method.name()
                ));
            }
        }
    }
    let listed: BTreeSet<String> = TABLE.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(rpcs, listed);
    assert_eq!(listed.len(), TABLE.len(), "no path twice");
}

#[tokio::test]
async fn every_rpc_is_refused_without_credentials_and_with_too_low_a_role() {
    let serving = Serving::start().await;
    let identity = &serving.rig.app.identity;
    let mut admins = Vec::new();
    for role in Role::ALL {
        let made = identity.create_admin_token(admin(), "test", role, None);
        let (text, _) = made.await.unwrap();
        let (certificate, _) = serving.admin_certificate(role).await;
        let certified = serving.admin_by(Some(certificate)).await.unwrap();
        admins.push((role, text.unwrap(), certified));
    }
    let (_, owner, certified_owner) = admins.last().unwrap();
    // what was good once
    let made = identity.create_admin_token(admin(), "test", Role::Admin, None);
    let (ended, info) = made.await.unwrap();
    let ended = ended.unwrap();
    let (certificate, certificate_id) = serving.admin_certificate(Role::Admin).await;
    let certified_ended = serving.admin_by(Some(certificate)).await.unwrap();
    for id in [info.id, certificate_id] {
        identity.revoke_admin_token(admin(), id).await.unwrap();
    }
    let admin_channel = serving.admin().await;
    let socket = serving.socket().await;
    let nobody = serving.edge(None).await.unwrap();
    let host = serving.machine("host").await;
    let machine = serving.edge(Some(host.clone())).await.unwrap();
    let machine_as_admin = serving.admin_by(Some(host)).await.unwrap();
    let (certificate, _) = serving.admin_certificate(Role::Admin).await;
    let admin_as_machine = serving.edge(Some(certificate)).await.unwrap();
    let unauthenticated = Some(Reason::Unauthenticated);
    for (path, access) in TABLE {
        match access {
            // the request itself carries the credential
            Access::Open => assert_eq!(
                call(nobody.clone(), path, None).await,
                Some(Reason::JoinTokenInvalid),
                "{path}"
            ),
            Access::Renewal | Access::Machine => {
                for channel in [&nobody, &admin_as_machine] {
                    let refused = call(channel.clone(), path, Some(owner)).await;
                    assert_eq!(refused, unauthenticated, "{path}");
                }
            }
            Access::Session => {
                for channel in [&nobody, &admin_as_machine] {
                    let refused = call(channel.clone(), path, Some(owner)).await;
                    assert_eq!(refused, unauthenticated, "{path}");
                }
                for token in [None, Some("rubbish")] {
                    let refused = call(machine.clone(), path, token).await;
                    assert_eq!(refused, Some(Reason::Unauthenticated), "{path} {token:?}");
                }
            }
            Access::Role(needed) => {
                for token in [None, Some("rubbish")] {
                    let refused = call(admin_channel.clone(), path, token).await;
                    assert_eq!(refused, Some(Reason::Unauthenticated), "{path} {token:?}");
                }
                for (role, token, certified) in &admins {
                    let wanted = (role < needed).then_some(Reason::PermissionDenied);
                    let by_token = call(admin_channel.clone(), path, Some(token)).await;
                    assert_eq!(by_token, wanted, "{path} as {}", role.as_str());
                    let by_certificate = call(certified.clone(), path, None).await;
                    assert_eq!(by_certificate, wanted, "{path} as {}", role.as_str());
                }
                let refused = [
                    (&machine_as_admin, None),
                    (&machine_as_admin, Some(owner)),
                    (certified_owner, Some(owner)),
                    (&certified_ended, None),
                    (&admin_channel, Some(&ended)),
                ];
                for (number, (channel, token)) in refused.into_iter().enumerate() {
                    let refused =
                        call(channel.clone(), path, token.map(|text| text.as_str())).await;
                    assert_eq!(refused, unauthenticated, "{path}, {number}");
                }
            }
            Access::Socket => {
                for channel in [&admin_channel, &nobody, &machine] {
                    let refused = call(channel.clone(), path, Some(owner)).await;
                    assert_eq!(refused, unauthenticated, "{path}");
                }
                let refused = call(certified_owner.clone(), path, None).await;
                assert_eq!(refused, unauthenticated, "{path}");
                assert_eq!(call(socket.clone(), path, None).await, None, "{path}");
            }
        }
    }
    for (path, token) in [
        ("/authguardian.secret.v1.NoService/NoMethod", None),
        ("/", None),
    ] {
        assert_eq!(
            call(admin_channel.clone(), path, token).await,
            Some(Reason::PermissionDenied)
        );
    }
    serving.stop().await;
}

#[tokio::test]
async fn an_edge_with_a_foreign_certificate_gets_no_connection() {
    let serving = Serving::start().await;
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = rcgen::CertificateParams::default();
    let own = serving.machine("host").await;
    drop(own);
    let name = "spiffe://example.org/machine/mch_0000000000000000000001";
    params.subject_alt_names = vec![rcgen::SanType::URI(name.try_into().unwrap())];
    let foreign = params.self_signed(&key).unwrap();
    let identity = Identity::from_pem(pem("CERTIFICATE", foreign.der()), key.serialize_pem());
    serving.is_shut_out(Some(identity)).await;
    serving.stop().await;
}

#[tokio::test]
async fn refused_calls_stand_in_the_audit_log_equal_ones_as_one_with_a_count() {
    let serving = Serving::start().await;
    let nobody = serving.admin().await;
    for _ in 0..50 {
        call(
            nobody.clone(),
            "/authguardian.status.v1.StatusService/GetStatus",
            None,
        )
        .await;
    }
    // the app's own job may have written them already
    serving.rig.app.refusals.flush().await.unwrap();
    let written = async || -> (i64, i64) {
        sqlx::query_as(
            "SELECT count(*), coalesce(sum(count), 0)::bigint FROM audit_trail
             WHERE action = 'call.refuse' AND caller = 'anonymous' AND reason = 'UNAUTHENTICATED'
               AND peer_address = '127.0.0.1' AND subject LIKE '%/GetStatus'",
        )
        .fetch_one(serving.rig.database.pool())
        .await
        .unwrap()
    };
    let told = async {
        loop {
            let (rows, calls) = written().await;
            if calls == 50 {
                break rows;
            }
            tokio::task::yield_now().await;
        }
    };
    let rows = tokio::time::timeout(crate::wait::DEADLINE, told)
        .await
        .expect("all are told");
    assert!(rows <= 5, "{rows} rows: the test's clock stands still");
    serving.stop().await;
}
