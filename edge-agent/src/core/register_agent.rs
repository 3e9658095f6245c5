//! `register_agent`, `deregister_agent` and `heartbeat`: what agents say of
//! themselves.

use authguardian_proto::{
    capability::Capability,
    endpoint::Endpoint,
    ids::AgentId,
    reason::{Problem, Reason},
    registry::v1::{DeregisterAgentRequest, OwnAgent, RegisterAgentRequest},
    zone::Zone,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

use super::{
    Caller, Core,
    agent_result::AgentResult,
    decision::given,
    form::{Field, Form, Kind},
    name_request_id, request_id,
    request_permission::REQUEST_ID,
};
use crate::agents::{Own, Registered};

const AGENT_ID: Field = Field::required(
    "agent_id",
    Kind::Agent,
    "The agent; the API key must speak for it",
);

pub(super) const REGISTER: &[Field] = &[
    AGENT_ID,
    Field::optional(
        "capabilities",
        Kind::Capabilities,
        "What it can do: names in namespaces such as `finance.invoices.read`, with a version as \
         `finance.invoices.read@1.2`, or objects with `name`, `version` and `attributes`; at most 32",
    ),
    Field::optional(
        "endpoint",
        Kind::Endpoint,
        "URL of the agent's MCP server as this machine reaches it, such as `http://127.0.0.1:8000/mcp`; other \
         agents reach it through this edge",
    ),
    Field::optional(
        "labels",
        Kind::Labels,
        "For choosing among agents, such as `{\"region\": \"eu\"}`; at most 16",
    ),
    Field::optional(
        "trust_level",
        Kind::Whole(0, 1000),
        "Be trusted no further than this; never more than operators say",
    ),
    Field::optional(
        "ttl_seconds",
        Kind::Whole(5, 86_400),
        "Seconds without a sign of life (a heartbeat, or a call for this agent) until it is suspect; default 90",
    ),
    REQUEST_ID,
];

pub(super) const DEREGISTER: &[Field] = &[AGENT_ID, REQUEST_ID];

pub(super) const HEARTBEAT: &[Field] = &[AGENT_ID, REQUEST_ID];

impl Core {
    pub(super) async fn register_agent(
        &self,
        caller: &Caller,
        form: &Form,
    ) -> Result<AgentResult, Problem> {
        let agent_id = form.agent()?;
        caller.speaks_for(&agent_id)?;
        let request_id = request_id(form, &self.ambient);
        let capabilities = form.capabilities("capabilities")?;
        let endpoint: Option<Endpoint> = form.parsed("endpoint")?;
        let request = RegisterAgentRequest {
            agent_id: agent_id.to_string(),
            capabilities: capabilities.iter().map(Capability::to_message).collect(),
            endpoint: endpoint.map(String::from).unwrap_or_default(),
            labels: form.labels("labels")?.into_iter().collect(),
            trust_level: form.number("trust_level"),
            ttl_seconds: form.message_number("ttl_seconds"),
            request_id: request_id.clone(),
        };
        let response = self
            .upstream
            .register_agent(caller.login(), request)
            .await
            .map_err(|problem| name_request_id(problem, &request_id))?;
        let own = response.agent.ok_or_else(unreadable)?;
        let now = self.ambient.clock.since_boot();
        self.agents.take(registered(own.clone())?, now);
        Ok(own.agent.ok_or_else(unreadable)?.into())
    }

    pub(super) async fn deregister_agent(
        &self,
        caller: &Caller,
        form: &Form,
    ) -> Result<AgentResult, Problem> {
        let agent_id = form.agent()?;
        caller.speaks_for(&agent_id)?;
        let request_id = request_id(form, &self.ambient);
        let request = DeregisterAgentRequest {
            agent_id: agent_id.to_string(),
            request_id: request_id.clone(),
        };
        let response = self
            .upstream
            .deregister_agent(caller.login(), request)
            .await
            .map_err(|problem| name_request_id(problem, &request_id))?;
        let agent = response.agent.ok_or_else(unreadable)?;
        self.agents.forget(&agent_id, agent.epoch);
        Ok(agent.into())
    }

    /// Answered here: the edge tells the registry what changes.
    pub(super) fn heartbeat(&self, caller: &Caller, form: &Form) -> Result<AgentResult, Problem> {
        let agent_id = form.agent()?;
        caller.speaks_for(&agent_id)?;
        let own = self.agents.get(&agent_id).ok_or_else(|| {
            let detail = format!(
                "the agent `{agent_id}` is not registered through this edge; `register_agent` does that"
            );
            Problem::new(Reason::UnknownAgent, detail).at("agent_id")
        })?;
        if own.registered.api_key_id != caller.api_key_id() {
            let detail = format!("the agent `{agent_id}` was registered with another API key");
            return Err(Problem::new(Reason::AgentMismatch, detail).at("agent_id"));
        }
        self.sign_of_life(caller, &agent_id);
        Ok(self.told(self.agents.get(&agent_id).unwrap_or(own)))
    }

    /// An agent has shown that it is there.
    pub(super) fn sign_of_life(&self, caller: &Caller, agent: &AgentId) {
        let now = self.ambient.clock.since_boot();
        self.agents.heard(agent, caller.api_key_id(), now);
    }

    /// An agent of this edge, as it is known here.
    pub(super) fn told(&self, own: Own) -> AgentResult {
        let now = self.ambient.clock.since_boot();
        let liveness = own.liveness(now);
        let silence = i64::try_from(own.silence(now).as_secs()).unwrap_or_default();
        AgentResult::of_own(own.registered, liveness, self.unix() - silence)
    }

    /// The control plane's time as far as it is known, else this machine's:
    /// seconds since 1970.
    pub(super) fn unix(&self) -> i64 {
        self.verifier.now(&self.ambient)
    }
}

/// Reads what the registry says of an agent of this machine.
pub(super) fn registered(own: OwnAgent) -> Result<Registered, Problem> {
    let agent = own.agent.ok_or_else(unreadable)?;
    let capabilities = agent.capabilities.into_iter().map(Capability::from);
    Ok(Registered {
        agent_id: agent.agent_id.parse().map_err(|_| unreadable())?,
        epoch: agent.epoch,
        machine_id: agent.machine_id.parse().map_err(|_| unreadable())?,
        api_key_id: own.api_key_id.parse().map_err(|_| unreadable())?,
        capabilities: capabilities.collect(),
        endpoint: given(agent.endpoint).and_then(|url| url.parse().ok()),
        labels: agent.labels.into_iter().collect(),
        trust_level: agent.trust_level,
        zone: Zone::from_proto(agent.zone).ok_or_else(unreadable)?,
        ttl_seconds: agent.ttl_seconds,
        registered_at: agent.registered_at.map_or(0, |time| time.seconds),
        record_times: times(&own.signed_record),
        signed_record: own.signed_record,
    })
}

/// When a record was made and when it ends; it comes from the control plane
/// itself, so that nobody has to check it here.
fn times(record: &str) -> (i64, i64) {
    #[derive(Default, Deserialize)]
    struct Times {
        iat: i64,
        exp: i64,
    }
    let claims = || {
        let claims = URL_SAFE_NO_PAD.decode(record.split('.').nth(1)?).ok()?;
        serde_json::from_slice::<Times>(&claims).ok()
    };
    let Times { iat, exp } = claims().unwrap_or_default();
    (iat, exp)
}

fn unreadable() -> Problem {
    Problem::new(
        Reason::Internal,
        "the control plane's answer cannot be understood by this edge",
    )
}

#[cfg(test)]
mod tests {
    use authguardian_proto::registry::v1::RemoteAgent;

    use super::*;

    #[test]
    fn an_answer_is_read_with_the_times_of_its_record() {
        let claims = URL_SAFE_NO_PAD.encode(r#"{"iat": 5, "exp": 9, "more": 1}"#);
        let own = OwnAgent {
            agent: Some(RemoteAgent {
                agent_id: "a".into(),
                machine_id: "mch_0000000000000000000007".into(),
                zone: Zone::LocalMachine.to_proto().into(),
                epoch: 3,
                endpoint: "http://127.0.0.1:1/mcp".into(),
                ..RemoteAgent::default()
            }),
            signed_record: format!("x.{claims}.y"),
            api_key_id: "apk_0000000000000000000008".into(),
        };
        let read = registered(own.clone()).unwrap();
        assert_eq!((read.epoch, read.record_times), (3, (5, 9)));
        assert!(read.endpoint.is_some());
        let without = OwnAgent { agent: None, ..own };
        assert_eq!(registered(without).unwrap_err().reason, Reason::Internal);
        assert_eq!(times("rubbish"), (0, 0));
    }
}
