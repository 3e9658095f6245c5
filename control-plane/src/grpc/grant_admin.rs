//! `GrantAdminService`.

use authguardian_proto::{
    grants::v1::{
        GetGrantRequest, GetGrantResponse, Grant, ListGrantsRequest, ListGrantsResponse,
        RevokeGrantsRequest, RevokeGrantsResponse, grant_admin_service_server::GrantAdminService,
        revoke_grants_request::Target,
    },
    ids::GrantId,
};
use tonic::{Request, Response, Status};

use super::{
    auth,
    convert::{next_page_token, page_size, parse, parse_optional, position, text, timestamp},
    grant::{score_message, state_filter, state_message},
};
use crate::{
    error::Error,
    events::RevocationTarget,
    grants::{Filter, GrantRecord, Grants},
};

/// See the `.proto` file.
#[derive(Debug)]
pub struct GrantAdmin(pub Grants);

#[tonic::async_trait]
impl GrantAdminService for GrantAdmin {
    async fn list_grants(
        &self,
        request: Request<ListGrantsRequest>,
    ) -> Result<Response<ListGrantsResponse>, Status> {
        let message = request.into_inner();
        let size = page_size(message.page_size)?;
        let filter = Filter {
            agents: parse_optional("agent_id", &message.agent_id)?.map(|agent| vec![agent]),
            resource_type: parse_optional("resource_type", &message.resource_type)?,
            machine_id: parse_optional("machine_id", &message.machine_id)?,
            state: state_filter(message.state)?,
        };
        let before: Option<GrantId> = parse_optional("page_token", &message.page_token)?;
        let records = self.0.list(&filter, before, i64::from(size)).await?;
        Ok(Response::new(ListGrantsResponse {
            next_page_token: next_page_token(&records, size, |record| record.id.to_string()),
            grants: records
                .into_iter()
                .map(|record| self.message(record))
                .collect(),
        }))
    }

    async fn get_grant(
        &self,
        request: Request<GetGrantRequest>,
    ) -> Result<Response<GetGrantResponse>, Status> {
        let id = parse("grant_id", &request.into_inner().grant_id)?;
        let record = self.0.get(id).await?;
        Ok(Response::new(GetGrantResponse {
            grant: Some(self.message(record)),
        }))
    }

    async fn revoke_grants(
        &self,
        request: Request<RevokeGrantsRequest>,
    ) -> Result<Response<RevokeGrantsResponse>, Status> {
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let message = request.into_inner();
        let comment = text("comment", message.comment, 0, 500)?;
        let target = match message.target {
            None => return Err(Error::invalid("target", "expected exactly one target").into()),
            Some(Target::GrantId(id)) => {
                let revoked = self
                    .0
                    .revoke_one(context, parse("grant_id", &id)?, &comment)
                    .await?;
                return Ok(Response::new(RevokeGrantsResponse {
                    position: Some(position(revoked.position)),
                    ended: u64::from(revoked.ended),
                }));
            }
            Some(Target::AgentId(id)) => RevocationTarget::Agent(parse("agent_id", &id)?),
            Some(Target::MachineId(id)) => RevocationTarget::Machine(parse("machine_id", &id)?),
            Some(Target::ResourceType(name)) => {
                RevocationTarget::ResourceType(parse("resource_type", &name)?)
            }
            Some(Target::PolicyId(id)) => RevocationTarget::Policy(text("policy_id", id, 1, 200)?),
            Some(Target::Everything(true)) => RevocationTarget::Everything,
            Some(Target::Everything(false)) => {
                return Err(Error::invalid("everything", "expected true").into());
            }
        };
        let revoked = self.0.revoke_matching(context, target, &comment).await?;
        Ok(Response::new(RevokeGrantsResponse {
            position: Some(position(revoked.position)),
            ended: revoked.ended.unsigned_abs(),
        }))
    }
}

impl GrantAdmin {
    fn message(&self, record: GrantRecord) -> Grant {
        Grant {
            id: record.id.to_string(),
            state: state_message(self.0.state_of(&record)).into(),
            agent_id: record.agent_id.to_string(),
            resource_type: record.resource_type.to_string(),
            scope: record.scope.unwrap_or_default(),
            justification: record.justification,
            score: Some(score_message(record.score)),
            reasons: record.reasons,
            detail: record.detail,
            restrictions: record.restrictions,
            policy_version: record.policy_version.unsigned_abs(),
            policy_ids: record.policy_ids,
            facts_json: record.facts,
            machine_id: record.machine_id.to_string(),
            api_key_id: record.api_key_id.to_string(),
            zone: record.zone.to_proto().into(),
            position: record.granted.then(|| position(record.position)),
            issued_at: Some(timestamp(record.issued_at)),
            expires_at: record.expires_at.map(timestamp),
            revoked_at: record.revoked_at.map(timestamp),
        }
    }
}
