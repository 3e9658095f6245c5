//! `AdminTokenService`.

use authguardian_proto::{
    identity::v1::{
        AdminToken, CreateAdminTokenRequest, CreateAdminTokenResponse, ListAdminTokensRequest,
        ListAdminTokensResponse, RevokeAdminTokenRequest, RevokeAdminTokenResponse, Role,
        admin_token_service_server::AdminTokenService,
    },
    ids::AdminTokenId,
    reason::Reason,
};
use time::Duration;
use tonic::{Request, Response, Status};

use super::{
    auth,
    convert::{next_page_token, page_size, parse, parse_optional, text, timestamp},
};
use crate::{
    error::Error,
    identity::{self, Identity, ca::RequestedKey},
};

/// How long a token lives unless said otherwise.
const DEFAULT_TTL: u32 = 86_400;

/// The longest that a token may live: a year.
const MAX_TTL: u32 = 31_536_000;

/// See the `.proto` file.
#[derive(Debug)]
pub struct AdminTokens(pub Identity);

#[tonic::async_trait]
impl AdminTokenService for AdminTokens {
    async fn create_admin_token(
        &self,
        request: Request<CreateAdminTokenRequest>,
    ) -> Result<Response<CreateAdminTokenResponse>, Status> {
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let own = auth::role(&request)?;
        let message = request.into_inner();
        let name = text("name", message.name, 1, 100)?;
        let role = role_of(message.role)?;
        if role > own {
            return Err(Error::new(
                Reason::PermissionDenied,
                "a token's role may not be above your own",
            )
            .into());
        }
        let ttl = ttl_of(message.ttl_seconds)?;
        if !message.certificate_request.is_empty() {
            let key = RequestedKey::from_csr(&message.certificate_request)
                .map_err(|_| Error::invalid("certificate_request", "expected PKCS #10, DER"))?;
            let made = self
                .0
                .create_admin_certificate(context, &name, role, ttl, &key)
                .await?;
            return Ok(Response::new(CreateAdminTokenResponse {
                admin_token: String::new(),
                info: Some(message_of(made.info)),
                certificate_chain: made.chain,
            }));
        }
        let (secret, info) = self
            .0
            .create_admin_token(context, &name, role, Some(ttl))
            .await?;
        Ok(Response::new(CreateAdminTokenResponse {
            admin_token: secret.map(|secret| secret.to_string()).unwrap_or_default(),
            info: Some(message_of(info)),
            certificate_chain: Vec::new(),
        }))
    }

    async fn list_admin_tokens(
        &self,
        request: Request<ListAdminTokensRequest>,
    ) -> Result<Response<ListAdminTokensResponse>, Status> {
        let message = request.into_inner();
        let size = page_size(message.page_size)?;
        let before: Option<AdminTokenId> = parse_optional("page_token", &message.page_token)?;
        let tokens = self.0.list_admin_tokens(before, i64::from(size)).await?;
        Ok(Response::new(ListAdminTokensResponse {
            next_page_token: next_page_token(&tokens, size, |token| token.id.to_string()),
            admin_tokens: tokens.into_iter().map(message_of).collect(),
        }))
    }

    async fn revoke_admin_token(
        &self,
        request: Request<RevokeAdminTokenRequest>,
    ) -> Result<Response<RevokeAdminTokenResponse>, Status> {
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let id = parse("admin_token_id", &request.into_inner().admin_token_id)?;
        let info = self.0.revoke_admin_token(context, id).await?;
        Ok(Response::new(RevokeAdminTokenResponse {
            admin_token: Some(message_of(info)),
        }))
    }
}

/// How long a credential is to live.
pub(super) fn ttl_of(seconds: u32) -> Result<Duration, Error> {
    let seconds = match seconds {
        0 => DEFAULT_TTL,
        60..=MAX_TTL => seconds,
        _ => {
            return Err(Error::invalid(
                "ttl_seconds",
                "expected 60 to 31,536,000, or 0 for 86,400",
            ));
        }
    };
    Ok(Duration::seconds(i64::from(seconds)))
}

fn role_of(role: i32) -> Result<identity::Role, Error> {
    match Role::try_from(role) {
        Ok(Role::Viewer) => Ok(identity::Role::Viewer),
        Ok(Role::Approver) => Ok(identity::Role::Approver),
        Ok(Role::Operator) => Ok(identity::Role::Operator),
        Ok(Role::Admin) => Ok(identity::Role::Admin),
        Ok(Role::Unspecified) | Err(_) => Err(Error::invalid(
            "role",
            "expected `viewer`, `approver`, `operator` or `admin`",
        )),
    }
}

/// A credential as listed.
pub(super) fn message_of(token: identity::AdminToken) -> AdminToken {
    AdminToken {
        id: token.id.to_string(),
        name: token.name,
        role: match token.role {
            identity::Role::Viewer => Role::Viewer,
            identity::Role::Approver => Role::Approver,
            identity::Role::Operator => Role::Operator,
            identity::Role::Admin => Role::Admin,
        }
        .into(),
        created_at: Some(timestamp(token.created_at)),
        expires_at: token.expires_at.map(timestamp),
        revoked_at: token.revoked_at.map(timestamp),
        certificate: token.certificate,
    }
}
