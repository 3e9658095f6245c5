//! `audit prove`.

use std::path::PathBuf;

use authguardian_proto::audit::v1::ProveInclusionRequest;
use clap::Args;

use super::{
    Client,
    proof::{Inclusion, hand_out, keys_of},
};
use crate::cli::{client::read, failure::Failure};

#[derive(Debug, Args)]
#[command(
    after_help = "JSON, whatever `-o` says: the entry, the bytes that are hashed, the path to the root, the checkpoint with that root, and the log's verifier keys. It was checked before it is written; `audit verify --proof` checks it again, anywhere."
)]
pub(super) struct ProveArgs {
    /// Where the entry stands in the log
    #[arg(long, value_name = "N")]
    index: u64,

    /// In which log; without it, the one that is written to
    #[arg(long, value_name = "ORIGIN")]
    origin: Option<String>,

    /// Write to a file instead of stdout
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl ProveArgs {
    pub(super) async fn run(self, mut client: Client) -> Result<(), Failure> {
        let request = ProveInclusionRequest {
            index: self.index,
            origin: self.origin.unwrap_or_default(),
        };
        let found = read(async || client.prove_inclusion(request).await).await?;
        let keys = keys_of(client, &found.checkpoint).await?;
        let proof = Inclusion::of(self.index, found, keys)?;
        hand_out(&proof, self.file.as_deref())
    }
}
