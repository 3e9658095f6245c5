//! `GrantService`.

use authguardian_proto::{
    grants::v1::{
        ActiveGrant, Consistency, Decision, GetPermissionRequest, GetPermissionResponse,
        GrantState, ListActiveGrantsRequest, ListActiveGrantsResponse, ListResourceTypesRequest,
        ListResourceTypesResponse, Outcome, RenewPermissionRequest, RenewPermissionResponse,
        RequestPermissionRequest, RequestPermissionResponse, ResourceTypeSummary,
        RevokeTokenRequest, RevokeTokenResponse, Score, ValidateTokenRequest,
        ValidateTokenResponse, grant_service_server::GrantService,
    },
    ids::{GrantId, ResourceTypeName},
    reason::{Problem, Reason},
};
use time::OffsetDateTime;
use tonic::{Request, Response, Status};

use super::{
    auth,
    convert::{next_page_token, page_size, parse, parse_optional, position, timestamp},
};
use crate::{
    error::Error,
    grants::{self, Ask, GrantRecord, Grants},
    identity::Identity,
    policy::{self, Policies},
};

/// See the `.proto` file.
#[derive(Debug)]
pub struct GrantFace {
    /// Decides.
    pub grants: Grants,
    /// What can be asked for.
    pub policies: Policies,
    /// Whose keys still count.
    pub identity: Identity,
}

#[tonic::async_trait]
impl GrantService for GrantFace {
    async fn request_permission(
        &self,
        request: Request<RequestPermissionRequest>,
    ) -> Result<Response<RequestPermissionResponse>, Status> {
        let session = auth::session(&request)?;
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let message = request.into_inner();
        let ask = Ask {
            agent_id: parse("agent_id", &message.agent_id)?,
            resource_type: parse("resource_type", &message.resource_type)?,
            justification: message.justification,
            scope: Some(message.scope).filter(|scope| !scope.is_empty()),
            ttl_seconds: Some(message.ttl_seconds).filter(|ttl| *ttl > 0),
        };
        let decision = self.grants.request(context, session, ask).await?;
        Ok(Response::new(RequestPermissionResponse {
            decision: Some(decision_message(decision)),
        }))
    }

    async fn get_permission(
        &self,
        request: Request<GetPermissionRequest>,
    ) -> Result<Response<GetPermissionResponse>, Status> {
        let session = auth::session(&request)?;
        let id = parse("grant_id", &request.into_inner().grant_id)?;
        let decision = self.grants.status(&session, id).await?;
        let state = state_message(decision.state);
        Ok(Response::new(GetPermissionResponse {
            decision: Some(decision_message(decision)),
            state: state.into(),
        }))
    }

    async fn renew_permission(
        &self,
        request: Request<RenewPermissionRequest>,
    ) -> Result<Response<RenewPermissionResponse>, Status> {
        let session = auth::session(&request)?;
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let message = request.into_inner();
        let ttl = Some(message.ttl_seconds).filter(|ttl| *ttl > 0);
        let decision = self
            .grants
            .renew(context, session, &message.token, ttl)
            .await?;
        Ok(Response::new(RenewPermissionResponse {
            decision: Some(decision_message(decision)),
        }))
    }

    async fn validate_token(
        &self,
        request: Request<ValidateTokenRequest>,
    ) -> Result<Response<ValidateTokenResponse>, Status> {
        let session = auth::session(&request)?;
        let message = request.into_inner();
        Consistency::try_from(message.consistency)
            .map_err(|_| Error::invalid("consistency", "expected `bounded` or `strong`"))?;
        let agent = parse("agent_id", &message.agent_id)?;
        let resource_type = parse("resource_type", &message.resource_type)?;
        let found = self
            .grants
            .validate(&session, &message.token, &agent, &resource_type)
            .await?;
        let claims = found.claims.as_deref();
        Ok(Response::new(ValidateTokenResponse {
            valid: found.refused.is_none(),
            reason: found
                .refused
                .map(|reason| reason.to_string())
                .unwrap_or_default(),
            grant_id: claims
                .map(|claims| claims.jti.to_string())
                .unwrap_or_default(),
            expires_at: claims
                .and_then(|claims| OffsetDateTime::from_unix_timestamp(claims.exp).ok())
                .map(timestamp),
            restrictions: claims
                .map(|claims| claims.restrictions.clone())
                .unwrap_or_default(),
            scope: claims
                .and_then(|claims| claims.scope.clone())
                .unwrap_or_default(),
            staleness_ms: 0,
        }))
    }

    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenResponse>, Status> {
        let session = auth::session(&request)?;
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let revoked = self
            .grants
            .revoke_token(context, session, &request.into_inner().token)
            .await?;
        Ok(Response::new(RevokeTokenResponse {
            grant_id: revoked.grant_id.to_string(),
            position: Some(position(revoked.position)),
        }))
    }

    async fn list_active_grants(
        &self,
        request: Request<ListActiveGrantsRequest>,
    ) -> Result<Response<ListActiveGrantsResponse>, Status> {
        let session = auth::session(&request)?;
        let message = request.into_inner();
        let size = page_size(message.page_size)?;
        let before: Option<GrantId> = parse_optional("page_token", &message.page_token)?;
        let records = self
            .grants
            .list_active(&session, before, i64::from(size))
            .await?;
        Ok(Response::new(ListActiveGrantsResponse {
            next_page_token: next_page_token(&records, size, |record| record.id.to_string()),
            grants: records.into_iter().map(active_message).collect(),
        }))
    }

    async fn list_resource_types(
        &self,
        request: Request<ListResourceTypesRequest>,
    ) -> Result<Response<ListResourceTypesResponse>, Status> {
        let session = auth::session(&request)?;
        self.identity.check_key(&session).await?;
        let message = request.into_inner();
        let size = page_size(message.page_size)?;
        let after: Option<ResourceTypeName> = parse_optional("page_token", &message.page_token)?;
        let types = self
            .policies
            .list_resource_types(after.as_ref(), i64::from(size))
            .await?;
        Ok(Response::new(ListResourceTypesResponse {
            next_page_token: next_page_token(&types, size, |found| found.name.to_string()),
            resource_types: types.into_iter().map(summary_message).collect(),
        }))
    }
}

fn summary_message(found: policy::ResourceType) -> ResourceTypeSummary {
    ResourceTypeSummary {
        name: found.name.to_string(),
        description: found.description,
    }
}

fn decision_message(decision: grants::Decision) -> Decision {
    let record = decision.record;
    let ended = matches!(
        decision.state,
        grants::GrantState::Expired | grants::GrantState::Revoked
    );
    Decision {
        outcome: if record.granted {
            Outcome::Granted
        } else {
            Outcome::Denied
        }
        .into(),
        grant_id: record.id.to_string(),
        token: decision.token.unwrap_or_default(),
        expires_at: decision.expires_at.map(timestamp),
        restrictions: record.restrictions,
        score: Some(score_message(record.score)),
        reasons: record.reasons,
        detail: if ended {
            format!(
                "it was granted, and has ended since: it is {}",
                decision.state.as_str()
            )
        } else {
            record.detail
        },
        policy_version: record.policy_version.unsigned_abs(),
        policy_ids: record.policy_ids,
    }
}

fn active_message(record: GrantRecord) -> ActiveGrant {
    ActiveGrant {
        grant_id: record.id.to_string(),
        agent_id: record.agent_id.to_string(),
        resource_type: record.resource_type.to_string(),
        scope: record.scope.unwrap_or_default(),
        restrictions: record.restrictions,
        issued_at: Some(timestamp(record.issued_at)),
        expires_at: record.expires_at.map(timestamp),
    }
}

pub(super) fn score_message(score: policy::score::Score) -> Score {
    Score {
        total: score.total,
        justification: score.justification,
        trust: score.trust,
        risk: score.risk,
    }
}

pub(super) fn state_message(state: grants::GrantState) -> GrantState {
    match state {
        grants::GrantState::Active => GrantState::Active,
        grants::GrantState::Expired => GrantState::Expired,
        grants::GrantState::Revoked => GrantState::Revoked,
        grants::GrantState::Denied => GrantState::Denied,
    }
}

/// A state filter from a message; `None`: all.
pub(super) fn state_filter(state: i32) -> Result<Option<grants::GrantState>, Status> {
    Ok(match GrantState::try_from(state) {
        Ok(GrantState::Unspecified) => None,
        Ok(GrantState::Active) => Some(grants::GrantState::Active),
        Ok(GrantState::Expired) => Some(grants::GrantState::Expired),
        Ok(GrantState::Revoked) => Some(grants::GrantState::Revoked),
        Ok(GrantState::Denied) => Some(grants::GrantState::Denied),
        Err(_) => {
            return Err(Error::from(
                Problem::new(
                    Reason::InvalidArgument,
                    "expected `active`, `expired`, `revoked` or `denied`",
                )
                .at("state"),
            )
            .into());
        }
    })
}
