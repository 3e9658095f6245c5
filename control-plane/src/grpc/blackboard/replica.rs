//! `ReplicaService`.

use std::pin::Pin;

use authguardian_proto::{
    blackboard::v1::{
        Alive, BoardDelta, BoardPosition, FollowRequest, FollowResponse, OpenRequest, OpenResponse,
        PushRequest, PushResponse, Pushed, RefusedWrite, ReplicatedBoard, Siblings, Suspended,
        follow_response::About, replica_service_server::ReplicaService,
    },
    crdt::{Actor, Version},
    ids::{BoardName, MachineId},
};
use futures::{Stream, stream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::message;
use crate::{
    blackboard::{Blackboard, News, Opening, PushedWrite, Refusal, Taken},
    error::{Error, Result},
    events::Position,
    grpc::{
        auth,
        convert::{parse, position, timestamp},
    },
};

/// Most writes that are handed over at once.
const MAX_WRITES: usize = 512;

/// Most boards that a replica has.
const MAX_BOARDS: usize = 100_000;

/// A moment after which nothing ends by itself: the year 9999 in milliseconds.
const LAST_MOMENT: u64 = 253_402_300_799_000;

/// See the `.proto` file.
#[derive(Debug)]
pub struct ReplicaFace {
    /// What is served.
    pub blackboard: Blackboard,
    /// Ends streams.
    pub stop: CancellationToken,
}

#[tonic::async_trait]
impl ReplicaService for ReplicaFace {
    type FollowStream =
        Pin<Box<dyn Stream<Item = std::result::Result<FollowResponse, Status>> + Send>>;

    async fn open(
        &self,
        request: Request<OpenRequest>,
    ) -> std::result::Result<Response<OpenResponse>, Status> {
        let machine = auth::machine(&request)?;
        let message = request.into_inner();
        let opening = Opening {
            incarnation: message.incarnation,
            counter: counter("counter", message.counter)?,
            have: positions(message.have)?,
        };
        let opened = self.blackboard.open_replica(machine, &opening).await?;
        Ok(Response::new(OpenResponse {
            incarnation: opened.incarnation,
            counter: opened.counter,
            leased_until: Some(timestamp(opened.leased_until)),
            epoch: opened.epoch.unsigned_abs(), // they count from 1
        }))
    }

    async fn push(
        &self,
        request: Request<PushRequest>,
    ) -> std::result::Result<Response<PushResponse>, Status> {
        let machine = auth::machine(&request)?;
        let context = auth::context(&request, "")?;
        let message = request.into_inner();
        let actor = Actor {
            machine,
            incarnation: message.incarnation,
        };
        let epoch = i64::try_from(message.epoch)
            .map_err(|_| Error::invalid("epoch", "expected the epoch that Open told"))?;
        let writes = pushed(actor, message.writes)?;
        let counter = writes.last().map_or(0, |write| write.version.dot.counter);
        let refused = self.blackboard.push(context, actor, epoch, writes).await?;
        Ok(Response::new(PushResponse {
            counter,
            refused: refused.into_iter().map(refusal).collect(),
        }))
    }

    async fn follow(
        &self,
        request: Request<FollowRequest>,
    ) -> std::result::Result<Response<Self::FollowStream>, Status> {
        let machine: MachineId = auth::machine(&request)?;
        let have = positions(request.into_inner().have)?;
        let follow = self.blackboard.follow(machine, have);
        let stop = self.stop.clone();
        let messages = stream::try_unfold(follow, move |mut follow| {
            let stop = stop.clone();
            async move {
                tokio::select! {
                    news = follow.next() => Ok(Some((told(news?), follow))),
                    () = stop.cancelled() => Ok(None),
                }
            }
        });
        Ok(Response::new(Box::pin(messages)))
    }
}

fn counter(field: &str, counter: u64) -> Result<u64> {
    if i64::try_from(counter).is_ok() {
        return Ok(counter);
    }
    Err(Error::invalid(field, "expected a count below 2^63"))
}

fn positions(have: Vec<BoardPosition>) -> Result<Vec<(BoardName, Position)>> {
    if have.len() > MAX_BOARDS {
        return Err(Error::invalid(
            "have",
            format!("expected at most {MAX_BOARDS}"),
        ));
    }
    let read = have.into_iter().map(|have| {
        let position = message::position_of("have.position", have.position)?
            .ok_or_else(|| Error::invalid("have.position", "expected a position"))?;
        Ok((parse("have.board", &have.board)?, position))
    });
    read.collect()
}

/// Reads writes, which have to be of the actor, in the order of their counters.
fn pushed(actor: Actor, writes: Vec<Pushed>) -> Result<Vec<PushedWrite>> {
    if !(1..=MAX_WRITES).contains(&writes.len()) {
        return Err(Error::invalid(
            "writes",
            format!("expected 1 to {MAX_WRITES}"),
        ));
    }
    let mut last = 0;
    let mut read = Vec::with_capacity(writes.len());
    for (at, write) in writes.into_iter().enumerate() {
        let field = |name: &str| format!("writes[{at}].{name}");
        let version = write
            .version
            .ok_or_else(|| Error::invalid(&field("version"), "expected a version of a key"))?;
        let (key, version) = Version::from_proto(version)
            .map_err(|error| Error::invalid(&field("version"), error.to_string()))?;
        let dot = version.dot;
        counter(&field("version.dot.counter"), dot.counter)?;
        if dot.actor != actor || dot.counter <= last {
            return Err(Error::invalid(
                &field("version.dot"),
                "expected a write of the calling machine, in the order of its counters",
            ));
        }
        last = dot.counter;
        counter(&field("version.time"), version.time.as_u64())?;
        for (_, seen) in version.clock.iter() {
            counter(&field("version.clock"), seen)?;
        }
        if version.clock.of(actor) != dot.counter {
            return Err(Error::invalid(
                &field("version.clock"),
                "expected to have seen of its own actor just this write",
            ));
        }
        let content = &version.content;
        if content
            .expires_at_millis
            .is_some_and(|end| end > LAST_MOMENT)
        {
            return Err(Error::invalid(
                &field("version.expires_at_millis"),
                format!("expected at most {LAST_MOMENT}"),
            ));
        }
        if let Some(value) = content.value.as_deref() {
            crate::blackboard::Value::parse(&field("version.value"), value)?;
        }
        let agent = content.writer.strip_prefix("agent:").unwrap_or_default();
        read.push(PushedWrite {
            board: parse(&field("board"), &write.board)?,
            agent: parse(&field("version.writer"), agent)?,
            key,
            version,
        });
    }
    Ok(read)
}

fn refusal(refused: Refusal) -> RefusedWrite {
    RefusedWrite {
        board: refused.board.to_string(),
        key: refused.key.to_string(),
        counter: refused.counter,
        reason: refused.problem.reason.as_str().to_owned(),
        detail: refused.problem.detail,
        siblings: Some(Siblings {
            versions: refused.siblings.iter().map(taken).collect(),
        }),
    }
}

pub(super) fn taken(taken: &Taken) -> authguardian_proto::blackboard::v1::Version {
    let revision = taken.revision.unsigned_abs(); // they count from 1
    taken.version.to_proto(&taken.key, revision)
}

fn told(news: News) -> FollowResponse {
    let about = match news {
        News::Board { board, reset } => About::Board(ReplicatedBoard {
            board: Some(message::board(*board)),
            reset,
        }),
        News::Part {
            board,
            part,
            position: at,
        } => About::Delta(BoardDelta {
            board: board.to_string(),
            position: at.map(position),
            versions: part.versions().iter().map(taken).collect(),
            entries: part.entries().iter().cloned().map(message::entry).collect(),
            gone: part.gone().iter().map(ToString::to_string).collect(),
            collected: part.collected().unsigned_abs(),
        }),
        News::Dropped(board) => About::Dropped(board.to_string()),
        News::Suspended(suspended) => About::Suspended(Suspended {
            everything: suspended.everything,
            agents: suspended.agents.iter().map(ToString::to_string).collect(),
            boards: suspended.boards.iter().map(ToString::to_string).collect(),
        }),
        News::Alive => About::Alive(Alive {}),
    };
    FollowResponse { about: Some(about) }
}

#[cfg(test)]
mod tests {
    use authguardian_proto::{
        crdt::{Dot, HybridTime, Write},
        reason::Reason,
    };
    use uuid::Uuid;

    use super::*;

    fn actor(number: u128) -> Actor {
        Actor {
            machine: MachineId::from_uuid(Uuid::from_u128(number)),
            incarnation: 1,
        }
    }

    fn write(counter: u64) -> Version<Write> {
        let dot = Dot {
            actor: actor(7),
            counter,
        };
        Version {
            dot,
            clock: [(dot.actor, counter)].into_iter().collect(),
            time: HybridTime::new(1, 0),
            content: Write {
                value: Some("1".into()),
                writer: "agent:scout".into(),
                expires_at_millis: None,
            },
        }
    }

    fn push(versions: &[Version<Write>]) -> Result<Vec<PushedWrite>> {
        let key = "k".parse().unwrap();
        let writes = versions.iter().map(|version| Pushed {
            board: "eventual".to_owned(),
            version: Some(version.to_proto(&key, 0)),
        });
        pushed(actor(7), writes.collect())
    }

    #[test]
    fn writes_are_of_the_machine_itself_in_their_order_and_well_formed() {
        assert_eq!(push(&[write(1), write(5)]).unwrap().len(), 2);
        assert!(push(&[]).is_err());
        let field = |versions: &[Version<Write>]| {
            let error = push(versions).unwrap_err();
            assert_eq!(error.reason(), Reason::InvalidArgument);
            error.problem().field.clone().unwrap()
        };
        assert_eq!(field(&[write(2), write(2)]), "writes[1].version.dot");
        let mut foreign = write(1);
        foreign.dot.actor = actor(8);
        foreign.clock.see(foreign.dot);
        assert_eq!(field(&[foreign]), "writes[0].version.dot");
        let mut ahead = write(1);
        ahead.clock.see(Dot {
            actor: actor(7),
            counter: 2,
        });
        assert_eq!(field(&[ahead]), "writes[0].version.clock");
        let mut late = write(1);
        late.time = HybridTime::from_u64(u64::MAX);
        assert_eq!(field(&[late]), "writes[0].version.time");
        let mut ends = write(1);
        ends.content.expires_at_millis = Some(u64::MAX);
        assert_eq!(field(&[ends]), "writes[0].version.expires_at_millis");
        let mut rubbish = write(1);
        rubbish.content.value = Some("{a: 1}".into());
        assert_eq!(field(&[rubbish]), "writes[0].version.value");
        for writer in ["admin:adm_1", "agent:", "agent:a b"] {
            let mut named = write(1);
            named.content.writer = writer.into();
            assert_eq!(field(&[named]), "writes[0].version.writer");
        }
    }
}
