//! `policy`: the rules that decide.

use std::{io::Read, path::PathBuf};

use authguardian_proto::{
    policy::v1::{
        GetPolicyRequest, Policy, PutPolicyRequest, ValidatePolicyRequest,
        policy_service_client::PolicyServiceClient,
    },
    reason::Problem,
};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::{
    client::{Authenticated, ClientArgs, RequestIdArgs, change, read},
    failure::Failure,
    output::{Format, note, write_stdout},
    value::rfc3339,
};

const EXAMPLES: &str = "\
Examples:
  control-plane policy get > policy.cedar
  control-plane policy validate policy.cedar
  control-plane policy put policy.cedar --if-version 3
  control-plane policy get --schema

`policy get` prints the Cedar text as it was uploaded; `-o json` adds version and schema. `policy validate` exits with 1 when the policy would be refused.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PolicyArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print the policy set in force, or an older version
    Get(GetArgs),
    /// Validate a policy set and put it in force as the next version
    Put(PutArgs),
    /// Tell what `put` would say, and change nothing
    Validate {
        /// Cedar text; `-` for stdin
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
struct GetArgs {
    /// Which version; without it, the one in force
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    version: u64,

    /// The Cedar schema that policies are checked against, instead
    #[arg(long)]
    schema: bool,
}

#[derive(Debug, Args)]
struct PutArgs {
    /// Cedar text; `-` for stdin
    file: PathBuf,

    /// Only if this version is still in force
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    if_version: Option<u64>,

    #[command(flatten)]
    request_id: RequestIdArgs,
}

impl PolicyArgs {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = PolicyServiceClient::new(self.client.connect().await?);
        let output = self.client.output;
        match self.verb {
            Verb::Get(args) => get(client, args, output).await,
            Verb::Put(args) => put(client, args, output).await,
            Verb::Validate { file } => validate(client, file, output).await,
        }
    }
}

async fn get(
    mut client: PolicyServiceClient<Authenticated>,
    args: GetArgs,
    output: Format,
) -> Result<(), Failure> {
    let request = GetPolicyRequest {
        version: args.version,
    };
    let found = read(async || client.get_policy(request).await).await?;
    let policy = found.policy.unwrap_or_default();
    match output {
        Format::Table if args.schema => write_text(&found.schema),
        Format::Table => write_text(&policy.source),
        _ => output.one(&PolicyView {
            schema: Some(found.schema),
            ..policy.into()
        }),
    }
}

async fn put(
    mut client: PolicyServiceClient<Authenticated>,
    args: PutArgs,
    output: Format,
) -> Result<(), Failure> {
    let request_id = args.request_id.resolve()?;
    let request = PutPolicyRequest {
        source: read_source(&args.file)?,
        if_version: args.if_version.unwrap_or_default(),
        request_id: request_id.clone(),
    };
    let put = change(&request_id, async || {
        client.put_policy(request.clone()).await
    })
    .await?;
    let policy = put.policy.unwrap_or_default();
    match output {
        Format::Table => note(&format!("policy version {} is in force", policy.version)),
        _ => output.one(&PolicyView::from(policy)),
    }
}

async fn validate(
    mut client: PolicyServiceClient<Authenticated>,
    file: PathBuf,
    output: Format,
) -> Result<(), Failure> {
    let request = ValidatePolicyRequest {
        source: read_source(&file)?,
    };
    let found = read(async || client.validate_policy(request).await).await?;
    let view = FindingsView {
        valid: found.valid,
        errors: found.errors,
        warnings: found.warnings,
    };
    if output == Format::Table {
        let errors = view
            .errors
            .iter()
            .map(|finding| format!("error: {finding}\n"));
        let warnings = view
            .warnings
            .iter()
            .map(|finding| format!("warning: {finding}\n"));
        write_stdout(&errors.chain(warnings).collect::<String>())?;
        note(if view.valid {
            "the policy is valid"
        } else {
            "the policy is not valid"
        })?;
    } else {
        output.one(&view)?;
    }
    if view.valid {
        Ok(())
    } else {
        Err(Failure::Told(1))
    }
}

fn read_source(file: &PathBuf) -> Result<String, Failure> {
    let read = if file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    let unreadable =
        |error| Problem::invalid("file", format!("cannot read `{}`: {error}", file.display()));
    Ok(read.map_err(unreadable)?)
}

fn write_text(text: &str) -> Result<(), Failure> {
    let end = if text.ends_with('\n') { "" } else { "\n" };
    write_stdout(&format!("{text}{end}"))
}

#[derive(Debug, Serialize)]
struct PolicyView {
    version: u64,
    active: bool,
    created_at: Option<String>,
    created_by: String,
    source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<String>,
}

#[derive(Debug, Serialize)]
struct FindingsView {
    valid: bool,
    errors: Vec<String>,
    warnings: Vec<String>,
}

impl From<Policy> for PolicyView {
    fn from(policy: Policy) -> Self {
        Self {
            created_at: rfc3339(policy.created_at.as_ref()),
            version: policy.version,
            active: policy.active,
            created_by: policy.created_by,
            source: policy.source,
            schema: None,
        }
    }
}
