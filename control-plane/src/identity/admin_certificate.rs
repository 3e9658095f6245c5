//! Admins who show a client certificate instead of a token. Its key never
//! leaves whoever made it; the certificate only names the credential, whose
//! role, end and revocation stand in the same row as a token's.

use authguardian_proto::{credential::sha256, ids::AdminTokenId};
use serde::{Deserialize, Serialize};
use time::Duration;

use super::{AdminToken, Identity, Role, admin::refused, ca::RequestedKey, store};
use crate::{
    audit::{self, Context, Entry},
    db::request::Begun,
    error::Result,
};

/// What a verified client certificate says of an admin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdminCertificate {
    /// Which credential it names.
    pub id: AdminTokenId,
    /// SHA-256 of its `SubjectPublicKeyInfo`.
    pub key: [u8; 32],
}

/// A credential and its certificate; none of it is secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertifiedAdmin {
    /// The credential as listed.
    pub info: AdminToken,
    /// DER, leaf first.
    pub chain: Vec<Vec<u8>>,
}

impl Identity {
    /// Certifies an admin's key as `spiffe://<trust domain>/admin/<adm_id>`,
    /// by the active CA: the certificate also ends with that CA.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn create_admin_certificate(
        &self,
        context: Context,
        name: &str,
        role: Role,
        ttl: Duration,
        requested: &RequestedKey,
    ) -> Result<CertifiedAdmin> {
        let now = self.ambient.clock.now();
        let public_key = requested.spki();
        let asked = (name, role, ttl.whole_seconds(), &public_key);
        let key =
            context.request_key(&self.ambient, "identity.create_admin_certificate", &asked)?;
        let mut request = match self.db.begin_request(key, now).await? {
            Begun::Told(made) => return Ok(made),
            Begun::New(request) => request,
        };
        let info = AdminToken {
            id: AdminTokenId::from_uuid(self.ambient.uuid()),
            name: name.to_owned(),
            role,
            certificate: true,
            created_at: now,
            expires_at: Some(now + ttl),
            revoked_at: None,
        };
        let keyring = self.keyring();
        let chain = keyring.ca().certify_admin(
            &self.settings.trust_domain,
            info.id,
            requested,
            &self.ambient.entropy,
            now,
            now + ttl,
        )?;
        let connection = request.connection();
        let ca = keyring.ca_id();
        store::insert_admin_certificate(connection, &info, &public_key, ca).await?;
        let entry = Entry::ok(context, "admin_token.create", info.id.to_string());
        audit::append(connection, now, &[entry]).await?;
        let made = CertifiedAdmin {
            info,
            chain: chain.iter().map(|der| der.to_vec()).collect(),
        };
        request.finish(&made).await?;
        Ok(made)
    }

    /// Who shows this certificate.
    ///
    /// # Errors
    /// `UNAUTHENTICATED`, the same for one that was revoked or has expired, and
    /// for one of another key.
    pub async fn authenticate_admin_certificate(
        &self,
        shown: AdminCertificate,
    ) -> Result<(AdminTokenId, Role)> {
        let stored = store::admin_token(&mut *self.db.read().await?, shown.id).await?;
        match stored {
            Some((info, store::Proof::Certificate(key)))
                if sha256(&key) == shown.key && info.is_good(self.ambient.clock.now()) =>
            {
                Ok((info.id, info.role))
            }
            _ => Err(refused()),
        }
    }
}
