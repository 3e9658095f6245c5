//! `JoinTokenService`.

use authguardian_proto::{
    identity::v1::{
        CreateJoinTokenRequest, CreateJoinTokenResponse, JoinToken, ListJoinTokensRequest,
        ListJoinTokensResponse, join_token_service_server::JoinTokenService,
    },
    ids::JoinTokenId,
    zone::Zone,
};
use time::Duration;
use tonic::{Request, Response, Status};

use super::{
    auth,
    convert::{next_page_token, page_size, parse, parse_optional, timestamp},
    machine,
};
use crate::{
    error::Error,
    identity::{
        self, Identity, Serves, Terms,
        join::{DEFAULT_TTL, NewJoinToken},
    },
};

/// See the `.proto` file.
#[derive(Debug)]
pub struct JoinTokens(pub Identity);

#[tonic::async_trait]
impl JoinTokenService for JoinTokens {
    async fn create_join_token(
        &self,
        request: Request<CreateJoinTokenRequest>,
    ) -> Result<Response<CreateJoinTokenResponse>, Status> {
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let message = request.into_inner();
        let machine_name = parse("machine_name", &message.machine_name)?;
        let ttl = match message.ttl_seconds {
            0 => DEFAULT_TTL,
            seconds @ 60..=86_400 => Duration::seconds(i64::from(seconds)),
            _ => {
                return Err(
                    Error::invalid("ttl_seconds", "expected 60 to 86,400, or 0 for 600").into(),
                );
            }
        };
        let terms = Terms {
            max_zone: machine::max_zone(message.max_zone)?.unwrap_or(Zone::LocalMachine),
            agents: message
                .agents
                .as_ref()
                .map_or(Ok(Serves::Any), machine::agents)?,
            server_names: machine::server_names(&message.server_names)?,
        };
        let new = NewJoinToken {
            machine_name,
            ttl,
            terms,
        };
        let (text, info) = self.0.create_join_token(context, new).await?;
        Ok(Response::new(CreateJoinTokenResponse {
            join_token: text.map(|text| text.to_string()).unwrap_or_default(),
            info: Some(message_of(info)),
        }))
    }

    async fn list_join_tokens(
        &self,
        request: Request<ListJoinTokensRequest>,
    ) -> Result<Response<ListJoinTokensResponse>, Status> {
        let message = request.into_inner();
        let size = page_size(message.page_size)?;
        let before: Option<JoinTokenId> = parse_optional("page_token", &message.page_token)?;
        let tokens = self.0.list_join_tokens(before, i64::from(size)).await?;
        Ok(Response::new(ListJoinTokensResponse {
            next_page_token: next_page_token(&tokens, size, |token| token.id.to_string()),
            join_tokens: tokens.into_iter().map(message_of).collect(),
        }))
    }
}

fn message_of(token: identity::JoinToken) -> JoinToken {
    JoinToken {
        id: token.id.to_string(),
        machine_name: token.machine_name,
        created_at: Some(timestamp(token.created_at)),
        expires_at: Some(timestamp(token.expires_at)),
        used_at: token.used_at.map(timestamp),
        max_zone: token.terms.max_zone.to_proto().into(),
        agents: Some(machine::agents_message(&token.terms.agents)),
        server_names: machine::name_texts(&token.terms.server_names),
    }
}
