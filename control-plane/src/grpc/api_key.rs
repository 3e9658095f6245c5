//! `ApiKeyService`.

use authguardian_proto::{
    identity::v1::{
        ApiKey, CreateApiKeyRequest, CreateApiKeyResponse, ListApiKeysRequest, ListApiKeysResponse,
        RevokeApiKeyRequest, RevokeApiKeyResponse, api_key_service_server::ApiKeyService,
    },
    ids::{AgentId, ApiKeyId},
};
use tonic::{Request, Response, Status};

use super::{
    auth,
    convert::{next_page_token, page_size, parse, parse_optional, text, time, timestamp},
};
use crate::{
    error::Error,
    identity::{self, Identity, api_key::NewApiKey},
};

/// Most agents that one key may speak for.
const MAX_AGENTS: usize = 100;

/// See the `.proto` file.
#[derive(Debug)]
pub struct ApiKeys(pub Identity);

#[tonic::async_trait]
impl ApiKeyService for ApiKeys {
    async fn create_api_key(
        &self,
        request: Request<CreateApiKeyRequest>,
    ) -> Result<Response<CreateApiKeyResponse>, Status> {
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let message = request.into_inner();
        let mut agent_ids = message
            .agent_ids
            .iter()
            .map(|agent| parse("agent_ids", agent))
            .collect::<Result<Vec<AgentId>, _>>()?;
        agent_ids.sort_unstable();
        agent_ids.dedup();
        if agent_ids.is_empty() || agent_ids.len() > MAX_AGENTS {
            return Err(
                Error::invalid("agent_ids", format!("expected 1 to {MAX_AGENTS} agents")).into(),
            );
        }
        let new = NewApiKey {
            name: text("name", message.name, 1, 100)?,
            public_key: message.public_key.try_into().map_err(|_| {
                Error::invalid("public_key", "expected an Ed25519 public key, 32 bytes")
            })?,
            agent_ids,
            validator: message.validator,
            expires_at: message
                .expires_at
                .map(|end| time("expires_at", end))
                .transpose()?,
        };
        let api_key = self.0.create_api_key(context, new).await?;
        Ok(Response::new(CreateApiKeyResponse {
            api_key: Some(message_of(api_key)),
        }))
    }

    async fn list_api_keys(
        &self,
        request: Request<ListApiKeysRequest>,
    ) -> Result<Response<ListApiKeysResponse>, Status> {
        let message = request.into_inner();
        let size = page_size(message.page_size)?;
        let before: Option<ApiKeyId> = parse_optional("page_token", &message.page_token)?;
        let keys = self.0.list_api_keys(before, i64::from(size)).await?;
        Ok(Response::new(ListApiKeysResponse {
            next_page_token: next_page_token(&keys, size, |key| key.id.to_string()),
            api_keys: keys.into_iter().map(message_of).collect(),
        }))
    }

    async fn revoke_api_key(
        &self,
        request: Request<RevokeApiKeyRequest>,
    ) -> Result<Response<RevokeApiKeyResponse>, Status> {
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let id = parse("api_key_id", &request.into_inner().api_key_id)?;
        let api_key = self.0.revoke_api_key(context, id).await?;
        Ok(Response::new(RevokeApiKeyResponse {
            api_key: Some(message_of(api_key)),
        }))
    }
}

fn message_of(key: identity::ApiKey) -> ApiKey {
    ApiKey {
        id: key.id.to_string(),
        name: key.name,
        agent_ids: key.agent_ids.iter().map(ToString::to_string).collect(),
        validator: key.validator,
        created_at: Some(timestamp(key.created_at)),
        expires_at: key.expires_at.map(timestamp),
        revoked_at: key.revoked_at.map(timestamp),
    }
}
