//! `BlackboardAdminService`.

use authguardian_proto::{
    blackboard::v1::{
        Board as PbBoard, Conflict, CreateBoardRequest, CreateBoardResponse, DeleteRequest,
        DeleteResponse, GetBoardRequest, GetBoardResponse, GetRequest, GetResponse,
        ListBoardsRequest, ListBoardsResponse, ListConflictsRequest, ListConflictsResponse,
        ListRequest, ListResponse, PutRequest, PutResponse, Siblings, TransactRequest,
        TransactResponse, UpdateBoardRequest, UpdateBoardResponse, WatchRequest,
        blackboard_admin_service_server::BlackboardAdminService,
    },
    board::{Key, Level},
    ids::BoardName,
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{
    act, message, replica,
    stream::{WatchStream, watch},
};
use crate::{
    audit::{Actor, Context},
    blackboard::{Blackboard, BoardUpdate, NewBoard, Taken, Who},
    error::{Error, Result},
    grpc::{
        auth,
        convert::{next_page_token, page_size, parse, parse_optional},
    },
};

/// See the `.proto` file.
#[derive(Debug)]
pub struct BlackboardAdmin {
    /// What is served.
    pub blackboard: Blackboard,
    /// Ends watches.
    pub stop: CancellationToken,
}

fn conflict((key, versions): (Key, Vec<Taken>)) -> Conflict {
    Conflict {
        key: key.to_string(),
        siblings: Some(Siblings {
            versions: versions.iter().map(replica::taken).collect(),
        }),
    }
}

fn operator(context: &Context) -> Who {
    Who::Operator(match context.actor {
        Actor::Admin(admin) => Some(admin),
        _ => None,
    })
}

/// An operator acts for himself.
fn nobody(agent: &str) -> Result<()> {
    if agent.is_empty() {
        return Ok(());
    }
    Err(Error::invalid("agent_id", "expected none from an operator"))
}

#[tonic::async_trait]
impl BlackboardAdminService for BlackboardAdmin {
    type WatchStream = WatchStream;

    async fn create_board(
        &self,
        request: Request<CreateBoardRequest>,
    ) -> std::result::Result<Response<CreateBoardResponse>, Status> {
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let new = new_board(request.into_inner().board.unwrap_or_default())?;
        let board = self.blackboard.create(context, new).await?;
        Ok(Response::new(CreateBoardResponse {
            board: Some(message::board(board)),
        }))
    }

    async fn update_board(
        &self,
        request: Request<UpdateBoardRequest>,
    ) -> std::result::Result<Response<UpdateBoardResponse>, Status> {
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let message = request.into_inner();
        let name = parse("name", &message.name)?;
        let update = BoardUpdate {
            readers: message.readers.map(|list| list.agents),
            writers: message.writers.map(|list| list.agents),
            min_trust: message.min_trust,
            requires_grant: message.requires_grant,
            max_keys: message.max_keys,
            max_bytes: message.max_bytes,
            default_ttl_seconds: message.default_ttl_seconds,
            retention_seconds: message.retention_seconds,
            description: message.description,
        };
        let board = self.blackboard.update(context, name, update).await?;
        Ok(Response::new(UpdateBoardResponse {
            board: Some(message::board(board)),
        }))
    }

    async fn get_board(
        &self,
        request: Request<GetBoardRequest>,
    ) -> std::result::Result<Response<GetBoardResponse>, Status> {
        let name = parse("name", &request.into_inner().name)?;
        let board = self.blackboard.board(&name).await?;
        Ok(Response::new(GetBoardResponse {
            board: Some(message::board(board)),
        }))
    }

    async fn list_boards(
        &self,
        request: Request<ListBoardsRequest>,
    ) -> std::result::Result<Response<ListBoardsResponse>, Status> {
        let message = request.into_inner();
        let size = page_size(message.page_size)?;
        let after: Option<BoardName> = parse_optional("page_token", &message.page_token)?;
        let boards = self.blackboard.boards(after.as_ref(), size.into()).await?;
        Ok(Response::new(message::boards(boards, size)))
    }

    async fn get(
        &self,
        request: Request<GetRequest>,
    ) -> std::result::Result<Response<GetResponse>, Status> {
        nobody(&request.get_ref().agent_id)?;
        let who = operator(&auth::context(&request, "")?);
        Ok(message::get(&self.blackboard, who, request.into_inner()).await?)
    }

    async fn put(
        &self,
        request: Request<PutRequest>,
    ) -> std::result::Result<Response<PutResponse>, Status> {
        nobody(&request.get_ref().agent_id)?;
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let (board, act) = act::put(request.into_inner())?;
        let who = operator(&context);
        let written = self.blackboard.write(context, who, board, act).await?;
        Ok(Response::new(message::put(&written)))
    }

    async fn delete(
        &self,
        request: Request<DeleteRequest>,
    ) -> std::result::Result<Response<DeleteResponse>, Status> {
        nobody(&request.get_ref().agent_id)?;
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let (board, act) = act::delete(request.into_inner())?;
        let who = operator(&context);
        let written = self.blackboard.write(context, who, board, act).await?;
        Ok(Response::new(message::deleted(&written)))
    }

    async fn list(
        &self,
        request: Request<ListRequest>,
    ) -> std::result::Result<Response<ListResponse>, Status> {
        nobody(&request.get_ref().agent_id)?;
        let who = operator(&auth::context(&request, "")?);
        Ok(message::list(&self.blackboard, who, request.into_inner()).await?)
    }

    async fn transact(
        &self,
        request: Request<TransactRequest>,
    ) -> std::result::Result<Response<TransactResponse>, Status> {
        nobody(&request.get_ref().agent_id)?;
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let (board, act) = act::transact(request.into_inner())?;
        let who = operator(&context);
        let written = self.blackboard.write(context, who, board, act).await?;
        Ok(Response::new(message::transacted(written)))
    }

    async fn list_conflicts(
        &self,
        request: Request<ListConflictsRequest>,
    ) -> std::result::Result<Response<ListConflictsResponse>, Status> {
        let message = request.into_inner();
        let board: BoardName = parse("board", &message.board)?;
        let prefix = message::prefix_of(message.prefix)?;
        let size = page_size(message.page_size)?;
        let after: Option<Key> = parse_optional("page_token", &message.page_token)?;
        let found = self
            .blackboard
            .conflicts(&board, &prefix, after.as_ref(), i64::from(size))
            .await?;
        Ok(Response::new(ListConflictsResponse {
            next_page_token: next_page_token(&found, size, |(key, _)| key.to_string()),
            conflicts: found.into_iter().map(conflict).collect(),
        }))
    }

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> std::result::Result<Response<Self::WatchStream>, Status> {
        nobody(&request.get_ref().agent_id)?;
        let who = operator(&auth::context(&request, "")?);
        watch(
            &self.blackboard,
            who,
            request.into_inner(),
            None,
            &self.stop,
        )
        .await
    }
}

/// What is unset or 0 is as usual.
fn new_board(message: PbBoard) -> Result<NewBoard> {
    let open = message.readers.is_empty() && message.writers.is_empty();
    let said = |number: u64| (number > 0).then_some(number);
    Ok(NewBoard {
        name: parse("board.name", &message.name)?,
        level: Level::from_proto(message.level)
            .ok_or_else(|| Error::invalid("board.level", "expected eventual, session or strong"))?,
        terms: BoardUpdate {
            readers: (!open).then_some(message.readers),
            writers: (!open).then_some(message.writers),
            min_trust: Some(message.min_trust),
            requires_grant: Some(message.requires_grant),
            max_keys: said(message.max_keys),
            max_bytes: said(message.max_bytes),
            default_ttl_seconds: Some(message.default_ttl_seconds),
            retention_seconds: said(message.retention_seconds),
            description: Some(message.description),
        },
    })
}
