//! `BlackboardService`.

use authguardian_proto::{
    blackboard::v1::{
        DeleteRequest, DeleteResponse, GetRequest, GetResponse, ListBoardsRequest,
        ListBoardsResponse, ListRequest, ListResponse, LockRequest, LockResponse, PutRequest,
        PutResponse, TransactRequest, TransactResponse, WatchRequest,
        blackboard_service_server::BlackboardService,
    },
    ids::BoardName,
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{
    act, message,
    stream::{WatchStream, watch},
};
use crate::{
    blackboard::{Blackboard, Who},
    clock::Ambient,
    error::Result,
    grpc::{
        auth,
        convert::{page_size, parse, parse_optional},
    },
};

/// See the `.proto` file.
#[derive(Debug)]
pub struct BlackboardFace {
    /// What is served.
    pub blackboard: Blackboard,
    /// The time that sessions end by.
    pub ambient: Ambient,
    /// Ends watches.
    pub stop: CancellationToken,
}

/// The session's agent that calls.
fn who<T>(request: &Request<T>, agent: &str) -> Result<Who> {
    Who::agent(auth::session(request)?, parse_optional("agent_id", agent)?)
}

#[tonic::async_trait]
impl BlackboardService for BlackboardFace {
    type WatchStream = WatchStream;

    async fn get(
        &self,
        request: Request<GetRequest>,
    ) -> std::result::Result<Response<GetResponse>, Status> {
        let who = who(&request, &request.get_ref().agent_id)?;
        Ok(message::get(&self.blackboard, who, request.into_inner()).await?)
    }

    async fn put(
        &self,
        request: Request<PutRequest>,
    ) -> std::result::Result<Response<PutResponse>, Status> {
        let who = who(&request, &request.get_ref().agent_id)?;
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let (board, act) = act::put(request.into_inner())?;
        let written = self.blackboard.write(context, who, board, act).await?;
        Ok(Response::new(message::put(&written)))
    }

    async fn delete(
        &self,
        request: Request<DeleteRequest>,
    ) -> std::result::Result<Response<DeleteResponse>, Status> {
        let who = who(&request, &request.get_ref().agent_id)?;
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let (board, act) = act::delete(request.into_inner())?;
        let written = self.blackboard.write(context, who, board, act).await?;
        Ok(Response::new(message::deleted(&written)))
    }

    async fn list(
        &self,
        request: Request<ListRequest>,
    ) -> std::result::Result<Response<ListResponse>, Status> {
        let who = who(&request, &request.get_ref().agent_id)?;
        Ok(message::list(&self.blackboard, who, request.into_inner()).await?)
    }

    async fn transact(
        &self,
        request: Request<TransactRequest>,
    ) -> std::result::Result<Response<TransactResponse>, Status> {
        let who = who(&request, &request.get_ref().agent_id)?;
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let (board, act) = act::transact(request.into_inner())?;
        let written = self.blackboard.write(context, who, board, act).await?;
        Ok(Response::new(message::transacted(written)))
    }

    async fn lock(
        &self,
        request: Request<LockRequest>,
    ) -> std::result::Result<Response<LockResponse>, Status> {
        let who = who(&request, &request.get_ref().agent_id)?;
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let (board, act) = act::lock(&request.into_inner())?;
        let written = self.blackboard.write(context, who, board, act).await?;
        Ok(Response::new(message::locked(written)))
    }

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> std::result::Result<Response<Self::WatchStream>, Status> {
        let who = who(&request, &request.get_ref().agent_id)?;
        let session = auth::session(&request)?;
        let left = session.expires_at() - self.ambient.clock.now();
        let left = left.try_into().unwrap_or_default();
        let asked = request.into_inner();
        watch(&self.blackboard, who, asked, Some(left), &self.stop).await
    }

    async fn list_boards(
        &self,
        request: Request<ListBoardsRequest>,
    ) -> std::result::Result<Response<ListBoardsResponse>, Status> {
        let who = Who::agent(auth::session(&request)?, None)?;
        let message = request.into_inner();
        let size = page_size(message.page_size)?;
        let after: Option<BoardName> = if message.page_token.is_empty() {
            None
        } else {
            Some(parse("page_token", &message.page_token)?)
        };
        let boards = self
            .blackboard
            .readable(&who, after.as_ref(), size as usize)
            .await?;
        Ok(Response::new(message::boards(boards, size)))
    }
}
