//! `BudgetAdminService`.

use authguardian_proto::{
    budgets::v1::{
        CloseRequest, CloseResponse, CreateBudgetRequest, CreateBudgetResponse, FreezeRequest,
        FreezeResponse, GetBudgetRequest, GetBudgetResponse, ListBudgetsRequest,
        ListBudgetsResponse, ListMovementsRequest, ListMovementsResponse, RebalanceRequest,
        RebalanceResponse, SettleRequest, SettleResponse, TopUpRequest, TopUpResponse,
        budget_admin_service_server::BudgetAdminService,
    },
    ids::TaskId,
};
use tonic::{Request, Response, Status};

use super::message;
use crate::{
    budgets::{Budgets, NewBudget},
    grpc::{
        auth,
        convert::{next_page_token, page_size, parse, parse_optional},
    },
};

type Answer<T> = Result<Response<T>, Status>;

/// See the `.proto` file.
#[derive(Debug)]
pub struct BudgetAdmin(pub Budgets);

#[tonic::async_trait]
impl BudgetAdminService for BudgetAdmin {
    async fn create_budget(
        &self,
        request: Request<CreateBudgetRequest>,
    ) -> Answer<CreateBudgetResponse> {
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let wanted = request.into_inner().budget.unwrap_or_default();
        let new = NewBudget {
            task: message::task(&wanted)?,
            terms: message::terms(wanted)?,
        };
        let budget = self.0.create(context, new).await?;
        Ok(Response::new(CreateBudgetResponse {
            budget: Some(message::budget(budget)),
        }))
    }

    async fn get_budget(&self, request: Request<GetBudgetRequest>) -> Answer<GetBudgetResponse> {
        let task = parse("task_id", &request.into_inner().task_id)?;
        let view = self.0.get(&task).await?;
        Ok(Response::new(message::view(view)))
    }

    async fn list_budgets(
        &self,
        request: Request<ListBudgetsRequest>,
    ) -> Answer<ListBudgetsResponse> {
        let message = request.into_inner();
        let size = page_size(message.page_size)?;
        let after: Option<TaskId> = parse_optional("page_token", &message.page_token)?;
        let views = self.0.list(after.as_ref(), size.into()).await?;
        Ok(Response::new(ListBudgetsResponse {
            next_page_token: next_page_token(&views, size, |view| view.budget.task.to_string()),
            budgets: views.into_iter().map(message::summary).collect(),
        }))
    }

    async fn top_up(&self, request: Request<TopUpRequest>) -> Answer<TopUpResponse> {
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let message = request.into_inner();
        let task: TaskId = parse("task_id", &message.task_id)?;
        self.0.top_up(context, task.clone(), message.amount).await?;
        let view = self.0.get(&task).await?;
        Ok(Response::new(TopUpResponse {
            budget: Some(message::view(view)),
        }))
    }

    async fn rebalance(&self, request: Request<RebalanceRequest>) -> Answer<RebalanceResponse> {
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let task = parse("task_id", &request.into_inner().task_id)?;
        let asked = self.0.rebalance(context, task).await?;
        Ok(Response::new(RebalanceResponse { asked }))
    }

    async fn settle(&self, request: Request<SettleRequest>) -> Answer<SettleResponse> {
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let message = request.into_inner();
        let task = parse("task_id", &message.task_id)?;
        let machine = parse("machine_id", &message.machine_id)?;
        let settled = self.0.settle(context, task, machine, message.spent).await?;
        Ok(Response::new(SettleResponse {
            slice: Some(message::slice(&settled.slice)),
            released: settled.released,
        }))
    }

    async fn freeze(&self, request: Request<FreezeRequest>) -> Answer<FreezeResponse> {
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let message = request.into_inner();
        let task = parse("task_id", &message.task_id)?;
        let budget = self.0.freeze(context, task, message.frozen).await?;
        Ok(Response::new(FreezeResponse {
            budget: Some(message::budget(budget)),
        }))
    }

    async fn close(&self, request: Request<CloseRequest>) -> Answer<CloseResponse> {
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let task: TaskId = parse("task_id", &request.into_inner().task_id)?;
        self.0.close(context, task.clone()).await?;
        let view = self.0.get(&task).await?;
        Ok(Response::new(CloseResponse {
            budget: Some(message::view(view)),
        }))
    }

    async fn list_movements(
        &self,
        request: Request<ListMovementsRequest>,
    ) -> Answer<ListMovementsResponse> {
        let message = request.into_inner();
        let task = parse("task_id", &message.task_id)?;
        let size = page_size(message.page_size)?;
        let before = message::read_page_token(&message.page_token)?;
        let (window, movements) = self.0.movements(&task, before, size.into()).await?;
        Ok(Response::new(ListMovementsResponse {
            next_page_token: next_page_token(&movements, size, message::page_token),
            movements: movements
                .iter()
                .map(|one| message::movement(one, window))
                .collect(),
        }))
    }
}
