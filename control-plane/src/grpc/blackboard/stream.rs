//! Watches, as streams of messages.

use std::{pin::Pin, time::Duration};

use authguardian_proto::{
    blackboard::v1::{WatchRequest, WatchResponse},
    reason::Reason,
};
use futures::stream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status};

use super::message::{position_of, prefix_of, watched};
use crate::{
    blackboard::{Blackboard, Filter, Who},
    error::{Error, Result},
    grpc::convert::parse,
};

/// Messages of a watch.
pub(super) type WatchStream =
    Pin<Box<dyn futures::Stream<Item = std::result::Result<WatchResponse, Status>> + Send>>;

/// Begins a watch, which ends with `stop`, and after `left` with the session.
pub(super) async fn watch(
    blackboard: &Blackboard,
    who: Who,
    message: WatchRequest,
    left: Option<Duration>,
    stop: &CancellationToken,
) -> std::result::Result<Response<WatchStream>, Status> {
    let board = parse("board", &message.board)?;
    let with_previous = message.previous;
    let after = position_of("after", message.after)?;
    let filter = filter(&message.key, message.prefix)?;
    let watch = blackboard.watch(who, board, filter, after).await?;
    let stop = stop.clone();
    let ends = left.map(|left| Instant::now() + left);
    let messages = stream::try_unfold(watch, move |mut watch| {
        let stop = stop.clone();
        async move {
            let over = async {
                match ends {
                    Some(ends) => tokio::time::sleep_until(ends).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                next = watch.next() => {
                    let mut next = next?;
                    if !with_previous {
                        for change in &mut next.changes {
                            change.previous = None;
                        }
                    }
                    Ok(Some((watched(next), watch)))
                }
                () = over => Err(Error::new(Reason::SessionExpired, "this session has ended").into()),
                () = stop.cancelled() => Ok(None),
            }
        }
    });
    Ok(Response::new(Box::pin(messages)))
}

fn filter(key: &str, prefix: String) -> Result<Filter> {
    if key.is_empty() {
        return Ok(Filter::Prefix(prefix_of(prefix)?));
    }
    if !prefix.is_empty() {
        return Err(Error::invalid("prefix", "expected no prefix beside `key`"));
    }
    Ok(Filter::Key(parse("key", key)?))
}
