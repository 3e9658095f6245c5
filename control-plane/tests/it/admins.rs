//! Admins: the first one, client certificates, and streams that end with the
//! credential they were begun with.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use authguardian_proto::{
    audit::v1::{TailEntriesRequest, audit_admin_service_client::AuditAdminServiceClient},
    credential::AdminToken,
    ids::AdminTokenId,
    reason::Reason,
    status::from_status,
};
use control_plane::identity::{Purpose, Role};
use serde_json::Value;
use tokio::process::Command;
use tonic::{Request, Status, Streaming, transport::Channel};

use crate::{
    operator::{Operator, Told, told},
    rig::{Rig, admin, requested_key, with_id},
    serving::{Serving, call},
    wait::DEADLINE,
};

/// Ends every admin credential.
async fn dismiss_all(rig: &Rig) {
    let identity = &rig.app.identity;
    for token in identity.list_admin_tokens(None, 100).await.unwrap() {
        identity
            .revoke_admin_token(admin(), token.id)
            .await
            .unwrap();
    }
}

fn bootstrap(rig: &Rig) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_control-plane"));
    command
        .args(["bootstrap", "-o", "json", "--socket"])
        .arg(&rig.config.listen.admin_socket);
    command
}

fn reason(told: &Told) -> (i32, String) {
    let problem: Value = serde_json::from_str(&told.stderr).unwrap();
    (told.code, problem["reason"].as_str().unwrap().to_owned())
}

fn denied() -> (i32, String) {
    (4, "PERMISSION_DENIED".to_owned())
}

#[tokio::test]
async fn the_first_admin_is_made_at_the_socket_and_only_while_there_is_none() {
    let operator = Operator::start().await;
    let rig = &operator.rig;
    assert_eq!(reason(&told(bootstrap(rig)).await), denied());
    dismiss_all(rig).await;

    let ca = operator.path("bootstrapped-ca.pem");
    let mut command = bootstrap(rig);
    command
        .args(["--ttl-seconds", "3600", "--ca-file-out"])
        .arg(&ca);
    let made = told(command).await;
    assert_eq!(made.code, 0, "{}", made.stderr);
    let made: Value = serde_json::from_str(&made.stdout).unwrap();
    assert_eq!(made["info"]["role"], "admin");
    let token = made["admin_token"].as_str().unwrap();
    // what was told is all that it takes
    let mut status = operator.command(&["status"]);
    status
        .env("AUTHGUARDIAN_ADMIN_TOKEN", token)
        .env("AUTHGUARDIAN_CA_FILE", &ca);
    let status = told(status).await;
    assert_eq!(status.code, 0, "{}", status.stderr);
    assert_eq!(reason(&told(bootstrap(rig)).await), denied());

    // a smaller role is no admin, and one that has ended neither
    let parsed: AdminToken = token.parse().unwrap();
    let identity = &rig.app.identity;
    identity
        .create_admin_token(admin(), "op", Role::Operator, None)
        .await
        .unwrap();
    rig.clock.advance(Duration::from_secs(3601));
    assert!(identity.authenticate_admin(&parsed).await.is_err());
    assert_eq!(told(bootstrap(rig)).await.code, 0);

    let audited: Vec<String> = sqlx::query_scalar(
        "SELECT caller FROM audit_trail WHERE action = 'admin_token.bootstrap' AND outcome = 'ok'",
    )
    .fetch_all(rig.database.pool())
    .await
    .unwrap();
    let caller = format!("uid:{}", rustix::process::geteuid().as_raw());
    assert_eq!(audited, [caller.clone(), caller]);
}

#[tokio::test]
async fn an_admin_whose_certificate_ended_with_its_ca_is_none() {
    let rig = Rig::open().await;
    let identity = &rig.app.identity;
    let day = time::Duration::days(1);
    let first = async || {
        let made = identity.create_first_admin(admin(), "first", &[7; 32], day);
        made.await.map_err(|error| error.reason())
    };
    let certify = async |ttl| {
        let (_, key) = requested_key();
        let made = identity.create_admin_certificate(admin(), "ops", Role::Admin, ttl, &key);
        made.await.unwrap();
    };
    let rotate = async || {
        let made = identity.prepare_signing_key(admin(), Purpose::Ca).await;
        let changed = identity.activate_signing_key(admin(), made.unwrap().id, true);
        changed.await.unwrap().1.unwrap().id
    };
    certify(10 * day).await;
    let old = rotate().await;
    assert_eq!(
        first().await.unwrap_err(),
        Reason::PermissionDenied,
        "retired"
    );
    let dropped = identity.retire_signing_key(admin(), old, true).await;
    dropped.unwrap();
    let token = first().await.unwrap();
    assert_eq!(first().await.unwrap_err(), Reason::PermissionDenied);
    identity
        .revoke_admin_token(admin(), token.id)
        .await
        .unwrap();

    // the certificate would live on, and its CA does not
    certify(4000 * day).await;
    rig.clock.advance(Duration::from_hours(3649 * 24));
    assert_eq!(first().await.unwrap_err(), Reason::PermissionDenied);
    rig.clock.advance(Duration::from_hours(24));
    first().await.unwrap();
}

#[tokio::test]
async fn of_many_who_would_be_the_first_admin_one_is_and_its_repeat_gets_the_same() {
    let rig = Rig::open().await;
    let other = rig.beside().await;
    let hash = [7; 32];
    let ttl = time::Duration::hours(1);
    let create = |number: usize| {
        let app = if number.is_multiple_of(2) {
            &rig.app
        } else {
            &other.app
        };
        let context = with_id(admin(), &format!("r-{number}"));
        app.identity
            .create_first_admin(context, "first", &hash, ttl)
    };
    let made = futures::future::join_all((0..12).map(create)).await;
    let winners: Vec<usize> = (0..made.len()).filter(|at| made[*at].is_ok()).collect();
    let [winner] = winners[..] else {
        panic!("{made:?}");
    };
    let again = create(winner + 2).await;
    assert_eq!(again.unwrap_err().reason(), Reason::PermissionDenied);
    assert_eq!(
        create(winner).await.unwrap(),
        *made[winner].as_ref().unwrap()
    );
    let listed = rig.app.identity.list_admin_tokens(None, 10).await.unwrap();
    assert_eq!(listed.len(), 1);
}

#[tokio::test]
async fn another_user_is_refused_at_the_socket_though_it_were_open() {
    let operator = Operator::start().await;
    let rig = &operator.rig;
    dismiss_all(rig).await;
    let socket = &rig.config.listen.admin_socket;
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(socket), 0o600);
    if !rustix::process::geteuid().is_root() {
        return; // only root can call as somebody else
    }
    let open = fs::Permissions::from_mode(0o777);
    fs::set_permissions(socket, open.clone()).unwrap();
    fs::set_permissions(socket.parent().unwrap(), open).unwrap();
    let client = operator.path("client");
    fs::copy(env!("CARGO_BIN_EXE_control-plane"), &client).unwrap();
    fs::set_permissions(&client, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(client.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
            "--",
        ])
        .arg(&client)
        .args(["bootstrap", "-o", "json", "--socket"])
        .arg(socket);
    assert_eq!(reason(&told(command).await), denied());
    assert_eq!(told(bootstrap(rig)).await.code, 0, "root is let in");
}

#[tokio::test]
async fn a_certificate_stands_for_a_token_with_its_role_until_it_is_revoked() {
    let operator = Operator::start().await;
    let file = operator.path("console.pem");
    let path = file.to_str().unwrap();
    let create = [
        "admin-token",
        "create",
        "--name",
        "console",
        "--role",
        "operator",
        "--certificate",
        path,
    ];
    let made = operator.json(&create).await;
    assert_eq!(made["certificate"], true);
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(text.matches("PRIVATE KEY-----").count(), 2);
    assert_eq!(text.matches("BEGIN CERTIFICATE").count(), 2, "leaf and CA");
    let refused = operator.refused(&create).await;
    assert_eq!(
        refused,
        (2, "INVALID_ARGUMENT".to_owned()),
        "it is there already"
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), text);

    let with = async |args: &[&str]| {
        let mut command = operator.command(&[args, &["-o", "json"]].concat());
        command
            .env_remove("AUTHGUARDIAN_ADMIN_TOKEN")
            .env("AUTHGUARDIAN_CLIENT_CERTIFICATE", path);
        told(command).await
    };
    let put = with(&["agent", "put", "scout", "--trust", "500"]).await;
    assert_eq!(put.code, 0, "{}", put.stderr);
    let above = with(&["admin-token", "list"]).await;
    assert_eq!(reason(&above), denied());
    // a flag that names a token goes before the certificate
    let token = operator.path("admin-token");
    let list = [
        "admin-token",
        "list",
        "--admin-token-file",
        token.to_str().unwrap(),
    ];
    let listed = with(&list);
    let listed: Value = serde_json::from_str(&listed.await.stdout).unwrap();
    // the clock of this test stands still, so that ids of one moment have no order
    assert!(
        listed["items"].as_array().unwrap().contains(&made),
        "{listed}"
    );
    let id = made["id"].as_str().unwrap();
    let acts: Vec<String> =
        sqlx::query_scalar("SELECT action FROM audit_trail WHERE key_id = $1 AND outcome = 'ok'")
            .bind(id)
            .fetch_all(operator.rig.database.pool())
            .await
            .unwrap();
    assert_eq!(acts, ["agent.put"]);

    operator.json(&["admin-token", "revoke", id]).await;
    let ended = with(&["status"]).await;
    assert_eq!(reason(&ended), (4, "UNAUTHENTICATED".to_owned()));
    fs::write(&file, "rubbish").unwrap();
    let rubbish = with(&["status"]).await;
    assert_eq!(reason(&rubbish), (2, "INVALID_ARGUMENT".to_owned()));
}

/// A followed log, begun.
async fn follow(channel: Channel, token: Option<&str>) -> Streaming<TailEntry> {
    let mut request = Request::new(TailEntriesRequest {
        lines: 1,
        follow: true,
    });
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    let mut client = AuditAdminServiceClient::new(channel);
    let mut stream = client.tail_entries(request).await.unwrap().into_inner();
    stream.message().await.unwrap().expect("it has begun");
    stream
}

type TailEntry = authguardian_proto::audit::v1::TailEntriesResponse;

/// Waits for the end of a stream, and tells how it ended.
async fn end(stream: &mut Streaming<TailEntry>) -> Result<(), Status> {
    let ended = async {
        while stream.message().await?.is_some() {}
        Ok(())
    };
    tokio::time::timeout(DEADLINE, ended)
        .await
        .expect("it ends")
}

#[tokio::test]
async fn a_stream_ends_with_the_token_or_certificate_it_was_begun_with() {
    let serving = Serving::start().await;
    let other = serving.rig.beside().await;
    let identity = &serving.rig.app.identity;
    let hour = Some(time::Duration::hours(1));
    let token = async |ttl| {
        let made = identity.create_admin_token(admin(), "t", Role::Viewer, ttl);
        let (text, info) = made.await.unwrap();
        (text.unwrap(), info.id)
    };
    let (kept, _) = token(None).await;
    let (revoked, revoked_id) = token(hour).await;
    let (expiring, _) = token(hour).await;
    let (certificate, certificate_id) = serving.admin_certificate(Role::Viewer).await;
    let channel = serving.admin().await;
    let certified = serving.admin_by(Some(certificate)).await.unwrap();
    let mut goes_on = follow(channel.clone(), Some(&kept)).await;

    let by_another = async |id: AdminTokenId| {
        let ended = other.app.identity.revoke_admin_token(admin(), id);
        ended.await.unwrap();
    };
    let mut with_token = follow(channel.clone(), Some(&revoked)).await;
    let mut with_certificate = follow(certified, None).await;
    for (stream, id) in [
        (&mut with_token, revoked_id),
        (&mut with_certificate, certificate_id),
    ] {
        by_another(id).await;
        let ended = tokio::time::timeout(Duration::from_secs(1), end(stream)).await;
        let status = ended.expect("within a second").unwrap_err();
        assert_eq!(from_status(&status).reason, Reason::Unauthenticated);
    }

    let mut expires = follow(channel, Some(&expiring)).await;
    serving.rig.clock.advance(Duration::from_secs(3601));
    let status = end(&mut expires).await.expect_err("it ends with a reason");
    assert_eq!(from_status(&status).reason, Reason::Unauthenticated);

    // one whose token is good has been looked at as often, and goes on
    let (_, last) = token(None).await;
    let subject = last.to_string();
    let told = async {
        loop {
            let entries = goes_on.message().await.unwrap().unwrap().entries;
            if entries.iter().any(|entry| entry.subject == subject) {
                break;
            }
        }
    };
    tokio::time::timeout(DEADLINE, told)
        .await
        .expect("it goes on");
    drop((goes_on, with_token, with_certificate, expires));
    serving.stop().await;
}

#[tokio::test]
async fn a_certificate_counts_for_its_own_key_and_while_its_credential_does() {
    let serving = Serving::start().await;
    let path = "/authguardian.status.v1.StatusService/GetStatus";
    let (identity, id) = serving.admin_certificate(Role::Viewer).await;
    let channel = serving.admin_by(Some(identity)).await.unwrap();
    assert_eq!(call(channel.clone(), path, None).await, None);

    // from our own CA and of a good name, but for another key
    let impostor = serving.impostor(id);
    let impostor = serving.admin_by(Some(impostor)).await.unwrap();
    let refused = call(impostor, path, None).await;
    assert_eq!(refused, Some(Reason::Unauthenticated));

    // the row decides, on connections that are open, too
    serving.rig.clock.advance(Duration::from_hours(25));
    let refused = call(channel, path, None).await;
    assert_eq!(refused, Some(Reason::Unauthenticated));
    serving.stop().await;
}
