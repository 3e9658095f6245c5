//! `SuspensionService`.

use authguardian_proto::identity::v1::{
    ListSuspensionsRequest, ListSuspensionsResponse, ResumeRequest, ResumeResponse, SuspendRequest,
    SuspendResponse, Suspension, SuspensionTarget as Message,
    suspension_service_server::SuspensionService, suspension_target::Target,
};
use tonic::{Request, Response, Status};

use super::{
    auth,
    convert::{parse, position, text, timestamp},
};
use crate::{
    error::{Error, Result as Outcome},
    events::SuspensionTarget,
    grants::Grants,
    identity::{self, Identity},
};

/// Longest comment, characters.
const MAX_COMMENT: usize = 500;

/// See the `.proto` file.
#[derive(Debug)]
pub struct Suspensions {
    /// What is suspended.
    pub identity: Identity,
    /// What ends with it.
    pub grants: Grants,
}

#[tonic::async_trait]
impl SuspensionService for Suspensions {
    async fn suspend(
        &self,
        request: Request<SuspendRequest>,
    ) -> Result<Response<SuspendResponse>, Status> {
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let message = request.into_inner();
        let comment = text("comment", message.comment, 0, MAX_COMMENT)?;
        let target = read(message.target)?;
        if message.dry_run {
            return Ok(Response::new(SuspendResponse {
                ended: self.grants.would_end(target).await?.unsigned_abs(),
                ..SuspendResponse::default()
            }));
        }
        let suspended = self.grants.suspend(context, target, &comment).await?;
        Ok(Response::new(SuspendResponse {
            suspension: Some(message_of(suspended.suspension)),
            ended: suspended.ended.unsigned_abs(),
            position: suspended.position.map(position),
        }))
    }

    async fn resume(
        &self,
        request: Request<ResumeRequest>,
    ) -> Result<Response<ResumeResponse>, Status> {
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let message = request.into_inner();
        let comment = text("comment", message.comment, 0, MAX_COMMENT)?;
        let target = read(message.target)?;
        let lifted = self.identity.resume(context, target, &comment).await?;
        Ok(Response::new(ResumeResponse {
            lifted: lifted.map(message_of),
        }))
    }

    async fn list_suspensions(
        &self,
        _: Request<ListSuspensionsRequest>,
    ) -> Result<Response<ListSuspensionsResponse>, Status> {
        let suspensions = self.identity.list_suspensions().await?;
        Ok(Response::new(ListSuspensionsResponse {
            suspensions: suspensions.into_iter().map(message_of).collect(),
        }))
    }
}

fn read(target: Option<Message>) -> Outcome<SuspensionTarget> {
    match target.and_then(|target| target.target) {
        None => Err(Error::invalid("target", "expected exactly one target")),
        Some(Target::AgentId(id)) => parse("agent_id", &id).map(SuspensionTarget::Agent),
        Some(Target::MachineId(id)) => parse("machine_id", &id).map(SuspensionTarget::Machine),
        Some(Target::ResourceType(name)) => {
            parse("resource_type", &name).map(SuspensionTarget::ResourceType)
        }
        Some(Target::Everything(true)) => Ok(SuspensionTarget::Everything),
        Some(Target::Everything(false)) => Err(Error::invalid("everything", "expected true")),
    }
}

/// A target as a message.
pub(super) fn target_message(target: SuspensionTarget) -> Message {
    Message {
        target: Some(match target {
            SuspensionTarget::Agent(agent) => Target::AgentId(agent.to_string()),
            SuspensionTarget::Machine(machine) => Target::MachineId(machine.to_string()),
            SuspensionTarget::ResourceType(name) => Target::ResourceType(name.to_string()),
            SuspensionTarget::Everything => Target::Everything(true),
        }),
    }
}

fn message_of(suspension: identity::Suspension) -> Suspension {
    Suspension {
        target: Some(target_message(suspension.target)),
        created_at: Some(timestamp(suspension.created_at)),
        created_by: suspension.created_by,
        comment: suspension.comment,
    }
}
