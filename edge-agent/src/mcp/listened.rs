//! Boards and budgets that a client of revision 2026-07-28 listens to. `rmcp` tells it that
//! it is heard before the handler can subscribe to anything: so this is done when
//! the request comes, and nothing that changes after the word is missed.

use std::sync::{Arc, Mutex, PoisonError};

use authguardian_proto::reason::{Problem, Reason};
use rmcp::model::Extensions;
use serde::Deserialize;
use serde_json::{Value, json};

use super::problem::failed;
use crate::core::{Caller, Core, Readable, Subscription};

/// Keys, boards and budgets that one listener, or one session, can be told of.
pub(super) const MAX_FOLLOWED: usize = 256;

/// Subscriptions that were begun for a request, as an extension of it.
#[derive(Clone, Default)]
pub struct Listened(Arc<Mutex<Vec<(String, Subscription)>>>);

impl Listened {
    /// Those of a request, once.
    pub(super) fn take(extensions: &Extensions) -> Option<Vec<(String, Subscription)>> {
        let of_request = extensions.get::<http::request::Parts>();
        let Self(begun) = of_request
            .and_then(|parts| parts.extensions.get::<Self>())
            .or_else(|| extensions.get::<Self>())?;
        let mut begun = begun.lock().unwrap_or_else(PoisonError::into_inner);
        Some(std::mem::take(&mut *begun))
    }
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    id: Value,
    params: Params,
}

#[derive(Deserialize)]
struct Params {
    #[serde(default)]
    notifications: Wanted,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wanted {
    #[serde(default)]
    resource_subscriptions: Vec<String>,
}

/// Subscribes to the boards and budgets that a `subscriptions/listen` names; `None`
/// where it names none.
///
/// # Errors
/// The JSON-RPC answer that refuses it.
pub async fn begin_to_listen(
    core: &Core,
    caller: &Caller,
    message: &[u8],
) -> Result<Option<Listened>, Value> {
    let Ok(message) = serde_json::from_slice::<Message>(message) else {
        // no such message: it is refused for what it is
        return Ok(None);
    };
    let uris = message.params.notifications.resource_subscriptions;
    match subscribe_to_all(core, caller, uris.iter()).await {
        Ok(begun) if begun.is_empty() => Ok(None),
        Ok(begun) => Ok(Some(Listened(Arc::new(Mutex::new(begun))))),
        Err(problem) => {
            let error = failed(&problem);
            Err(json!({ "jsonrpc": "2.0", "id": message.id, "error": error }))
        }
    }
}

/// Subscribes to those of the URIs that are of boards or budgets.
pub(super) async fn subscribe_to_all(
    core: &Core,
    caller: &Caller,
    uris: impl Iterator<Item = &String>,
) -> Result<Vec<(String, Subscription)>, Problem> {
    let mut begun = Vec::new();
    for text in uris {
        let what = Readable::parse(text);
        let Some(what) = what.filter(|what| !matches!(what, Readable::Resource(_))) else {
            continue;
        };
        check_room(begun.len())?;
        let subscribed = core.subscribe(caller, &what).await?;
        begun.extend(subscribed.map(|subscription| (text.clone(), subscription)));
    }
    Ok(begun)
}

/// Refuses one more than so many.
pub(super) fn check_room(taken: usize) -> Result<(), Problem> {
    if taken < MAX_FOLLOWED {
        return Ok(());
    }
    let detail = format!(
        "one client can subscribe to {MAX_FOLLOWED} keys and budgets; subscribe to whole boards, `blackboard://{{board}}/`, instead"
    );
    Err(Problem::new(Reason::ResourceExhausted, detail))
}
