//! `edge-agent status`

use std::process::ExitCode;

use authguardian_proto::reason::Reason;
use clap::Args;

use super::{
    Failure,
    client::Client,
    output::{Format, print},
};

/// Show how the running edge is
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 6 when the control plane is not heard.\n\nExample:\n  edge-agent status -o json"
)]
pub(super) struct Status {
    #[command(flatten)]
    client: Client,
    #[command(flatten)]
    format: Format,
}

impl Status {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let readiness = self.client.look("/readyz").await?;
        print(self.format, &readiness)?;
        let ready = readiness["ready"].as_bool().unwrap_or_default();
        Ok(ExitCode::from(if ready {
            0
        } else {
            Reason::Unavailable.code().exit()
        }))
    }
}
