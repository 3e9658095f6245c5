//! The first admin, made by whoever owns the machine.

use authguardian_proto::{ids::AdminTokenId, reason::Reason};
use time::Duration;

use super::{AdminToken, Identity, Role, store};
use crate::{
    audit::{self, Context, Entry},
    db::request::Begun,
    error::{Error, Result},
};

impl Identity {
    /// Makes a token of role `admin`, while there is no good credential of
    /// that role. `hash` is SHA-256 of the token's secret, which the caller has
    /// made: a lost answer can be asked for again and loses nothing.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` when there is an admin.
    pub async fn create_first_admin(
        &self,
        context: Context,
        name: &str,
        hash: &[u8; 32],
        ttl: Duration,
    ) -> Result<AdminToken> {
        let now = self.ambient.clock.now();
        let asked = (name, hash, ttl.whole_seconds());
        let key = context.request_key(&self.ambient, "identity.create_first_admin", &asked)?;
        let mut request = match self.db.begin_request(key, now).await? {
            Begun::Told(info) => return Ok(info),
            Begun::New(request) => request,
        };
        let connection = request.connection();
        // a second one that comes at the same time waits, and finds the first
        store::lock_admin_tokens(connection).await?;
        if store::has_admin(connection, now).await? {
            return Err(Error::new(
                Reason::PermissionDenied,
                "there is an admin already: who has that credential makes others, by `admin-token create`",
            ));
        }
        let info = AdminToken {
            id: AdminTokenId::from_uuid(self.ambient.uuid()),
            name: name.to_owned(),
            role: Role::Admin,
            certificate: false,
            created_at: now,
            expires_at: Some(now + ttl),
            revoked_at: None,
        };
        store::insert_admin_token(connection, &info, hash).await?;
        let entry = Entry::ok(context, "admin_token.bootstrap", info.id.to_string());
        audit::append(connection, now, &[entry]).await?;
        request.finish(&info).await?;
        Ok(info)
    }
}
