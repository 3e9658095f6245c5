//! Clients of a board, by gRPC at the control plane's edge listener.

use std::sync::Arc;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use authguardian_proto::blackboard::v1::{
    GetRequest, PutRequest, blackboard_service_client::BlackboardServiceClient,
};
use edge_agent::{
    dial::{self, Channel, ServerAddress, TlsSource},
    identity::{self, Store},
};
use tonic::metadata::{Ascii, MetadataValue};

use crate::{
    keys::{Keys, VALUE},
    load::Client,
    machine::{log_in, next_request_id},
};

/// A machine that has joined.
pub(super) struct Machine {
    server: ServerAddress,
    tls: TlsSource,
    api_key: String,
}

/// What a client does over and over.
#[derive(Debug, Clone, Copy)]
pub(super) enum Does {
    Puts,
    Gets,
}

/// One of many clients on one connection.
#[derive(Clone)]
pub(super) struct Asker {
    boards: BlackboardServiceClient<Channel>,
    bearer: MetadataValue<Ascii>,
    board: &'static str,
    keys: Keys,
    does: Does,
}

impl Machine {
    /// Joins.
    pub(super) async fn join(
        server: ServerAddress,
        join_token: &str,
        api_key: &str,
    ) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let token = join_token.parse()?;
        let identity = identity::join(&Store::open(dir.path())?, &server, &token).await?;
        Ok(Self {
            server,
            tls: Arc::new(ArcSwap::from_pointee(identity.tls()?)),
            api_key: api_key.to_owned(),
        })
    }

    /// So many clients on one connection, for the runtime that calls this.
    pub(super) async fn clients(
        &self,
        count: usize,
        does: Does,
        board: &'static str,
        keys: &Keys,
    ) -> Result<Vec<Asker>> {
        let channel = dial::channel(std::slice::from_ref(&self.server), self.tls.clone());
        let bearer = log_in(&channel, &self.api_key).await?;
        let asker = |number: usize| Asker {
            boards: BlackboardServiceClient::new(channel.clone()),
            bearer: bearer.clone(),
            board,
            keys: keys.of_client(number),
            does,
        };
        Ok((0..count).map(asker).collect())
    }
}

impl Client for Asker {
    async fn call(&mut self) -> Result<()> {
        let (board, key) = (self.board.to_owned(), self.keys.next());
        match self.does {
            Does::Puts => {
                let request = self.signed(PutRequest {
                    board,
                    key,
                    value: VALUE.to_owned(),
                    request_id: next_request_id(),
                    ..PutRequest::default()
                });
                let told = self.boards.put(request).await?.into_inner();
                told.position.context("a position").map(drop)
            }
            Does::Gets => {
                let request = self.signed(GetRequest {
                    board,
                    key,
                    ..GetRequest::default()
                });
                let told = self.boards.get(request).await?.into_inner();
                told.entry.context("an entry").map(drop)
            }
        }
    }
}

impl Asker {
    fn signed<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request
            .metadata_mut()
            .insert("authorization", self.bearer.clone());
        request
    }
}
