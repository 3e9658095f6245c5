//! `KeyService`.

use authguardian_proto::identity::v1::{
    GetJwksRequest, GetJwksResponse, key_service_server::KeyService,
};
use tonic::{Request, Response, Status};

use crate::identity::Identity;

/// See the `.proto` file.
#[derive(Debug)]
pub struct Keys(pub Identity);

#[tonic::async_trait]
impl KeyService for Keys {
    async fn get_jwks(
        &self,
        _: Request<GetJwksRequest>,
    ) -> Result<Response<GetJwksResponse>, Status> {
        Ok(Response::new(GetJwksResponse {
            jwks_json: self.0.jwks().await?,
        }))
    }
}
