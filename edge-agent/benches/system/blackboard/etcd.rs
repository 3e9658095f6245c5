//! etcd as a peer: puts and linearizable gets by its own gRPC, at the leader.
//! The few messages that this needs stand here (etcd's `rpc.proto`).

use anyhow::{Context, Result, bail};
use prost::Message;
use tonic::{
    Request,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use crate::{
    keys::{Keys, VALUE},
    load::Client,
};

/// Where its leader listens.
pub(super) struct Etcd {
    leader: String,
}

/// One of many clients on one connection.
#[derive(Clone)]
pub(super) struct Asker {
    channel: Channel,
    keys: Keys,
    does: Does,
}

/// What a client does over and over.
#[derive(Debug, Clone, Copy)]
pub(super) enum Does {
    Puts,
    Gets,
}

#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct PutResponse {}

/// `serializable` stays false: the answer is linearizable.
#[derive(Clone, PartialEq, Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct RangeResponse {
    #[prost(int64, tag = "4")]
    count: i64,
}

#[derive(Clone, PartialEq, Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

impl Etcd {
    /// Looks for the leader.
    pub(super) async fn at(members: &[String]) -> Result<Self> {
        for member in members {
            let channel = Endpoint::from_shared(member.clone())?.connect().await?;
            let status: StatusResponse = call(
                &channel,
                "/etcdserverpb.Maintenance/Status",
                StatusRequest {},
            )
            .await?;
            let id = status.header.context("a header")?.member_id;
            if status.leader == id {
                let leader = member.clone();
                return Ok(Self { leader });
            }
        }
        bail!("etcd has no leader")
    }

    /// So many clients on one connection, for the runtime that calls this.
    pub(super) async fn clients(
        &self,
        count: usize,
        does: Does,
        keys: &Keys,
    ) -> Result<Vec<Asker>> {
        let channel = Endpoint::from_shared(self.leader.clone())?
            .tcp_nodelay(true)
            .connect()
            .await?;
        let asker = |number: usize| Asker {
            channel: channel.clone(),
            keys: keys.of_client(number),
            does,
        };
        Ok((0..count).map(asker).collect())
    }

    /// Writes every key once.
    pub(super) async fn fill(&self, keys: &Keys) -> Result<()> {
        let channel = Endpoint::from_shared(self.leader.clone())?
            .connect()
            .await?;
        for key in keys.all() {
            put(&channel, key).await?;
        }
        Ok(())
    }
}

impl Client for Asker {
    async fn call(&mut self) -> Result<()> {
        let key = self.keys.next();
        match self.does {
            Does::Puts => put(&self.channel, key).await,
            Does::Gets => {
                let request = RangeRequest {
                    key: key.into_bytes(),
                };
                let found: RangeResponse =
                    call(&self.channel, "/etcdserverpb.KV/Range", request).await?;
                if found.count != 1 {
                    bail!("etcd has not the key");
                }
                Ok(())
            }
        }
    }
}

async fn put(channel: &Channel, key: String) -> Result<()> {
    let request = PutRequest {
        key: key.into_bytes(),
        value: VALUE.as_bytes().to_vec(),
    };
    let _: PutResponse = call(channel, "/etcdserverpb.KV/Put", request).await?;
    Ok(())
}

async fn call<Q, A>(channel: &Channel, path: &'static str, request: Q) -> Result<A>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await?;
    let codec = ProstCodec::<Q, A>::default();
    let path = PathAndQuery::from_static(path);
    let answer = grpc.unary(Request::new(request), path, codec).await?;
    Ok(answer.into_inner())
}
