//! Sessions of the command line: got by signing a nonce, so that the API key
//! never leaves this process, and kept in a file that only its owner can read.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use authguardian_proto::{
    credential::ApiKey,
    ids::ApiKeyId,
    reason::{Problem, Reason},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Failure, edge::Edge};
use crate::{
    clock::Ambient,
    files::{make_private_dir, replace},
};

/// A kept session is renewed when it was got longer ago; it lives for fifteen
/// minutes.
const RENEW_AFTER_SECONDS: i64 = 5 * 60;

/// What `login` and `connect` keep.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Kept {
    /// The edge, for verbs that name none.
    pub(super) server: String,
    /// Who can vouch for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ca_file: Option<PathBuf>,
    /// The session there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) session: Option<Session>,
}

/// A session at an edge.
#[derive(Serialize, Deserialize)]
pub(super) struct Session {
    #[serde(rename = "session_token")]
    token: String,
    #[serde(rename = "session_id")]
    pub(super) id: String,
    pub(super) api_key_id: ApiKeyId,
    /// By the clock of this host, seconds since 1970.
    got_at: i64,
}

impl Session {
    /// The credential.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// Reads what the edge tells of a session that it has made.
    fn read(told: &Value, now: i64) -> Result<Self, Failure> {
        let text = |name: &str| told[name].as_str().map(str::to_owned);
        let read = || {
            Some(Self {
                token: text("session_token")?,
                id: text("session_id")?,
                api_key_id: text("api_key_id")?.parse().ok()?,
                got_at: now,
            })
        };
        read().ok_or_else(|| Failure::other("the edge's answer tells of no session"))
    }

    /// Whether it should be renewed before it is used.
    pub(super) fn is_due(&self, now: i64) -> bool {
        !(0..RENEW_AFTER_SECONDS).contains(&(now - self.got_at))
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Proves a key to an edge, which gets a signature and nothing else of it;
/// returns what it tells of the session, without its token.
pub(super) async fn log_in(edge: &Edge, key: &ApiKey) -> Result<(Session, Value), Failure> {
    let asked = json!({ "api_key_id": key.id() });
    let challenge = edge
        .send(Method::POST, "/auth/challenge", None, Some(&asked))
        .await?
        .ok()?;
    let nonce = challenge["nonce"]
        .as_str()
        .and_then(|text| STANDARD.decode(text).ok())
        .ok_or_else(|| Failure::other("the edge's answer holds no nonce"))?;
    let signature = key.sign_nonce(&nonce).ok_or_else(|| {
        let detail = "the API key is not a usable Ed25519 seed";
        Failure::from(Problem::new(Reason::SignatureInvalid, detail))
    })?;
    let signed = json!({
        "api_key_id": key.id(),
        "nonce": STANDARD.encode(&nonce),
        "signature": STANDARD.encode(&signature),
    });
    let made = edge
        .send(Method::POST, "/auth/session", None, Some(&signed))
        .await?
        .ok()?;
    taken(made)
}

/// Another token of a session; `None` when it has ended.
pub(super) async fn renew(edge: &Edge, session: &Session) -> Result<Option<Session>, Failure> {
    let path = "/auth/session/renew";
    let reply = edge
        .send(Method::POST, path, Some(session.token()), None)
        .await?;
    if reply.reason().is_some_and(means_ended) {
        return Ok(None);
    }
    Ok(Some(taken(reply.ok()?)?.0))
}

/// Whether a refusal says that a session is of no use any more.
pub(super) fn means_ended(reason: Reason) -> bool {
    // of an installation that is gone: not even its own
    matches!(reason, Reason::SessionExpired | Reason::Unauthenticated)
}

fn taken(mut told: Value) -> Result<(Session, Value), Failure> {
    let session = Session::read(&told, now()?)?;
    if let Some(fields) = told.as_object_mut() {
        fields.remove("session_token");
    }
    Ok((session, told))
}

/// Seconds since 1970.
pub(super) fn now() -> Result<i64, Failure> {
    let ambient = Ambient::system().map_err(Failure::other)?;
    Ok(ambient.clock.now().unix_timestamp())
}

/// Where sessions are kept, unless a flag says otherwise: a directory that is
/// gone when its user has logged out of this host, where there is one.
pub(super) fn default_file(variable: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let dir = |name: &str| {
        variable(name)
            .map(PathBuf::from)
            .filter(|dir| dir.is_absolute())
    };
    let base = dir("XDG_RUNTIME_DIR")
        .or_else(|| dir("XDG_STATE_HOME"))
        .or_else(|| Some(dir("HOME")?.join(".local/state")))?;
    Some(base.join("authguardian/session.json"))
}

/// What is kept; `None` when nothing is.
pub(super) fn load(path: &Path) -> Result<Option<Kept>, Failure> {
    let unusable = |error: &dyn std::fmt::Display| {
        Failure::usage(format!("cannot use `{}`: {error}", path.display()))
    };
    let text = match fs::read_to_string(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unusable(&error)),
    };
    let mode = fs::metadata(path)
        .map_err(|error| unusable(&error))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        return Err(unusable(&"others can read it; remove it and log in again"));
    }
    serde_json::from_str(&text).map_err(|error| unusable(&error))
}

/// Keeps it, mode 0600.
pub(super) fn store(path: &Path, kept: &Kept) -> Result<(), Failure> {
    let text = Zeroizing::new(serde_json::to_string(kept).map_err(Failure::other)?);
    let written = path
        .parent()
        .map_or(Ok(()), make_private_dir)
        .and_then(|()| replace(path, text.as_bytes()));
    written.map_err(|error| Failure::other(format!("cannot write `{}`: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        let told = json!({"session_token": "a.b.c", "session_id": "ses_1",
            "api_key_id": "apk_0000000000000000000001"});
        Session::read(&told, 1000).unwrap()
    }

    #[test]
    fn a_session_is_kept_for_its_owner_only_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("authguardian/session.json");
        assert!(load(&path).unwrap().is_none());
        let kept = Kept {
            server: "http://127.0.0.1:3001".into(),
            ca_file: None,
            session: Some(session()),
        };
        assert!(!format!("{kept:?}").contains("a.b.c"));
        store(&path, &kept).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let read = load(&path).unwrap().unwrap();
        assert_eq!(read.session.unwrap().token(), "a.b.c");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(load(&path).is_err(), "others can read it");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "{").unwrap();
        assert!(load(&path).is_err());
    }

    #[test]
    fn a_session_is_due_after_five_minutes_and_when_the_clock_was_set_back() {
        let session = session();
        assert!(!session.is_due(1000));
        assert!(!session.is_due(1299));
        assert!(session.is_due(1300));
        assert!(session.is_due(999));
    }

    #[test]
    fn sessions_are_kept_where_they_go_with_the_login_to_this_host() {
        let with = |set: &'static [(&str, &str)]| {
            let value = move |name: &str| {
                let found = set.iter().find(|(set, _)| *set == name)?;
                Some(found.1.to_owned())
            };
            default_file(value).map(|path| path.display().to_string())
        };
        let all = &[("XDG_RUNTIME_DIR", "/run/user/7"), ("HOME", "/home/a")];
        assert_eq!(with(all).unwrap(), "/run/user/7/authguardian/session.json");
        assert_eq!(
            with(&[("XDG_RUNTIME_DIR", ""), ("HOME", "/home/a")]).unwrap(),
            "/home/a/.local/state/authguardian/session.json"
        );
        assert_eq!(with(&[]), None);
    }
}
