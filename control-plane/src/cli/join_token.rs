//! `join-token`: one-time tokens that machines join with.

use authguardian_proto::{
    identity::v1::{
        CreateJoinTokenRequest, JoinToken, ListJoinTokensRequest,
        join_token_service_client::JoinTokenServiceClient,
    },
    ids::MachineName,
    reason::{Problem, Reason},
    zone::Zone,
};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::{
    client::{Authenticated, ClientArgs, RequestIdArgs, change, read},
    failure::Failure,
    machine::terms::{self, NewTermsArgs},
    output::{Format, Row},
    page::PageArgs,
    value::{rfc3339, short_time},
};

const EXAMPLES: &str = "\
Examples:
  control-plane join-token create --machine build-7
  control-plane join-token create --machine build-7 --max-zone trusted_network --agent ci_runner
  control-plane join-token create --machine build-7 --server-name build-7.example.org
  control-plane join-token list
  edge-agent join --server https://control:3004 --token \"$(control-plane join-token create --machine build-7)\"";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct JoinTokenArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a token for one machine; it is shown once
    Create(CreateArgs),
    /// List tokens, newest first, without their secrets
    List(PageArgs),
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// Name of the machine to enrol
    #[arg(long, value_name = "NAME")]
    machine: MachineName,

    /// Seconds until the token ends
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = clap::value_parser!(u32).range(60..=86_400))]
    ttl_seconds: u32,

    #[command(flatten)]
    terms: NewTermsArgs,

    #[command(flatten)]
    request_id: RequestIdArgs,
}

impl JoinTokenArgs {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = JoinTokenServiceClient::new(self.client.connect().await?);
        match self.verb {
            Verb::Create(args) => create(client, args, self.client.output).await,
            Verb::List(args) => list(client, &args, self.client.output).await,
        }
    }
}

async fn create(
    mut client: JoinTokenServiceClient<Authenticated>,
    args: CreateArgs,
    output: Format,
) -> Result<(), Failure> {
    let request_id = args.request_id.resolve()?;
    let request = CreateJoinTokenRequest {
        machine_name: args.machine.to_string(),
        ttl_seconds: args.ttl_seconds,
        request_id: request_id.clone(),
        max_zone: args.terms.max_zone().into(),
        agents: args.terms.agents(),
        server_names: args.terms.server_names(),
    };
    let made = change(&request_id, async || {
        client.create_join_token(request.clone()).await
    })
    .await?;
    if made.join_token.is_empty() {
        return Err(secret_is_lost("join token").into());
    }
    let info = JoinTokenView::from(made.info.unwrap_or_default());
    let about = format!(
        "join token `{}` for machine `{}`, good once until {}",
        info.id,
        info.machine_name,
        short_time(info.expires_at.as_deref())
    );
    let whole = CreatedView {
        join_token: &made.join_token,
        info,
    };
    output.secret(&made.join_token, &whole, &about)
}

/// What a repeat of a creation comes to: secrets are told once.
pub(super) fn secret_is_lost(what: &str) -> Problem {
    let detail =
        format!("the {what} was made, but its text is told only once and was lost; make another");
    Problem::new(Reason::OutcomeUnknown, detail)
}

async fn list(
    client: JoinTokenServiceClient<Authenticated>,
    args: &PageArgs,
    output: Format,
) -> Result<(), Failure> {
    let get = async |page_size, page_token| {
        let request = ListJoinTokensRequest {
            page_size,
            page_token,
        };
        let page = read(async || client.clone().list_join_tokens(request).await).await?;
        let items = page
            .join_tokens
            .into_iter()
            .map(JoinTokenView::from)
            .collect();
        Ok((items, page.next_page_token))
    };
    args.show(output, get).await
}

#[derive(Debug, Serialize)]
struct CreatedView<'a> {
    join_token: &'a str,
    info: JoinTokenView,
}

#[derive(Debug, Serialize)]
struct JoinTokenView {
    id: String,
    machine_name: String,
    max_zone: Option<&'static str>,
    /// `None`: any.
    agent_ids: Option<Vec<String>>,
    server_names: Vec<String>,
    created_at: Option<String>,
    expires_at: Option<String>,
    used_at: Option<String>,
}

impl From<JoinToken> for JoinTokenView {
    fn from(token: JoinToken) -> Self {
        Self {
            created_at: rfc3339(token.created_at.as_ref()),
            expires_at: rfc3339(token.expires_at.as_ref()),
            used_at: rfc3339(token.used_at.as_ref()),
            max_zone: Zone::from_proto(token.max_zone).map(Zone::as_str),
            agent_ids: terms::shown(token.agents),
            server_names: token.server_names,
            id: token.id,
            machine_name: token.machine_name,
        }
    }
}

impl Row for JoinTokenView {
    const PLURAL: &'static str = "join tokens";
    const COLUMNS: &'static [&'static str] = &["ID", "MACHINE", "CREATED", "EXPIRES", "USED"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.machine_name.clone(),
            short_time(self.created_at.as_deref()),
            short_time(self.expires_at.as_deref()),
            short_time(self.used_at.as_deref()),
        ]
    }
}
