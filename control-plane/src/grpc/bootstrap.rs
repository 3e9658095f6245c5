//! `BootstrapService`.

use authguardian_proto::identity::v1::{
    CreateFirstAdminRequest, CreateFirstAdminResponse, bootstrap_service_server::BootstrapService,
};
use tonic::{Request, Response, Status};

use super::{
    admin_token::{message_of, ttl_of},
    auth,
    convert::text,
};
use crate::{error::Error, identity::Identity};

/// See the `.proto` file.
#[derive(Debug)]
pub struct Bootstrap(pub Identity);

#[tonic::async_trait]
impl BootstrapService for Bootstrap {
    async fn create_first_admin(
        &self,
        request: Request<CreateFirstAdminRequest>,
    ) -> Result<Response<CreateFirstAdminResponse>, Status> {
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let message = request.into_inner();
        let name = text("name", message.name, 1, 100)?;
        let hash: [u8; 32] = message
            .secret_hash
            .try_into()
            .map_err(|_| Error::invalid("secret_hash", "expected 32 bytes"))?;
        let ttl = ttl_of(message.ttl_seconds)?;
        let info = self.0.create_first_admin(context, &name, &hash, ttl);
        let info = info.await?;
        let keyring = self.0.keyring();
        Ok(Response::new(CreateFirstAdminResponse {
            info: Some(message_of(info)),
            ca_certificates: keyring
                .ca_certificates()
                .iter()
                .map(|ca| ca.to_vec())
                .collect(),
        }))
    }
}
