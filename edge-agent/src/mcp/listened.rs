//! Boards that a client of revision 2026-07-28 listens to. `rmcp` tells it that
//! it is heard before the handler can subscribe to anything: so this is done when
//! the request comes, and nothing that changes after the word is missed.

use std::sync::{Arc, Mutex, PoisonError};

use authguardian_proto::reason::{Problem, Reason};
use rmcp::model::Extensions;
use serde::Deserialize;
use serde_json::{Value, json};

use super::problem::failed;
use crate::core::{BoardSubscription, BoardUri, Caller, Core};

/// Boards that one listener, or one session, can be told of.
pub(super) const MAX_BOARDS: usize = 256;

/// Subscriptions that were begun for a request, as an extension of it.
#[derive(Clone, Default)]
pub struct ListenedBoards(Arc<Mutex<Vec<(String, BoardSubscription)>>>);

impl ListenedBoards {
    /// Those of a request, once.
    pub(super) fn take(extensions: &Extensions) -> Option<Vec<(String, BoardSubscription)>> {
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

/// Subscribes to the boards that a `subscriptions/listen` names; `None` where it
/// names none.
///
/// # Errors
/// The JSON-RPC answer that refuses it.
pub async fn listen_to_boards(
    core: &Core,
    caller: &Caller,
    message: &[u8],
) -> Result<Option<ListenedBoards>, Value> {
    let Ok(message) = serde_json::from_slice::<Message>(message) else {
        // no such message: it is refused for what it is
        return Ok(None);
    };
    let uris = message.params.notifications.resource_subscriptions;
    match subscribe_to_boards(core, caller, uris.iter()).await {
        Ok(begun) if begun.is_empty() => Ok(None),
        Ok(begun) => Ok(Some(ListenedBoards(Arc::new(Mutex::new(begun))))),
        Err(problem) => {
            let error = failed(&problem);
            Err(json!({ "jsonrpc": "2.0", "id": message.id, "error": error }))
        }
    }
}

/// Subscribes to those of the URIs that are of boards.
pub(super) async fn subscribe_to_boards(
    core: &Core,
    caller: &Caller,
    uris: impl Iterator<Item = &String>,
) -> Result<Vec<(String, BoardSubscription)>, Problem> {
    let mut begun = Vec::new();
    for text in uris {
        if let Some(uri) = BoardUri::parse(text) {
            check_room(begun.len())?;
            begun.push((text.clone(), core.subscribe_to_board(caller, &uri).await?));
        }
    }
    Ok(begun)
}

/// Refuses one more than so many.
pub(super) fn check_room(taken: usize) -> Result<(), Problem> {
    if taken < MAX_BOARDS {
        return Ok(());
    }
    let detail = format!(
        "one client can subscribe to {MAX_BOARDS} keys; subscribe to whole boards, `blackboard://{{board}}/`, instead"
    );
    Err(Problem::new(Reason::ResourceExhausted, detail))
}
