//! `KeyService`.

use authguardian_proto::identity::v1::{
    GetJwksRequest, GetJwksResponse, GetTrustBundleRequest, GetTrustBundleResponse,
    key_service_server::KeyService,
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

    async fn get_trust_bundle(
        &self,
        _: Request<GetTrustBundleRequest>,
    ) -> Result<Response<GetTrustBundleResponse>, Status> {
        let bundle = self.0.trust_bundle().await?;
        Ok(Response::new(GetTrustBundleResponse {
            ca_certificates_der: bundle.certificates,
            active_ca_sha256: bundle.active.to_vec(),
        }))
    }
}
