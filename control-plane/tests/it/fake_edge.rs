//! An edge that does not keep to the rules, with a machine certificate that is
//! good: what it may not do is refused with its reason, and stands in the audit
//! log, also where another control plane has decided.

use std::time::Duration;

use authguardian_proto::{
    common::v1::Zone as ZoneMessage,
    credential::ApiKey,
    events::v1::{
        GetHeadsRequest, StreamPosition, WatchRequest, WatchResponse,
        event_service_client::EventServiceClient,
    },
    grants::v1::{
        ListActiveGrantsRequest, RequestPermissionRequest, grant_service_client::GrantServiceClient,
    },
    identity::v1::{
        CreateChallengeRequest, CreateSessionRequest, CreateSessionResponse, GetOwnMachineRequest,
        JoinRequest, RenewCertificateRequest, enrolment_service_client::EnrolmentServiceClient,
        session_service_client::SessionServiceClient,
    },
    ids::MachineId,
    reason::{Problem, Reason},
    status::from_status,
    zone::Zone,
};
use control_plane::{
    grants::Expelled,
    grpc::auth::{Access, TABLE},
    identity::{ServerName, Serves, Terms, TermsChange, join::NewJoinToken, membership::Expulsion},
};
use tokio::time::Instant;
use tonic::{
    Request, Streaming,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Identity},
};
use tonic_prost::ProstCodec;

use crate::{
    rig::{admin, put},
    serving::{Serving, pem},
    wait::{DEADLINE, until_async},
};

/// How soon a change of a machine has to be acted on, everywhere.
const SOON: Duration = Duration::from_secs(1);

impl Serving {
    /// A machine joins, for something.
    pub(crate) async fn join(&self, name: &str, terms: Terms) -> FakeEdge {
        let new = NewJoinToken {
            terms,
            ..NewJoinToken::of(name.parse().unwrap())
        };
        let identity = &self.rig.app.identity;
        let (text, _) = identity.create_join_token(admin(), new).await.unwrap();
        let (key, csr_der) = signing_request();
        let request = JoinRequest {
            join_token: text.unwrap().to_string(),
            csr_der,
        };
        let joined = EnrolmentServiceClient::new(self.edge(None).await.unwrap())
            .join(request)
            .await
            .unwrap()
            .into_inner();
        let chain = joined.certificate_chain_der.iter();
        let chain: String = chain
            .map(|certificate| pem("CERTIFICATE", certificate))
            .collect();
        let certificate = Identity::from_pem(chain, key.serialize_pem());
        FakeEdge {
            machine: joined.machine_id.parse().unwrap(),
            channel: self.edge(Some(certificate.clone())).await.unwrap(),
            certificate,
        }
    }

    async fn expel(&self, machine: MachineId, how: Expulsion) -> Expelled {
        let named = machine.to_string().parse().unwrap();
        let grants = &self.rig.app.grants;
        let expelled = grants.expel_machine(admin(), &named, how, "").await;
        expelled.unwrap()
    }

    async fn update(&self, machine: MachineId, change: TermsChange) {
        let named = machine.to_string().parse().unwrap();
        let identity = &self.rig.app.identity;
        identity
            .update_machine(admin(), &named, change)
            .await
            .unwrap();
    }

    /// Waits until refusals of a machine with this reason are in the audit log.
    async fn audits(&self, machine: MachineId, rpc: &str, reason: Reason) {
        let is_written = async || -> bool {
            self.rig.app.refusals.flush().await.unwrap();
            sqlx::query_scalar(
                "SELECT EXISTS (SELECT FROM audit_trail
                 WHERE action = 'call.refuse' AND machine_id = $1 AND reason = $2 AND subject LIKE $3)",
            )
            .bind(machine.as_uuid())
            .bind(reason.as_str())
            .bind(format!("%/{rpc}"))
            .fetch_one(self.rig.database.pool())
            .await
            .unwrap()
        };
        until_async("the refusal is in the audit log", is_written).await;
    }
}

/// A machine with a good certificate, and no scruples.
pub(crate) struct FakeEdge {
    pub(crate) machine: MachineId,
    certificate: Identity,
    pub(crate) channel: Channel,
}

impl FakeEdge {
    /// The same machine at another control plane.
    async fn at(&self, serving: &Serving) -> Self {
        Self {
            machine: self.machine,
            certificate: self.certificate.clone(),
            channel: serving.edge(Some(self.certificate.clone())).await.unwrap(),
        }
    }

    pub(crate) async fn log_in(
        &self,
        key: &ApiKey,
        zone: Zone,
    ) -> Result<CreateSessionResponse, Problem> {
        let mut client = SessionServiceClient::new(self.channel.clone());
        let challenge = client
            .create_challenge(CreateChallengeRequest {
                api_key_id: key.id().to_string(),
            })
            .await
            .map_err(|status| from_status(&status))?
            .into_inner();
        let request = CreateSessionRequest {
            api_key_id: key.id().to_string(),
            signature: key.sign_nonce(&challenge.nonce).unwrap(),
            nonce: challenge.nonce,
            zone: zone.to_proto().into(),
            client_address: String::new(),
        };
        let created = client.create_session(request).await;
        Ok(created.map_err(|status| from_status(&status))?.into_inner())
    }

    /// Asks for a grant; tells its id, or why it was refused.
    async fn ask(&self, session_token: &str, agent: &str) -> Result<String, Reason> {
        let request = RequestPermissionRequest {
            agent_id: agent.to_owned(),
            resource_type: "SAP_API".to_owned(),
            justification: crate::rig::JUSTIFICATION.to_owned(),
            ..RequestPermissionRequest::default()
        };
        let answer = GrantServiceClient::new(self.channel.clone())
            .request_permission(with_bearer(request, session_token))
            .await
            .map_err(|status| from_status(&status).reason)?;
        Ok(answer.into_inner().decision.unwrap().grant_id)
    }

    async fn list(&self, session_token: &str) -> Result<(), Reason> {
        let request = with_bearer(ListActiveGrantsRequest::default(), session_token);
        let answer = GrantServiceClient::new(self.channel.clone())
            .list_active_grants(request)
            .await;
        answer
            .map(|_| ())
            .map_err(|status| from_status(&status).reason)
    }

    /// Begins to follow the changes; the first message has come.
    async fn watch(&self) -> Result<Streaming<WatchResponse>, Reason> {
        let after = vec![StreamPosition {
            stream: "grants".to_owned(),
            position: None,
        }];
        let watching = EventServiceClient::new(self.channel.clone())
            .watch(WatchRequest {
                after,
                ..WatchRequest::default()
            })
            .await;
        let mut stream = watching
            .map_err(|status| from_status(&status).reason)?
            .into_inner();
        stream.message().await.unwrap().expect("a progress mark");
        Ok(stream)
    }

    async fn ping(&self) -> Result<(), Reason> {
        let answer = EventServiceClient::new(self.channel.clone())
            .get_heads(GetHeadsRequest::default())
            .await;
        answer
            .map(|_| ())
            .map_err(|status| from_status(&status).reason)
    }

    /// Why a path is refused, with any session.
    async fn refusal(&self, path: &'static str) -> Option<Reason> {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let codec: ProstCodec<(), ()> = ProstCodec::default();
        let path = PathAndQuery::from_static(path);
        let answer = grpc
            .server_streaming(with_bearer((), "x"), path, codec)
            .await;
        answer.err().map(|status| from_status(&status).reason)
    }
}

pub(crate) fn with_bearer<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let bearer = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    request
}

fn signing_request() -> (rcgen::KeyPair, Vec<u8>) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let csr = rcgen::CertificateParams::default()
        .serialize_request(&key)
        .unwrap();
    (key, csr.der().to_vec())
}

fn only(agents: &[&str]) -> Serves {
    Serves::only(agents.iter().map(|agent| agent.parse().unwrap()).collect()).unwrap()
}

/// Waits for a stream's end; how long that took from now.
async fn ends(mut stream: Streaming<WatchResponse>) -> Duration {
    let began = Instant::now();
    let ending = async { while let Ok(Some(_)) = stream.message().await {} };
    tokio::time::timeout(DEADLINE, ending)
        .await
        .expect("the stream ends");
    began.elapsed()
}

#[tokio::test]
async fn it_acts_for_no_agents_but_those_that_its_machine_may_serve() {
    let serving = Serving::start().await;
    let terms = Terms {
        agents: only(&["mine"]),
        ..Terms::default()
    };
    let edge = serving.join("host", terms).await;
    let foreign = serving.rig.api_key(&["theirs"], false).await;
    let refused = edge.log_in(&foreign, Zone::LocalMachine).await.unwrap_err();
    assert_eq!(refused.reason, Reason::AgentMismatch);
    serving
        .audits(edge.machine, "CreateSession", Reason::AgentMismatch)
        .await;

    let both = serving.rig.api_key(&["mine", "theirs"], false).await;
    let session = edge.log_in(&both, Zone::LocalMachine).await.unwrap();
    assert_eq!(session.agent_ids, ["mine"]);
    edge.ask(&session.session_token, "mine").await.unwrap();
    assert_eq!(
        edge.ask(&session.session_token, "theirs").await,
        Err(Reason::AgentMismatch)
    );
    serving
        .audits(edge.machine, "RequestPermission", Reason::AgentMismatch)
        .await;
    let elsewhere = serving.join("other", Terms::default()).await;
    let session = elsewhere.log_in(&both, Zone::LocalMachine).await.unwrap();
    elsewhere
        .ask(&session.session_token, "theirs")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_zone_that_it_claims_counts_for_no_more_than_its_machine() {
    let serving = Serving::start().await;
    let agent = "agent".parse().unwrap();
    let agents = &serving.rig.app.agents;
    agents.put(admin(), put(&agent, 900)).await.unwrap();
    let terms = Terms {
        max_zone: Zone::External,
        ..Terms::default()
    };
    let key = serving.rig.api_key(&["agent"], false).await;
    let decided = async |edge: &FakeEdge| {
        let session = edge.log_in(&key, Zone::LocalMachine).await.unwrap();
        let id = edge.ask(&session.session_token, "agent").await.unwrap();
        let record = serving.rig.app.grants.get(id.parse().unwrap()).await;
        let record = record.unwrap();
        (session.zone, record.zone, record.score.trust)
    };
    let trusted = serving.join("trusted", Terms::default()).await;
    assert_eq!(
        decided(&trusted).await,
        (ZoneMessage::LocalMachine.into(), Zone::LocalMachine, 900)
    );
    let edge = serving.join("host", terms).await;
    assert_eq!(
        decided(&edge).await,
        (ZoneMessage::External.into(), Zone::External, 500)
    );
}

#[tokio::test]
async fn it_cannot_replay_a_session_of_another_machine() {
    let serving = Serving::start().await;
    let (honest, thief) = (
        serving.join("honest", Terms::default()).await,
        serving.join("thief", Terms::default()).await,
    );
    let key = serving.rig.api_key(&["agent"], false).await;
    let session = honest.log_in(&key, Zone::LocalMachine).await.unwrap();
    let token = &session.session_token;
    honest.list(token).await.unwrap();
    assert_eq!(thief.list(token).await, Err(Reason::Unauthenticated));
    assert_eq!(
        thief.ask(token, "agent").await,
        Err(Reason::Unauthenticated)
    );
    for rpc in ["ListActiveGrants", "RequestPermission"] {
        serving
            .audits(thief.machine, rpc, Reason::Unauthenticated)
            .await;
    }
    let (head, signature) = token.rsplit_once('.').unwrap();
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    let forged = format!("{head}.{flipped}{}", &signature[1..]);
    assert_eq!(honest.list(&forged).await, Err(Reason::Unauthenticated));
}

#[tokio::test]
async fn banned_or_evicted_it_is_refused_everything_at_every_control_plane() {
    let here = Serving::start().await;
    let there = here.beside().await;
    let (agent, agents) = ("agent".parse().unwrap(), &here.rig.app.agents);
    agents.put(admin(), put(&agent, 800)).await.unwrap();
    for (how, reason) in [
        (Expulsion::Ban, Reason::MachineBanned),
        (Expulsion::Evict, Reason::MachineEvicted),
    ] {
        let edge = here.join("host", Terms::default()).await;
        let elsewhere = edge.at(&there).await;
        let bystander = there.join("bystander", Terms::default()).await;
        let (key, bystanders) = (
            here.rig.api_key(&["agent"], false).await,
            bystander.watch().await.unwrap(),
        );
        let session = edge.log_in(&key, Zone::LocalMachine).await.unwrap();
        let grant = edge.ask(&session.session_token, "agent").await.unwrap();
        let watches = [
            edge.watch().await.unwrap(),
            elsewhere.watch().await.unwrap(),
        ];

        let expelling = Instant::now();
        let expelled = here.expel(edge.machine, how).await;
        let [first, second] = watches;
        tokio::join!(ends(first), ends(second));
        assert!(expelling.elapsed() < SOON, "{:?}", expelling.elapsed());
        assert_eq!(expelled.ended, 1, "its grant was revoked");
        let record = here.rig.app.grants.get(grant.parse().unwrap()).await;
        assert!(record.unwrap().revoked_at.is_some());

        for edge in [&edge, &elsewhere] {
            for (path, access) in TABLE {
                if !matches!(access, Access::Role(_)) {
                    assert_eq!(edge.refusal(path).await, Some(reason), "{path}");
                }
            }
            assert_eq!(edge.watch().await.unwrap_err(), reason);
            let refused = edge.log_in(&key, Zone::LocalMachine).await.unwrap_err();
            assert_eq!(refused.reason, reason);
            assert_eq!(edge.list(&session.session_token).await, Err(reason));
            let (_, csr_der) = signing_request();
            let renewed = EnrolmentServiceClient::new(edge.channel.clone())
                .renew_certificate(RenewCertificateRequest { csr_der })
                .await;
            assert_eq!(from_status(&renewed.unwrap_err()).reason, reason);
        }
        here.audits(edge.machine, "Watch", reason).await;
        there.audits(edge.machine, "RenewCertificate", reason).await;

        bystander.ping().await.unwrap();
        drop(bystanders);
        here.expel(bystander.machine, Expulsion::Evict).await;
        if how == Expulsion::Evict {
            let again = here.join("host", Terms::default()).await;
            assert_ne!(again.machine, edge.machine, "another machine has its name");
            again.ping().await.unwrap();
            continue;
        }
        let named = "host".parse().unwrap();
        let identity = &here.rig.app.identity;
        identity.unban_machine(admin(), &named).await.unwrap();
        edge.ping().await.unwrap();
        until_async("the other has heard of it", async || {
            elsewhere.ping().await.is_ok()
        })
        .await;
        assert_eq!(
            edge.list(&session.session_token).await,
            Err(Reason::SessionExpired),
            "sessions do not come back"
        );
        edge.log_in(&key, Zone::LocalMachine).await.unwrap();
        here.expel(edge.machine, Expulsion::Evict).await;
    }
}

#[tokio::test]
async fn what_its_machine_is_for_can_change_while_it_is_connected() {
    let here = Serving::start().await;
    let there = here.beside().await;
    let edge = here.join("host", Terms::default()).await;
    let elsewhere = edge.at(&there).await;
    let key = here.rig.api_key(&["mine", "theirs"], false).await;
    let session = edge.log_in(&key, Zone::LocalMachine).await.unwrap();
    let watch = elsewhere.watch().await.unwrap();

    let changing = Instant::now();
    let change = TermsChange {
        max_zone: Some(Zone::TrustedNetwork),
        agents: Some(only(&["mine"])),
        ..TermsChange::default()
    };
    here.update(edge.machine, change).await;
    ends(watch).await;
    assert!(changing.elapsed() < SOON, "{:?}", changing.elapsed());
    for edge in [&edge, &elsewhere] {
        assert_eq!(
            edge.list(&session.session_token).await,
            Err(Reason::SessionExpired)
        );
        let anew = edge.log_in(&key, Zone::LocalMachine).await.unwrap();
        assert_eq!(anew.agent_ids, ["mine"]);
        assert_eq!(anew.zone, i32::from(ZoneMessage::TrustedNetwork));
        edge.list(&anew.session_token).await.unwrap();
    }

    // names concern nobody's session or connection
    let session = edge.log_in(&key, Zone::LocalMachine).await.unwrap();
    let mut watch = edge.watch().await.unwrap();
    let change = TermsChange {
        server_names: Some(vec![ServerName::parse("host.example.org").unwrap()]),
        ..TermsChange::default()
    };
    here.update(edge.machine, change).await;
    watch.message().await.unwrap().expect("a progress mark");
    edge.list(&session.session_token).await.unwrap();
    let own = EnrolmentServiceClient::new(edge.channel.clone())
        .get_own_machine(GetOwnMachineRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(own.server_names, ["host.example.org"]);
    assert_eq!(own.machine_id, edge.machine.to_string());
}
