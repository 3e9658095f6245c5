//! `EnrolmentService`.

use authguardian_proto::{
    credential::JoinToken,
    identity::v1::{
        GetOwnMachineRequest, GetOwnMachineResponse, JoinRequest, JoinResponse,
        RenewCertificateRequest, RenewCertificateResponse,
        enrolment_service_server::EnrolmentService,
    },
    reason::{Problem, Reason},
};
use tonic::{Request, Response, Status};

use super::{auth, convert::timestamp, machine::name_texts};
use crate::{
    error::Error,
    identity::{Identity, ca::RequestedKey},
};

/// See the `.proto` file.
#[derive(Debug)]
pub struct Enrolment(pub Identity);

#[tonic::async_trait]
impl EnrolmentService for Enrolment {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let context = auth::context(&request, "")?;
        let message = request.into_inner();
        let token: JoinToken = message.join_token.parse().map_err(
            |error: authguardian_proto::ids::ParseIdError| {
                Error::from(
                    Problem::new(Reason::JoinTokenInvalid, error.to_string()).at("join_token"),
                )
            },
        )?;
        let key = RequestedKey::from_csr(&message.csr_der)?;
        let joined = self.0.join(context, &token, &key).await?;
        Ok(Response::new(JoinResponse {
            machine_id: joined.machine_id.to_string(),
            machine_name: joined.machine_name,
            trust_domain: self.0.settings().trust_domain.clone(),
            certificate_chain_der: joined.certificate.chain,
            ca_certificates_der: joined.certificate.ca_certificates,
            expires_at: Some(timestamp(joined.certificate.expires_at)),
        }))
    }

    async fn renew_certificate(
        &self,
        request: Request<RenewCertificateRequest>,
    ) -> Result<Response<RenewCertificateResponse>, Status> {
        let machine = auth::machine(&request)?;
        let context = auth::context(&request, "")?;
        let key = RequestedKey::from_csr(&request.into_inner().csr_der)?;
        let issued = self.0.renew_certificate(context, machine, &key).await?;
        Ok(Response::new(RenewCertificateResponse {
            certificate_chain_der: issued.chain,
            ca_certificates_der: issued.ca_certificates,
            expires_at: Some(timestamp(issued.expires_at)),
        }))
    }

    async fn get_own_machine(
        &self,
        request: Request<GetOwnMachineRequest>,
    ) -> Result<Response<GetOwnMachineResponse>, Status> {
        let machine = self.0.own_machine(auth::machine(&request)?).await?;
        Ok(Response::new(GetOwnMachineResponse {
            machine_id: machine.id.to_string(),
            machine_name: machine.name,
            max_zone: machine.terms.max_zone.to_proto().into(),
            server_names: name_texts(&machine.terms.server_names),
        }))
    }
}
