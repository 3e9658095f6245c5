//! One edge that spends, and the control plane as its tests see it.

use std::time::Duration;

use control_plane::{
    audit::Context,
    budgets::{NewBudget, Terms, View, Window},
};
use serde_json::{Value, json};

use crate::{
    edge::{Edge, Launch, RestClient},
    proxy::Proxy,
    rig::ControlPlane,
    wait::{DEADLINE, until_async},
};

/// Whom all calls are for.
pub(super) const AGENT: &str = "data_analyst";

/// A control plane with leases of so many seconds, and a key for [`AGENT`].
pub(super) async fn open(lease_seconds: u32) -> (ControlPlane, String) {
    let configure = |config: &mut control_plane::config::Config| {
        config.budgets.lease_seconds = lease_seconds;
    };
    let control_plane = ControlPlane::start_with(configure).await;
    control_plane.agent(AGENT, 800).await;
    let api_key = control_plane.api_key(&[AGENT], false).await;
    (control_plane, api_key)
}

/// What operators say of a budget that everybody may spend from.
pub(super) fn terms(total: u64) -> Terms {
    Terms {
        unit: "tokens".to_owned(),
        total,
        parent: None,
        window: Window::None,
        carries_over: false,
        thresholds: Vec::new(),
        owner: String::new(),
        spenders: vec!["*".to_owned()],
    }
}

/// Makes one.
pub(super) async fn create(control_plane: &ControlPlane, task: &str, total: u64) {
    let new = NewBudget {
        task: task.parse().unwrap(),
        terms: terms(total),
    };
    let budgets = &control_plane.app.budgets;
    budgets.create(Context::system(), new).await.unwrap();
}

/// A budget as an operator sees it.
pub(super) async fn view(control_plane: &ControlPlane, task: &str) -> View {
    let budgets = &control_plane.app.budgets;
    budgets.get(&task.parse().unwrap()).await.unwrap()
}

/// Waits until a budget is so.
pub(super) async fn comes_to(
    control_plane: &ControlPlane,
    task: &str,
    what: &str,
    is_so: impl Fn(&View) -> bool,
) -> View {
    let last = std::cell::RefCell::new(None);
    let comes = until_async(what, async || {
        let now = view(control_plane, task).await;
        let is_so = is_so(&now);
        *last.borrow_mut() = Some(now);
        is_so
    });
    comes.await;
    last.into_inner().unwrap()
}

/// An edge that can be cut off from the control plane.
pub(super) struct Site {
    pub(super) edge: Edge,
    pub(super) way: Proxy,
    pub(super) client: RestClient,
}

impl Site {
    pub(super) async fn start(control_plane: &ControlPlane, machine: &str, api_key: &str) -> Self {
        let way = Proxy::to(control_plane.edge_grpc).await;
        let launch = Launch::at(&[way.url()]);
        let edge = Edge::start_with(control_plane, machine, launch).await;
        let client = edge.client(api_key);
        Self { edge, way, client }
    }

    /// Nothing passes any more, and everybody knows.
    pub(super) fn cut(&self) {
        self.way.cut();
        self.way.hang_up();
    }

    pub(super) fn mend(&self) {
        self.way.mend();
        self.way.hang_up();
    }

    /// Sets so much aside, however slow the control plane is to answer; its reservation.
    pub(super) async fn reserve(&self, task: &str, tokens: u64) -> String {
        let reserved = answered(async || self.try_reserve(task, tokens).await).await;
        reserved.unwrap_or_else(|problem| panic!("{tokens} of {task}: {problem}"))
    }

    /// Likewise; or why it is refused.
    pub(super) async fn try_reserve(&self, task: &str, tokens: u64) -> Result<String, Value> {
        reserve(&self.client, task, tokens).await
    }

    /// Waits until it is known at this machine that a budget has not so much; it never has.
    pub(super) async fn lacks(&self, task: &str, tokens: u64) {
        until_async("it is known to be exhausted", async || {
            let refusal = self.try_reserve(task, tokens).await.unwrap_err();
            let is_known = refusal["reason"] == "BUDGET_EXHAUSTED";
            assert!(is_known || is_passing(&refusal), "{refusal}");
            is_known
        })
        .await;
    }

    /// What was set aside has come to this.
    pub(super) async fn settle(&self, task: &str, reservation: &str, tokens: u64) -> Value {
        settle(&self.client, task, reservation, tokens).await
    }

    /// Reserves and spends all of it.
    pub(super) async fn spend(&self, task: &str, tokens: u64) {
        let reservation = self.reserve(task, tokens).await;
        self.settle(task, &reservation, tokens).await;
    }
}

/// Whether nothing more is said than that the control plane has not answered in time.
pub(super) fn is_passing(problem: &Value) -> bool {
    ["UNAVAILABLE", "LEASE_EXPIRED"].contains(&problem["reason"].as_str().unwrap())
}

/// Asks again while no more is said than that the control plane has not answered in time.
pub(in crate::budgets) async fn answered<T>(
    mut call: impl AsyncFnMut() -> Result<T, Value>,
) -> Result<T, Value> {
    let asking = async {
        loop {
            match call().await {
                Err(refusal) if is_passing(&refusal) => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                outcome => return outcome,
            }
        }
    };
    let outcome = tokio::time::timeout(DEADLINE, asking).await;
    outcome.unwrap_or_else(|_| panic!("the control plane does not answer"))
}

/// Sets so much aside; its reservation, or why it is refused.
pub(super) async fn reserve(client: &RestClient, task: &str, tokens: u64) -> Result<String, Value> {
    let arguments = json!({"agent_id": AGENT, "task_id": task, "tokens": tokens});
    let (status, body) = client.try_call("request_allocation", arguments).await;
    if !status.is_success() {
        return Err(body);
    }
    assert_eq!(body["granted"], tokens, "{body}");
    Ok(body["reservation_id"].as_str().unwrap().to_owned())
}

/// What was set aside has come to this.
pub(super) async fn settle(
    client: &RestClient,
    task: &str,
    reservation: &str,
    tokens: u64,
) -> Value {
    let settled = client.call("report_spending", settling(task, reservation, tokens));
    let settled = settled.await;
    assert_eq!(settled["recorded"], tokens, "{settled}");
    settled
}

/// The arguments of that.
pub(super) fn settling(task: &str, reservation: &str, tokens: u64) -> Value {
    json!({"agent_id": AGENT, "task_id": task, "tokens": tokens, "reservation_id": reservation})
}
