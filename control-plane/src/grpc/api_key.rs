//! `ApiKeyService`.

use std::collections::{BTreeMap, BTreeSet};

use authguardian_proto::{
    identity::v1::{
        ApiKey, CreateApiKeyRequest, CreateApiKeyResponse, GetApiKeyRequest, GetApiKeyResponse,
        ListApiKeysRequest, ListApiKeysResponse, RateLimit as PbLimit, RevokeApiKeyRequest,
        RevokeApiKeyResponse, UpdateApiKeyRequest, UpdateApiKeyResponse,
        api_key_service_server::ApiKeyService,
    },
    ids::{AgentId, ApiKeyId},
    network::{Network, Networks},
    rate::{RateLimit, RateLimits},
};
use tonic::{Request, Response, Status};

use super::{
    auth,
    convert::{next_page_token, page_size, parse, parse_optional, text, time, timestamp},
    rate,
};
use crate::{
    error::{Error, Result as OurResult},
    identity::{
        self, Identity,
        api_key::{KeyChanges, MaybeLimit, NewApiKey},
    },
};

/// Most agents that one key may speak for.
const MAX_AGENTS: usize = 100;

/// Most networks that one key may be used from.
const MAX_NETWORKS: usize = 100;

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
        let all = limit_of_all(message.rate_limit, message.no_rate_limit)?;
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
            rate_limits: RateLimits {
                all: all.unwrap_or(Some(RateLimit::DEFAULT)),
                tools: rate::tool_limits(&message.tool_rate_limits)?,
            },
            allowed_networks: networks(&message.allowed_networks)?,
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

    async fn get_api_key(
        &self,
        request: Request<GetApiKeyRequest>,
    ) -> Result<Response<GetApiKeyResponse>, Status> {
        let id = parse("api_key_id", &request.into_inner().api_key_id)?;
        let api_key = self.0.get_api_key(id).await?;
        Ok(Response::new(GetApiKeyResponse {
            api_key: Some(message_of(api_key)),
        }))
    }

    async fn update_api_key(
        &self,
        request: Request<UpdateApiKeyRequest>,
    ) -> Result<Response<UpdateApiKeyResponse>, Status> {
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let message = request.into_inner();
        let id = parse("api_key_id", &message.api_key_id)?;
        let api_key = self
            .0
            .update_api_key(context, id, changes(&message)?)
            .await?;
        Ok(Response::new(UpdateApiKeyResponse {
            api_key: Some(message_of(api_key)),
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

fn changes(message: &UpdateApiKeyRequest) -> OurResult<KeyChanges> {
    let mut tools: BTreeMap<_, _> = rate::tool_limits(&message.tool_rate_limits)?
        .into_iter()
        .map(|(tool, limit)| (tool, Some(limit)))
        .collect();
    for tool in &message.no_tool_rate_limits {
        rate::check_tool("no_tool_rate_limits", tool)?;
        if tools.insert(tool.clone(), None).is_some() {
            let detail = format!("`{tool}` cannot have a limit and none");
            return Err(Error::invalid("no_tool_rate_limits", detail));
        }
    }
    if message.any_network && !message.allowed_networks.is_empty() {
        let detail = "a key for any network has no list of networks";
        return Err(Error::invalid("allowed_networks", detail));
    }
    let listed = message.any_network || !message.allowed_networks.is_empty();
    let changes = KeyChanges {
        rate_limit: limit_of_all(message.rate_limit, message.no_rate_limit)?,
        tool_rate_limits: tools,
        allowed_networks: listed
            .then(|| networks(&message.allowed_networks))
            .transpose()?,
    };
    if changes.are_none() {
        let detail = "expected a limit or networks to change";
        return Err(Error::invalid("rate_limit", detail));
    }
    Ok(changes)
}

/// `None`: nothing was said.
fn limit_of_all(given: Option<PbLimit>, none: bool) -> OurResult<Option<MaybeLimit>> {
    match (given, none) {
        (Some(_), true) => Err(Error::invalid(
            "rate_limit",
            "a key without a limit of all calls has no such limit",
        )),
        (Some(limit), false) => Ok(Some(Some(rate::limit("rate_limit", limit)?))),
        (None, true) => Ok(Some(None)),
        (None, false) => Ok(None),
    }
}

fn networks(texts: &[String]) -> OurResult<Networks> {
    const FIELD: &str = "allowed_networks";
    if texts.len() > MAX_NETWORKS {
        let detail = format!("expected at most {MAX_NETWORKS} networks");
        return Err(Error::invalid(FIELD, detail));
    }
    let read = |text: &String| {
        text.parse::<Network>()
            .map_err(|error| Error::invalid(FIELD, error.to_string()))
    };
    let networks: BTreeSet<Network> = texts.iter().map(read).collect::<OurResult<_>>()?;
    Ok(networks.into_iter().collect())
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
        rate_limit: key.rate_limits.all.map(rate::message_of),
        tool_rate_limits: rate::tool_messages(&key.rate_limits),
        allowed_networks: key
            .allowed_networks
            .iter()
            .map(ToString::to_string)
            .collect(),
    }
}
