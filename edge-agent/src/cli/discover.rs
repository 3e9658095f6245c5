//! `edge-agent discover`

use std::{io::Write, process::ExitCode};

use clap::Args;
use serde_json::{Value, json};

use super::{
    Failure,
    agent::{label, labels},
    client::Client,
    output::{Format, print, print_rows},
};

const AFTER_HELP: &str = "\
While the control plane is away, what this edge knows by itself is told, with source and age.
Exit code 3 when nobody was found.

Examples:
  edge-agent discover --capability finance.invoices --min-trust 500 --live
  edge-agent discover --capability 'finance.*' --label region=eu -o json";

const COLUMNS: [&str; 8] = [
    "agent_id",
    "liveness",
    "trust_level",
    "machine_id",
    "capabilities",
    "endpoint",
    "source",
    "age_ms",
];

/// Find agents on any machine
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Discover {
    /// What they can do: `name`, `name@version`, or `namespace.*`
    #[arg(long, value_name = "CAPABILITY")]
    capability: Option<String>,
    /// Trusted no less than this, 0 to 1000
    #[arg(long, value_name = "LEVEL")]
    min_trust: Option<u32>,
    /// Only those that can be expected to answer
    #[arg(long)]
    live: bool,
    /// Registered from there: `local_machine`, `trusted_network` or `external`
    #[arg(long)]
    zone: Option<String>,
    /// Only those of this machine
    #[arg(long, value_name = "ID")]
    machine: Option<String>,
    /// Only those with this label; can be given more than once
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// How many at most, 1 to 1,000
    #[arg(long, value_name = "COUNT")]
    limit: Option<u32>,
    /// `next_cursor` of the answer before
    #[arg(long)]
    cursor: Option<String>,
    #[command(flatten)]
    client: Client,
    #[command(flatten)]
    format: Format,
}

impl Discover {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let arguments = json!({
            "capability": self.capability,
            "min_trust": self.min_trust,
            "live_only": self.live,
            "zone": self.zone,
            "machine_id": self.machine,
            "labels": labels(self.labels),
            "limit": self.limit,
            "cursor": self.cursor,
        });
        let result = self.client.call("discover_agents", &arguments).await?;
        let found = result["agents"].as_array().map_or(&[][..], Vec::as_slice);
        if self.format.is_document() {
            print(self.format, &result)?;
        } else {
            print_rows(&COLUMNS, found)?;
            for note in notes(&result) {
                // with stderr closed there is nobody to tell
                let _ = writeln!(std::io::stderr(), "{note}");
            }
        }
        Ok(ExitCode::from(if found.is_empty() { 3 } else { 0 }))
    }
}

/// What a table of agents does not say.
fn notes(result: &Value) -> Vec<String> {
    let mut notes = Vec::new();
    if result["complete"] != true {
        notes.push("the control plane is away: there may be others".to_owned());
    }
    if let Some(cursor) = result["next_cursor"].as_str() {
        notes.push(format!("there are more: --cursor '{cursor}'"));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_from_the_table_is_said() {
        assert!(notes(&json!({ "complete": true })).is_empty());
        let told = notes(&json!({ "complete": false, "next_cursor": "central:x" }));
        assert!(told[0].contains("away") && told[1].contains("central:x"));
    }
}
