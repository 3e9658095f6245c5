//! `SessionService`.

use authguardian_proto::{
    identity::v1::{
        CreateChallengeRequest, CreateChallengeResponse, CreateSessionRequest,
        CreateSessionResponse, EndSessionRequest, EndSessionResponse, GetSessionRequest,
        GetSessionResponse, RenewSessionRequest, RenewSessionResponse,
        session_service_server::SessionService,
    },
    network::Networks,
    zone::Zone,
};
use tonic::{Request, Response, Status};

use super::{
    auth,
    convert::{parse, timestamp},
    rate,
};
use crate::{error::Error, identity::Identity};

/// See the `.proto` file.
#[derive(Debug)]
pub struct Sessions(pub Identity);

#[tonic::async_trait]
impl SessionService for Sessions {
    async fn create_challenge(
        &self,
        request: Request<CreateChallengeRequest>,
    ) -> Result<Response<CreateChallengeResponse>, Status> {
        let machine = auth::machine(&request)?;
        let api_key = parse("api_key_id", &request.into_inner().api_key_id)?;
        let (nonce, expires_at) = self.0.create_challenge(machine, api_key).await?;
        Ok(Response::new(CreateChallengeResponse {
            nonce: nonce.to_vec(),
            expires_at: Some(timestamp(expires_at)),
        }))
    }

    async fn create_session(
        &self,
        request: Request<CreateSessionRequest>,
    ) -> Result<Response<CreateSessionResponse>, Status> {
        let server_time = self.0.now();
        let machine = auth::machine(&request)?;
        let mut context = auth::context(&request, "")?;
        let message = request.into_inner();
        // who logs in is the edge's client, not the edge
        context.peer = match message.client_address.as_str() {
            "" => None,
            address => Some(address.parse().map_err(|_| {
                Error::invalid("client_address", "expected an IP address, or nothing")
            })?),
        };
        let api_key = parse("api_key_id", &message.api_key_id)?;
        let zone = Zone::from_proto(message.zone)
            .ok_or_else(|| Error::invalid("zone", "expected a zone"))?;
        let nonce: [u8; 32] = message
            .nonce
            .try_into()
            .map_err(|_| Error::invalid("nonce", "expected 32 bytes"))?;
        if message.signature.len() != 64 {
            return Err(Error::invalid("signature", "expected 64 bytes").into());
        }
        let made = self
            .0
            .create_session(context, machine, api_key, &nonce, &message.signature, zone)
            .await?;
        let session = made.session;
        Ok(Response::new(CreateSessionResponse {
            session_token: made.token,
            expires_at: Some(timestamp(session.expires_at())),
            agent_ids: session.agents.iter().map(ToString::to_string).collect(),
            validator: session.validator,
            zone: session.zone.to_proto().into(),
            rate_limit: made.rate_limits.all.map(rate::message_of),
            tool_rate_limits: rate::tool_messages(&made.rate_limits),
            allowed_networks: texts(&made.allowed_networks),
            session_id: session.jti.to_string(),
            server_time: Some(timestamp(server_time)),
        }))
    }

    async fn get_session(
        &self,
        request: Request<GetSessionRequest>,
    ) -> Result<Response<GetSessionResponse>, Status> {
        let server_time = self.0.now();
        let session = auth::session(&request)?;
        let key = self.0.check_session(&session).await?;
        Ok(Response::new(GetSessionResponse {
            expires_at: Some(timestamp(session.expires_at())),
            agent_ids: session.agents.iter().map(ToString::to_string).collect(),
            validator: session.validator,
            zone: session.zone.to_proto().into(),
            session_id: session.jti.to_string(),
            api_key_id: session.api_key_id.to_string(),
            server_time: Some(timestamp(server_time)),
            rate_limit: key.rate_limits.all.map(rate::message_of),
            tool_rate_limits: rate::tool_messages(&key.rate_limits),
            allowed_networks: texts(&key.allowed_networks),
        }))
    }

    async fn renew_session(
        &self,
        request: Request<RenewSessionRequest>,
    ) -> Result<Response<RenewSessionResponse>, Status> {
        let server_time = self.0.now();
        let session = auth::session(&request)?;
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let made = self.0.renew_session(context, &session).await?;
        let session = made.session;
        Ok(Response::new(RenewSessionResponse {
            session_token: made.token,
            expires_at: Some(timestamp(session.expires_at())),
            agent_ids: session.agents.iter().map(ToString::to_string).collect(),
            validator: session.validator,
            zone: session.zone.to_proto().into(),
            session_id: session.jti.to_string(),
            server_time: Some(timestamp(server_time)),
            rate_limit: made.rate_limits.all.map(rate::message_of),
            tool_rate_limits: rate::tool_messages(&made.rate_limits),
            allowed_networks: texts(&made.allowed_networks),
        }))
    }

    async fn end_session(
        &self,
        request: Request<EndSessionRequest>,
    ) -> Result<Response<EndSessionResponse>, Status> {
        let session = auth::session(&request)?;
        let context = auth::context(&request, &request.get_ref().request_id)?;
        self.0.end_session(context, &session).await?;
        Ok(Response::new(EndSessionResponse {}))
    }
}

fn texts(networks: &Networks) -> Vec<String> {
    networks.iter().map(ToString::to_string).collect()
}
