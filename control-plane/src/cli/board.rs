//! `board`: boards, what they promise and who may use them.

use authguardian_proto::{
    blackboard::v1::{
        AgentList, Board, CreateBoardRequest, GetBoardRequest, Level as PbLevel, ListBoardsRequest,
        UpdateBoardRequest, blackboard_admin_service_client::BlackboardAdminServiceClient,
    },
    board::Level,
    ids::BoardName,
};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::{
    client::{Authenticated, ClientArgs, RequestIdArgs, change, read},
    failure::Failure,
    output::{Format, Row},
    page::PageArgs,
    value::{enum_name, or_dash, parse_score, rfc3339},
};

const EXAMPLES: &str = "\
Examples:
  control-plane board create plans --level strong --description \"who does what\"
  control-plane board create secrets --level strong --reader auditor --writer orchestrator --requires-grant
  control-plane board create scratch --level eventual --max-keys 10000 --default-ttl-seconds 3600
  control-plane board update plans --min-trust 0.5 --reader '*'
  control-plane board show strong -o json
  control-plane board list

`eventual` is merged and lives through partitions, `session` is ordered, `strong` is linearizable. A board's level never changes.

Agents in `--reader` and `--writer` are ids, or `*` for every agent; without either every agent reads and writes. With `--requires-grant` an agent also needs a live grant on `board:NAME`, which the policies judge.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BoardArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a board
    Create(Box<CreateArgs>),
    /// Change what is named of a board
    Update(Box<UpdateArgs>),
    /// Show one board
    Show {
        /// Which one
        name: BoardName,
    },
    /// List boards by name
    List(PageArgs),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LevelArg {
    /// Merged; also where the control plane is away
    Eventual,
    /// Ordered; nobody reads older than what he has seen
    Session,
    /// Linearizable
    Strong,
}

impl From<LevelArg> for Level {
    fn from(level: LevelArg) -> Self {
        match level {
            LevelArg::Eventual => Self::Eventual,
            LevelArg::Session => Self::Session,
            LevelArg::Strong => Self::Strong,
        }
    }
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// Its name
    name: BoardName,

    /// What it promises
    #[arg(long)]
    level: LevelArg,

    #[command(flatten)]
    terms: TermsArgs,

    /// Whether a live grant on `board:NAME` is needed
    #[arg(long)]
    requires_grant: bool,

    #[command(flatten)]
    request_id: RequestIdArgs,
}

#[derive(Debug, Args)]
struct UpdateArgs {
    /// Which one
    name: BoardName,

    #[command(flatten)]
    terms: TermsArgs,

    /// Whether a live grant on `board:NAME` is needed
    #[arg(long, value_name = "BOOL")]
    requires_grant: Option<bool>,

    #[command(flatten)]
    request_id: RequestIdArgs,
}

/// What can be said of a board at any time.
#[derive(Debug, Args)]
struct TermsArgs {
    /// An agent that may read, or `*`; repeatable
    #[arg(long = "reader", value_name = "AGENT")]
    readers: Vec<String>,

    /// An agent that may write, and read too, or `*`; repeatable
    #[arg(long = "writer", value_name = "AGENT")]
    writers: Vec<String>,

    /// Agents trusted less may neither read nor write: 0 to 1000, or 0.0 to 1.0
    #[arg(long, value_name = "TRUST", value_parser = parse_score)]
    min_trust: Option<u32>,

    /// Keys that it may have [default: 1000000]
    #[arg(long, value_name = "N")]
    max_keys: Option<u64>,

    /// Bytes of keys and values that it may have [default: 1073741824]
    #[arg(long, value_name = "N")]
    max_bytes: Option<u64>,

    /// Seconds that an entry lives whose writer says nothing; 0: for ever
    #[arg(long, value_name = "N")]
    default_ttl_seconds: Option<u64>,

    /// Seconds for which changes are kept, for those who watch [default: 3600]
    #[arg(long, value_name = "N")]
    retention_seconds: Option<u64>,

    /// For people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

impl BoardArgs {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let mut client = BlackboardAdminServiceClient::new(self.client.connect().await?);
        let output = self.client.output;
        match self.verb {
            Verb::Create(args) => create(client, *args, output).await,
            Verb::Update(args) => update(client, *args, output).await,
            Verb::Show { name } => {
                let request = GetBoardRequest {
                    name: name.to_string(),
                };
                let found = read(async || client.get_board(request).await).await?;
                output.one(&BoardView::from(found.board.unwrap_or_default()))
            }
            Verb::List(args) => list(client, &args, output).await,
        }
    }
}

async fn create(
    mut client: BlackboardAdminServiceClient<Authenticated>,
    args: CreateArgs,
    output: Format,
) -> Result<(), Failure> {
    let request_id = args.request_id.resolve()?;
    let terms = args.terms;
    let request = CreateBoardRequest {
        board: Some(Board {
            name: args.name.to_string(),
            level: Level::from(args.level).to_proto().into(),
            readers: terms.readers,
            writers: terms.writers,
            min_trust: terms.min_trust.unwrap_or_default(),
            requires_grant: args.requires_grant,
            max_keys: terms.max_keys.unwrap_or_default(),
            max_bytes: terms.max_bytes.unwrap_or_default(),
            default_ttl_seconds: terms.default_ttl_seconds.unwrap_or_default(),
            retention_seconds: terms.retention_seconds.unwrap_or_default(),
            description: terms.description.unwrap_or_default(),
            ..Board::default()
        }),
        request_id: request_id.clone(),
    };
    let made = change(&request_id, async || {
        client.create_board(request.clone()).await
    })
    .await?;
    output.one(&BoardView::from(made.board.unwrap_or_default()))
}

async fn update(
    mut client: BlackboardAdminServiceClient<Authenticated>,
    args: UpdateArgs,
    output: Format,
) -> Result<(), Failure> {
    let request_id = args.request_id.resolve()?;
    let terms = args.terms;
    let named = |agents: Vec<String>| (!agents.is_empty()).then_some(AgentList { agents });
    let request = UpdateBoardRequest {
        name: args.name.to_string(),
        max_keys: terms.max_keys,
        max_bytes: terms.max_bytes,
        default_ttl_seconds: terms.default_ttl_seconds,
        retention_seconds: terms.retention_seconds,
        min_trust: terms.min_trust,
        requires_grant: args.requires_grant,
        readers: named(terms.readers),
        writers: named(terms.writers),
        description: terms.description,
        request_id: request_id.clone(),
    };
    let updated = change(&request_id, async || {
        client.update_board(request.clone()).await
    })
    .await?;
    output.one(&BoardView::from(updated.board.unwrap_or_default()))
}

async fn list(
    client: BlackboardAdminServiceClient<Authenticated>,
    args: &PageArgs,
    output: Format,
) -> Result<(), Failure> {
    let get = async |page_size, page_token| {
        let request = ListBoardsRequest {
            page_size,
            page_token,
        };
        let page = read(async || client.clone().list_boards(request).await).await?;
        Ok((
            page.boards.into_iter().map(BoardView::from).collect(),
            page.next_page_token,
        ))
    };
    args.show(output, get).await
}

#[derive(Debug, Serialize)]
struct BoardView {
    name: String,
    level: String,
    readers: Vec<String>,
    writers: Vec<String>,
    min_trust: u32,
    requires_grant: bool,
    keys: u64,
    max_keys: u64,
    bytes: u64,
    max_bytes: u64,
    default_ttl_seconds: u64,
    retention_seconds: u64,
    epoch: u64,
    revision: u64,
    floor: u64,
    created_at: Option<String>,
    description: String,
}

impl From<Board> for BoardView {
    fn from(board: Board) -> Self {
        let position = board.position.unwrap_or_default();
        Self {
            level: enum_name(
                PbLevel::try_from(board.level)
                    .unwrap_or_default()
                    .as_str_name(),
                "LEVEL_",
            ),
            name: board.name,
            readers: board.readers,
            writers: board.writers,
            min_trust: board.min_trust,
            requires_grant: board.requires_grant,
            keys: board.keys,
            max_keys: board.max_keys,
            bytes: board.bytes,
            max_bytes: board.max_bytes,
            default_ttl_seconds: board.default_ttl_seconds,
            retention_seconds: board.retention_seconds,
            epoch: position.epoch,
            revision: position.revision,
            floor: board.floor,
            created_at: rfc3339(board.created_at.as_ref()),
            description: board.description,
        }
    }
}

impl Row for BoardView {
    const PLURAL: &'static str = "boards";
    const COLUMNS: &'static [&'static str] = &[
        "NAME", "LEVEL", "KEYS", "BYTES", "REVISION", "READERS", "WRITERS", "GRANT",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.level.clone(),
            self.keys.to_string(),
            self.bytes.to_string(),
            self.revision.to_string(),
            or_dash(&self.readers.join(",")),
            or_dash(&self.writers.join(",")),
            if self.requires_grant { "needed" } else { "-" }.to_owned(),
        ]
    }
}
