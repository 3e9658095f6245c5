//! `SessionService`.

use authguardian_proto::{
    identity::v1::{
        CreateChallengeRequest, CreateChallengeResponse, CreateSessionRequest,
        CreateSessionResponse, session_service_server::SessionService,
    },
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
        let machine = auth::machine(&request)?;
        let context = auth::context(&request, "")?;
        let message = request.into_inner();
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
            allowed_networks: made
                .allowed_networks
                .iter()
                .map(ToString::to_string)
                .collect(),
        }))
    }
}
