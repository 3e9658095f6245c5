//! Leaves a control plane that answers and cannot work, say because it is cut off
//! from its database, for another that can: gRPC's health checking, by the client
//! (grpc/doc/health-checking.md).

use std::time::Duration;

use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::Channel;
use crate::clock::Ambient;

/// How long it may say that it cannot work before another is looked for; a
/// failover of the database that all share is over sooner, or none can work.
const PATIENCE: Duration = Duration::from_secs(1);

/// For the answer of another.
const ANSWER: Duration = Duration::from_secs(2);

/// Before it is looked around again, doubled up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Whether the control plane that the channel is at can work, as it tells itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// It has said for long enough that it cannot.
    OutOfService,
    /// There is no word of it; a broken connection is the channel's own affair.
    Nothing,
}

/// Replaces the channel's connection whenever its control plane says that it
/// cannot work and another says that it can. Runs for ever.
pub async fn follow_service(channel: Channel, ambient: Ambient) {
    let mut pause = PAUSE_MIN;
    loop {
        let mut replaced = channel.replacements();
        let heard = tokio::select! {
            heard = listen(&channel) => heard,
            _ = replaced.changed() => continue,
        };
        let next = match heard {
            Heard::OutOfService if move_on(&channel).await => {
                pause = PAUSE_MIN;
                continue;
            }
            Heard::OutOfService => (pause * 2).min(PAUSE_MAX),
            Heard::Nothing => PAUSE_MIN,
        };
        tokio::time::sleep(ambient.jittered(pause)).await;
        pause = next;
    }
}

/// Listens for as long as it can work.
async fn listen(channel: &Channel) -> Heard {
    let mut client = HealthClient::new(channel.clone());
    let Ok(told) = client.watch(HealthCheckRequest::default()).await else {
        return Heard::Nothing;
    };
    let mut told = told.into_inner();
    let mut serves = true;
    loop {
        let next = told.message();
        let next = if serves {
            next.await
        } else {
            match tokio::time::timeout(PATIENCE, next).await {
                Ok(next) => next,
                Err(_) => return Heard::OutOfService,
            }
        };
        match next {
            Ok(Some(told)) => serves = told.status() != ServingStatus::NotServing,
            _ => return Heard::Nothing,
        }
    }
}

/// Goes over to the next one that can work; whether there is one.
async fn move_on(channel: &Channel) -> bool {
    let (present, addresses) = channel.places();
    for step in 1..addresses.len() {
        let index = (present + step) % addresses.len();
        let address = &addresses[index];
        if serves(channel.to(address)).await {
            tracing::info!(%address, "the control plane cannot work now: going over to another");
            channel.prefer(index);
            return true;
        }
    }
    false
}

async fn serves(channel: Channel) -> bool {
    let mut client = HealthClient::new(channel);
    let asked = client.check(HealthCheckRequest::default());
    let answer = tokio::time::timeout(ANSWER, asked).await;
    matches!(answer, Ok(Ok(told)) if told.get_ref().status() == ServingStatus::Serving)
}
