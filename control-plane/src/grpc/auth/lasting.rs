//! Answers that last no longer than the credential they were begun with: a
//! stream of an admin ends with the token or certificate, one of a machine with
//! its certificate. A call that has begun is not cut before its first message,
//! since that would leave nobody knowing whether a change was made.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use authguardian_proto::ids::AdminTokenId;
use futures::{FutureExt, future::BoxFuture};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::{Status, body::Body};

use super::layer::ended_certificate;
use crate::{grpc::peer::Peer, identity::Identity};

/// How often the credential of a stream is looked at; the streams of a process
/// share each look.
const LOOK: Duration = Duration::from_millis(250);

/// Lets a body go on while an admin's credential is good, and then ends it
/// with the reason. What cannot be looked at is not good.
pub(super) fn while_good(body: Body, identity: Identity, credential: AdminTokenId) -> Body {
    lasting(body, async move {
        loop {
            tokio::time::sleep(LOOK).await;
            if let Err(error) = identity.check_admin(credential).await {
                return error.into();
            }
        }
    })
}

/// Lets a body go on until the certificate of its machine ends.
pub(super) fn while_certified(body: Body, identity: Identity, peer: Peer) -> Body {
    lasting(body, async move {
        loop {
            tokio::time::sleep(LOOK).await;
            if peer.expired(identity.now()) {
                return ended_certificate().into();
            }
        }
    })
}

fn lasting(body: Body, ended: impl Future<Output = Status> + Send + 'static) -> Body {
    Body::new(Lasting {
        body: Some(body),
        ended: ended.boxed(),
    })
}

struct Lasting {
    /// `None`: ended.
    body: Option<Body>,
    ended: BoxFuture<'static, Status>,
}

impl HttpBody for Lasting {
    type Data = <Body as HttpBody>::Data;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        // first, since a body may have a next frame at any time
        if let Poll::Ready(status) = this.ended.poll_unpin(cx) {
            this.body = None;
            let mut trailers = HeaderMap::new();
            let frame = status.add_header(&mut trailers);
            return Poll::Ready(Some(frame.map(|()| Frame::trailers(trailers))));
        }
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if frame.is_none() {
            this.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}
