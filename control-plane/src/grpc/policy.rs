//! `PolicyService`.

use authguardian_proto::policy::v1::{
    GetPolicyRequest, GetPolicyResponse, Policy, PutPolicyRequest, PutPolicyResponse,
    ValidatePolicyRequest, ValidatePolicyResponse, policy_service_server::PolicyService,
};
use tonic::{Request, Response, Status};

use super::{auth, convert::timestamp};
use crate::policy::{Policies, PolicyVersion, SCHEMA};

/// See the `.proto` file.
#[derive(Debug)]
pub struct PolicyAdmin(pub Policies);

#[tonic::async_trait]
impl PolicyService for PolicyAdmin {
    async fn get_policy(
        &self,
        request: Request<GetPolicyRequest>,
    ) -> Result<Response<GetPolicyResponse>, Status> {
        let policy = self
            .0
            .get(unless_zero(request.into_inner().version))
            .await?;
        Ok(Response::new(GetPolicyResponse {
            policy: Some(message_of(&policy)),
            schema: SCHEMA.to_owned(),
        }))
    }

    async fn put_policy(
        &self,
        request: Request<PutPolicyRequest>,
    ) -> Result<Response<PutPolicyResponse>, Status> {
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let message = request.into_inner();
        let policy = self
            .0
            .put(context, message.source, unless_zero(message.if_version))
            .await?;
        Ok(Response::new(PutPolicyResponse {
            policy: Some(message_of(&policy)),
        }))
    }

    async fn validate_policy(
        &self,
        request: Request<ValidatePolicyRequest>,
    ) -> Result<Response<ValidatePolicyResponse>, Status> {
        let found = self.0.validate(request.into_inner().source).await?;
        Ok(Response::new(ValidatePolicyResponse {
            valid: found.is_valid(),
            errors: found.errors,
            warnings: found.warnings,
        }))
    }
}

const fn unless_zero(version: u64) -> Option<u64> {
    if version == 0 { None } else { Some(version) }
}

fn message_of(policy: &PolicyVersion) -> Policy {
    Policy {
        version: policy.text.version,
        source: policy.text.source.as_ref().to_owned(),
        active: policy.active,
        created_at: Some(timestamp(policy.created_at)),
        created_by: policy.created_by.clone(),
    }
}
