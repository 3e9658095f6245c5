//! Twenty edges: what is revoked anywhere is refused by all of them.

use control_plane::{audit::Context, events::RevocationTarget};
use futures::future::join_all;
use serde_json::json;

use super::held::{Held, becomes, verdict};
use crate::{
    edge::{Edge, RestClient},
    rig::ControlPlane,
};

const EDGES: usize = 20;

/// Tells grants of `EXTERNAL_SERVICE` from all others by their policy.
const POLICIES: &str = r#"
@id("permit-external")
@max_staleness("60s")
permit (principal, action == Action::"request", resource == ResourceType::"EXTERNAL_SERVICE");

@id("permit-others")
@max_staleness("60s")
permit (principal, action == Action::"request", resource)
unless { resource == ResourceType::"EXTERNAL_SERVICE" };
"#;

#[tokio::test]
async fn a_revoked_grant_is_refused_by_every_edge_without_asking() {
    let fleet = Fleet::start().await;
    let kinds = [
        RevocationTarget::Agent("data_analyst".parse().unwrap()),
        RevocationTarget::Machine(fleet.machine(0).await),
        RevocationTarget::ResourceType("SAP_API".parse().unwrap()),
        RevocationTarget::Policy("permit-others".to_owned()),
    ];
    for target in kinds {
        let ended = fleet.hold(0, "data_analyst", "SAP_API").await;
        // differs from it in all that a predicate can name
        let spared = fleet.hold(1, "orchestrator", "EXTERNAL_SERVICE").await;
        fleet.all_say(&ended, "valid").await;
        fleet.all_say(&spared, "valid").await;
        fleet.revoke(target.clone()).await;
        fleet.all_come_to_say(&ended, "GRANT_REVOKED").await;
        fleet.all_say(&spared, "valid").await;
        let next = fleet.hold(0, "data_analyst", "SAP_API").await;
        fleet.all_say(&next, "valid").await;
    }

    let (one, other) = tokio::join!(
        fleet.hold(2, "data_analyst", "SAP_API"),
        fleet.hold(3, "orchestrator", "EXTERNAL_SERVICE"),
    );
    fleet.all_say(&one, "valid").await;
    let told = fleet.clients[7].call("revoke_token", json!({"token": one.token}));
    assert_eq!(told.await["revoked"], true);
    let here = one.validate(&fleet.clients[7]).await;
    assert_eq!(
        verdict(&here),
        "GRANT_REVOKED",
        "right after its own answer"
    );
    fleet.all_come_to_say(&one, "GRANT_REVOKED").await;
    fleet.all_say(&other, "valid").await;

    fleet.revoke(RevocationTarget::Everything).await;
    fleet.all_come_to_say(&other, "GRANT_REVOKED").await;
    let asked = fleet
        .control_plane
        .calls("grants.v1.GrantService/ValidateToken");
    assert_eq!(asked, 0, "an edge has asked the control plane");
}

struct Fleet {
    control_plane: ControlPlane,
    clients: Vec<RestClient>,
    edges: Vec<Edge>,
}

impl Fleet {
    async fn start() -> Self {
        let control_plane = ControlPlane::start().await;
        control_plane.agent("data_analyst", 800).await;
        control_plane.agent("orchestrator", 900).await;
        let put = control_plane
            .app
            .policies
            .put(Context::system(), POLICIES.to_owned(), None);
        put.await.unwrap();
        let key = control_plane
            .api_key(&["data_analyst", "orchestrator"], false)
            .await;
        let names: Vec<String> = (0..EDGES).map(|number| format!("host-{number}")).collect();
        let edges = join_all(names.iter().map(|name| Edge::start(&control_plane, name))).await;
        let clients = edges.iter().map(|edge| edge.client(&key)).collect();
        Self {
            control_plane,
            clients,
            edges,
        }
    }

    async fn machine(&self, edge: usize) -> authguardian_proto::ids::MachineId {
        let name = format!("host-{edge}");
        let machine = self.control_plane.app.identity.find_machine(&name);
        machine.await.unwrap().id
    }

    async fn hold(&self, edge: usize, agent: &'static str, resource_type: &'static str) -> Held {
        Held::of(&self.clients[edge], agent, resource_type).await
    }

    async fn revoke(&self, target: RevocationTarget) {
        let revoked = self
            .control_plane
            .app
            .grants
            .revoke_matching(Context::system(), target, "");
        revoked.await.unwrap();
    }

    async fn all_say(&self, held: &Held, wanted: &str) {
        let answers = self.clients.iter().map(|client| held.validate(client));
        for (answer, edge) in join_all(answers).await.iter().zip(&self.edges) {
            assert_eq!(verdict(answer), wanted, "{}: {answer}", edge.url);
        }
    }

    async fn all_come_to_say(&self, held: &Held, wanted: &str) {
        let waits = self
            .clients
            .iter()
            .map(|client| becomes(client, held, wanted));
        join_all(waits).await;
        // and go on saying so
        self.all_say(held, wanted).await;
    }
}
