//! `BudgetService`.

use authguardian_proto::budgets::v1::{
    GetBudgetRequest, GetBudgetResponse, budget_service_server::BudgetService,
};
use tonic::{Request, Response, Status};

use super::message;
use crate::{
    budgets::Budgets,
    grpc::{auth, convert::parse},
};

/// See the `.proto` file.
#[derive(Debug)]
pub struct BudgetFace(pub Budgets);

#[tonic::async_trait]
impl BudgetService for BudgetFace {
    async fn get_budget(
        &self,
        request: Request<GetBudgetRequest>,
    ) -> Result<Response<GetBudgetResponse>, Status> {
        let session = auth::session(&request)?;
        let task = parse("task_id", &request.into_inner().task_id)?;
        let view = self.0.get_as(&session, &task).await?;
        Ok(Response::new(message::view(view)))
    }
}
