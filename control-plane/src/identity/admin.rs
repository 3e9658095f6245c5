//! Admins: credentials with a role. A token is kept as its hash; see
//! `admin_certificate` for the other kind.

use authguardian_proto::{credential, ids::AdminTokenId, reason::Reason};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use super::{Identity, store};
use crate::{
    audit::{self, Context, Entry},
    clock::Ambient,
    db::{
        Db,
        batch::{self, Served},
        request::Begun,
    },
    error::{Error, Result},
};

/// What an admin may do. Ordered: each role may do all that a smaller one may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Decides pending requests.
    Approver,
    /// Runs the system: machines, agents, revocations.
    Operator,
    /// Owns it: keys, policies, admin tokens.
    Admin,
}

impl Role {
    /// All of them, smallest first.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Approver, Self::Operator, Self::Admin];

    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Approver => "approver",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// Reads the stable name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

/// What an admin shows, as listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminToken {
    /// Its id.
    pub id: AdminTokenId,
    /// For people.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Whether it is a client certificate, and no token.
    #[serde(default)]
    pub certificate: bool,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// `None`: never.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    /// `None`: not revoked.
    #[serde(with = "time::serde::rfc3339::option")]
    pub revoked_at: Option<OffsetDateTime>,
}

impl AdminToken {
    /// Whether it counts at a time.
    pub fn is_good(&self, now: OffsetDateTime) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| end > now)
    }
}

impl Identity {
    /// Makes a token. Its text is told once: a repeat of the request gets the
    /// listing alone. `ttl` `None`: never ends.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn create_admin_token(
        &self,
        context: Context,
        name: &str,
        role: Role,
        ttl: Option<Duration>,
    ) -> Result<(Option<Zeroizing<String>>, AdminToken)> {
        let now = self.ambient.clock.now();
        let asked = (name, role, ttl.map(Duration::whole_seconds));
        let key = context.request_key(&self.ambient, "identity.create_admin_token", &asked)?;
        let mut request = match self.db.begin_request(key, now).await? {
            Begun::Told(info) => return Ok((None, info)),
            Begun::New(request) => request,
        };
        let secret = credential::AdminToken::new(
            AdminTokenId::from_uuid(self.ambient.uuid()),
            self.ambient.entropy.bytes(),
        );
        let info = AdminToken {
            id: secret.id(),
            name: name.to_owned(),
            role,
            certificate: false,
            created_at: now,
            expires_at: ttl.map(|ttl| now + ttl),
            revoked_at: None,
        };
        store::insert_admin_token(request.connection(), &info, &secret.hash()).await?;
        let entry = Entry::ok(context, "admin_token.create", info.id.to_string());
        audit::append(request.connection(), now, &[entry]).await?;
        request.finish(&info).await?;
        Ok((Some(secret.expose()), info))
    }

    /// Lists tokens and certificates, newest first, before an id.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn list_admin_tokens(
        &self,
        before: Option<AdminTokenId>,
        limit: i64,
    ) -> Result<Vec<AdminToken>> {
        store::list_admin_tokens(&mut *self.db.read().await?, before, limit).await
    }

    /// Ends a token or a certificate. Revoking twice succeeds.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` (`admin_token_id`) when there is none.
    pub async fn revoke_admin_token(
        &self,
        context: Context,
        id: AdminTokenId,
    ) -> Result<AdminToken> {
        let now = self.ambient.clock.now();
        let key = context.request_key(&self.ambient, "identity.revoke_admin_token", &id)?;
        let mut request = match self.db.begin_revocation_request(key, now).await? {
            Begun::Told(info) => return Ok(info),
            Begun::New(request) => request,
        };
        let info = store::revoke_admin_token(request.connection(), id, now)
            .await?
            .ok_or_else(|| {
                Error::invalid("admin_token_id", format!("there is no admin token `{id}`"))
            })?;
        audit::append(
            request.connection(),
            now,
            &[Entry::ok(context, "admin_token.revoke", id.to_string())],
        )
        .await?;
        request.finish(&info).await?;
        Ok(info)
    }

    /// Who shows this token.
    ///
    /// # Errors
    /// `UNAUTHENTICATED`, the same for an unknown, a wrong, an expired and a
    /// revoked one.
    pub async fn authenticate_admin(
        &self,
        token: &credential::AdminToken,
    ) -> Result<(AdminTokenId, Role)> {
        let stored = store::admin_token(&mut *self.db.read().await?, token.id()).await?;
        match stored {
            Some((info, store::Proof::Token(hash)))
                if verify_slices_are_equal(&hash, &token.hash()).is_ok() =>
            {
                if info.is_good(self.ambient.clock.now()) {
                    Ok((info.id, info.role))
                } else {
                    Err(refused().caused_by("it was revoked or has expired"))
                }
            }
            _ => Err(refused()),
        }
    }

    /// Whether a credential that was good still is; those who ask at the same
    /// time share a look.
    ///
    /// # Errors
    /// `UNAUTHENTICATED`; `UNAVAILABLE` when nobody can say now.
    pub async fn check_admin(&self, id: AdminTokenId) -> Result<()> {
        self.admin_checks.call(id).await
    }
}

pub(super) fn refused() -> Error {
    Error::new(
        Reason::Unauthenticated,
        "this admin credential is not good here",
    )
}

/// Looks at credentials again.
pub(super) struct Check {
    db: Db,
    ambient: Ambient,
}

impl Check {
    pub(super) fn new(db: Db, ambient: Ambient) -> Self {
        Self { db, ambient }
    }
}

impl batch::Operation for Check {
    type Request = AdminTokenId;
    type Reply = ();

    fn db(&self) -> Option<&Db> {
        Some(&self.db)
    }

    #[tracing::instrument(name = "identity.check_admin", skip_all, fields(batch = ids.len()))]
    async fn run(&self, ids: &[AdminTokenId]) -> Result<Served<()>> {
        let now = self.ambient.clock.now();
        let good = store::good_admins(&mut *self.db.read().await?, ids, now).await?;
        let replies = ids.iter().map(|id| {
            if good.contains(id) {
                Ok(())
            } else {
                Err(Error::new(
                    Reason::Unauthenticated,
                    "this admin credential has ended",
                ))
            }
        });
        Ok(Served::now(replies.collect()))
    }
}
