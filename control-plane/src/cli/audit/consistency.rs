//! `audit consistency`.

use std::path::PathBuf;

use authguardian_proto::{
    audit::v1::{ProveConsistencyRequest, ProveConsistencyResponse},
    checkpoint::Checkpoint,
};
use clap::Args;

use super::{
    Client,
    proof::{Consistency, hand_out, keys_of},
};
use crate::cli::{client::read, failure::Failure};

#[derive(Debug, Args)]
#[command(
    after_help = "JSON, whatever `-o` says: both roots, the path between them, and a path to the newest checkpoint, whose root is signed. It was checked before it is written; `audit verify --proof` checks it again, anywhere, and compares its roots with a checkpoint that was kept outside."
)]
pub(super) struct ConsistencyArgs {
    /// The earlier size: how many entries there were
    #[arg(long, value_name = "SIZE", value_parser = clap::value_parser!(u64).range(1..))]
    from: u64,

    /// The later size; without it, that of the newest checkpoint
    #[arg(long, value_name = "SIZE", value_parser = clap::value_parser!(u64).range(1..))]
    to: Option<u64>,

    /// Of which log; without it, the one that is written to
    #[arg(long, value_name = "ORIGIN")]
    origin: Option<String>,

    /// Write to a file instead of stdout
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl ConsistencyArgs {
    pub(super) async fn run(self, mut client: Client) -> Result<(), Failure> {
        let request = ProveConsistencyRequest {
            from_size: self.from,
            to_size: self.to.unwrap_or_default(),
            origin: self.origin.unwrap_or_default(),
        };
        let found = read(async || client.prove_consistency(request).await).await?;
        let keys = keys_of(client.clone(), &found.checkpoint).await?;
        let onward = onward(client, &found, &keys.0).await?;
        let proof = Consistency::of(self.from, found, &onward, keys)?;
        hand_out(&proof, self.file.as_deref())
    }
}

/// The path from the later size to that of the checkpoint.
async fn onward(
    mut client: Client,
    found: &ProveConsistencyResponse,
    origin: &str,
) -> Result<Vec<Vec<u8>>, Failure> {
    // what is no checkpoint is told of when the proof is checked
    let size = Checkpoint::read_unverified(&found.checkpoint).map(|checkpoint| checkpoint.size);
    let size = size.unwrap_or(found.to_size);
    if size <= found.to_size {
        return Ok(Vec::new());
    }
    let request = ProveConsistencyRequest {
        from_size: found.to_size,
        to_size: size,
        origin: origin.to_owned(),
    };
    let found = read(async || client.prove_consistency(request).await).await?;
    Ok(found.proof)
}
