//! `SigningKeyAdminService`.

use authguardian_proto::identity::v1::{
    ActivateSigningKeyRequest, ActivateSigningKeyResponse, GetCaBundleRequest, GetCaBundleResponse,
    ListSigningKeysRequest, ListSigningKeysResponse, PrepareSigningKeyRequest,
    PrepareSigningKeyResponse, RetireSigningKeyRequest, RetireSigningKeyResponse, SigningKey,
    SigningKeyPurpose, SigningKeyState, signing_key_admin_service_server::SigningKeyAdminService,
};
use tonic::{Request, Response, Status};

use super::{
    auth,
    convert::{parse, timestamp},
};
use crate::{
    error::{Error, Result as Outcome},
    identity::{self, Identity, KeyState, Purpose},
};

/// See the `.proto` file.
#[derive(Debug)]
pub struct SigningKeys(pub Identity);

#[tonic::async_trait]
impl SigningKeyAdminService for SigningKeys {
    async fn list_signing_keys(
        &self,
        request: Request<ListSigningKeysRequest>,
    ) -> Result<Response<ListSigningKeysResponse>, Status> {
        let purpose = purpose_of(request.into_inner().purpose)?;
        let keys = self.0.list_signing_keys(purpose).await?;
        Ok(Response::new(ListSigningKeysResponse {
            signing_keys: keys.iter().map(message_of).collect(),
        }))
    }

    async fn prepare_signing_key(
        &self,
        request: Request<PrepareSigningKeyRequest>,
    ) -> Result<Response<PrepareSigningKeyResponse>, Status> {
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let purpose = purpose_of(request.into_inner().purpose)?.ok_or_else(unknown_purpose)?;
        let key = self.0.prepare_signing_key(context, purpose).await?;
        let left = self.0.publication_seconds_left(&key);
        Ok(Response::new(PrepareSigningKeyResponse {
            publication_seconds_left: u32::try_from(left).unwrap_or(u32::MAX),
            signing_key: Some(message_of(&key)),
        }))
    }

    async fn activate_signing_key(
        &self,
        request: Request<ActivateSigningKeyRequest>,
    ) -> Result<Response<ActivateSigningKeyResponse>, Status> {
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let message = request.into_inner();
        let id = parse("key_id", &message.key_id)?;
        let changed = self.0.activate_signing_key(context, id, message.force);
        let (active, retired) = changed.await?;
        Ok(Response::new(ActivateSigningKeyResponse {
            active: Some(message_of(&active)),
            retired: retired.as_ref().map(message_of),
        }))
    }

    async fn retire_signing_key(
        &self,
        request: Request<RetireSigningKeyRequest>,
    ) -> Result<Response<RetireSigningKeyResponse>, Status> {
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let message = request.into_inner();
        let id = parse("key_id", &message.key_id)?;
        let retired = self.0.retire_signing_key(context, id, message.force);
        Ok(Response::new(RetireSigningKeyResponse {
            signing_key: Some(message_of(&retired.await?)),
        }))
    }

    async fn get_ca_bundle(
        &self,
        _: Request<GetCaBundleRequest>,
    ) -> Result<Response<GetCaBundleResponse>, Status> {
        Ok(Response::new(GetCaBundleResponse {
            ca_certificates_der: self.0.trust_bundle().await?.certificates,
        }))
    }
}

/// `None`: not told.
fn purpose_of(purpose: i32) -> Outcome<Option<Purpose>> {
    match SigningKeyPurpose::try_from(purpose) {
        Ok(SigningKeyPurpose::Unspecified) => Ok(None),
        Ok(SigningKeyPurpose::Ca) => Ok(Some(Purpose::Ca)),
        Ok(SigningKeyPurpose::Grant) => Ok(Some(Purpose::Grant)),
        Ok(SigningKeyPurpose::Session) => Ok(Some(Purpose::Session)),
        Ok(SigningKeyPurpose::Audit) => Ok(Some(Purpose::Audit)),
        Err(_) => Err(unknown_purpose()),
    }
}

fn unknown_purpose() -> Error {
    Error::invalid("purpose", "expected `ca`, `grant` or `session`")
}

fn message_of(key: &identity::SigningKey) -> SigningKey {
    let purpose = match key.purpose {
        Purpose::Ca => SigningKeyPurpose::Ca,
        Purpose::Grant => SigningKeyPurpose::Grant,
        Purpose::Session => SigningKeyPurpose::Session,
        Purpose::Audit => SigningKeyPurpose::Audit,
    };
    let state = match key.state {
        KeyState::Prepared => SigningKeyState::Prepared,
        KeyState::Active => SigningKeyState::Active,
        KeyState::Retired => SigningKeyState::Retired,
    };
    SigningKey {
        id: key.id.to_string(),
        purpose: purpose.into(),
        state: state.into(),
        created_at: Some(timestamp(key.created_at)),
        activated_at: key.activated_at.map(timestamp),
        retired_at: key.retired_at.map(timestamp),
        accepted_until: key.accepted_until.map(timestamp),
        dropped_at: key.dropped_at.map(timestamp),
    }
}
