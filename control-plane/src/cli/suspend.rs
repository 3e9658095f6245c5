//! `suspend` and `resume`: the emergency brake.

use authguardian_proto::{
    identity::v1::{
        ListSuspensionsRequest, ResumeRequest, SuspendRequest, SuspendResponse, Suspension,
        SuspensionTarget, suspension_service_client::SuspensionServiceClient,
        suspension_target::Target,
    },
    ids::{AgentId, ResourceTypeName},
    reason::Problem,
};
use clap::{ArgGroup, Args, Subcommand};
use serde::Serialize;

use super::{
    client::{Authenticated, ClientArgs, RequestIdArgs, change, read},
    failure::Failure,
    grant::PositionView,
    machine,
    output::{Format, Page, Row, ask, note},
    value::{rfc3339, short_time},
};

const SUSPEND_EXAMPLES: &str = "\
Examples:
  control-plane suspend --agent data_analyst --comment \"looks hijacked\"
  control-plane suspend --machine build-7 --dry-run
  control-plane suspend --everything --yes
  control-plane suspend list

Nothing that matches is granted or renewed until `control-plane resume`, and its active grants
end at once. At a terminal you are asked first; without one, `--yes` is needed.";

const RESUME_EXAMPLES: &str = "\
Examples:
  control-plane resume --agent data_analyst
  control-plane resume --everything --yes

Grants that were ended stay ended. What is not suspended can be resumed, too.";

#[derive(Debug, Args)]
#[command(after_help = SUSPEND_EXAMPLES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct SuspendArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    act: ActArgs,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List what is suspended, oldest first
    List,
}

#[derive(Debug, Args)]
#[command(after_help = RESUME_EXAMPLES)]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    #[command(flatten)]
    act: ActArgs,
}

/// What both take.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("target").required(true).multiple(false))]
struct ActArgs {
    /// An agent, wherever it calls from
    #[arg(long, value_name = "ID", group = "target")]
    agent: Option<AgentId>,

    /// Whoever calls through a machine: `mch_…` or a name
    #[arg(long, value_name = "MACHINE", group = "target")]
    machine: Option<String>,

    /// Whoever asks for a resource type
    #[arg(long, value_name = "TYPE", group = "target")]
    resource: Option<ResourceTypeName>,

    /// Everybody
    #[arg(long, group = "target")]
    everything: bool,

    /// For people, and the list of suspensions
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    comment: String,

    /// Change nothing, and tell what would
    #[arg(long)]
    dry_run: bool,

    /// Do not ask
    #[arg(long, short)]
    yes: bool,

    #[command(flatten)]
    request_id: RequestIdArgs,
}

type Client = SuspensionServiceClient<Authenticated>;

impl SuspendArgs {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let channel = self.client.connect().await?;
        let output = self.client.output;
        match self.verb {
            Some(Verb::List) => list(SuspensionServiceClient::new(channel), output).await,
            None => suspend(channel, self.act, output).await,
        }
    }
}

impl ResumeArgs {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let channel = self.client.connect().await?;
        resume(channel, self.act, self.client.output).await
    }
}

impl ActArgs {
    /// The target, for people.
    fn described(&self) -> String {
        match self {
            Self {
                agent: Some(agent), ..
            } => format!("agent `{agent}`"),
            Self {
                machine: Some(machine),
                ..
            } => format!("machine `{machine}`"),
            Self {
                resource: Some(name),
                ..
            } => format!("resource type `{name}`"),
            _ => "everything".to_owned(),
        }
    }

    async fn target(&self, channel: Authenticated) -> Result<SuspensionTarget, Failure> {
        let target = match self {
            Self {
                agent: Some(agent), ..
            } => Target::AgentId(agent.to_string()),
            Self {
                machine: Some(machine),
                ..
            } => Target::MachineId(machine::resolve(channel, machine.clone()).await?),
            Self {
                resource: Some(name),
                ..
            } => Target::ResourceType(name.to_string()),
            _ => Target::Everything(true),
        };
        Ok(SuspensionTarget {
            target: Some(target),
        })
    }

    /// Asks a person; where there is none, `--yes` has to stand for the answer.
    fn confirmed(&self, question: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        match ask(question)? {
            Some(true) => Ok(()),
            Some(false) => {
                note("nothing was changed")?;
                Err(Failure::Told(1))
            }
            None => {
                let detail =
                    "there is no terminal to ask at: add `--yes`, or look with `--dry-run`";
                Err(Problem::invalid("yes", detail).into())
            }
        }
    }
}

async fn suspend(channel: Authenticated, args: ActArgs, output: Format) -> Result<(), Failure> {
    let target = args.target(channel.clone()).await?;
    let mut client = SuspensionServiceClient::new(channel);
    let described = args.described();
    if args.dry_run || !args.yes {
        let would = look(&mut client, target.clone()).await?.ended;
        if args.dry_run {
            let told = format!("suspending {described} would end active grants: {would}");
            return tell(output, &SuspendedView::of_dry_run(would), &told);
        }
        args.confirmed(&format!(
            "suspend {described}, and end its active grants ({would})?"
        ))?;
    }
    let request_id = args.request_id.resolve()?;
    let request = SuspendRequest {
        target: Some(target),
        comment: args.comment,
        dry_run: false,
        request_id: request_id.clone(),
    };
    let suspended = change(&request_id, async || client.suspend(request.clone()).await).await?;
    let told = match suspended.position {
        Some(_) => format!(
            "{described} is suspended; active grants ended: {}",
            suspended.ended
        ),
        None => format!("{described} was suspended already"),
    };
    tell(output, &SuspendedView::from(suspended), &told)
}

/// What a suspension would do.
async fn look(client: &mut Client, target: SuspensionTarget) -> Result<SuspendResponse, Failure> {
    let request = SuspendRequest {
        target: Some(target),
        dry_run: true,
        ..SuspendRequest::default()
    };
    read(async || client.suspend(request).await).await
}

async fn resume(channel: Authenticated, args: ActArgs, output: Format) -> Result<(), Failure> {
    let target = args.target(channel.clone()).await?;
    let mut client = SuspensionServiceClient::new(channel);
    let described = args.described();
    if args.dry_run {
        let all = read(async || client.list_suspensions(ListSuspensionsRequest {}).await).await?;
        let found = all
            .suspensions
            .into_iter()
            .find(|suspension| suspension.target.as_ref() == Some(&target));
        let told = match found {
            Some(_) => format!("{described} is suspended, and would be resumed"),
            None => format!("{described} is not suspended"),
        };
        return tell(output, &ResumedView::from(found), &told);
    }
    args.confirmed(&format!("resume {described}?"))?;
    let request_id = args.request_id.resolve()?;
    let request = ResumeRequest {
        target: Some(target),
        comment: args.comment,
        request_id: request_id.clone(),
    };
    let resumed = change(&request_id, async || client.resume(request.clone()).await).await?;
    let told = match resumed.lifted {
        Some(_) => format!("{described} is resumed"),
        None => format!("{described} was not suspended"),
    };
    tell(output, &ResumedView::from(resumed.lifted), &told)
}

async fn list(mut client: Client, output: Format) -> Result<(), Failure> {
    let all = read(async || client.list_suspensions(ListSuspensionsRequest {}).await).await?;
    output.page(&Page {
        items: all
            .suspensions
            .into_iter()
            .map(SuspensionView::from)
            .collect(),
        next_page_token: None,
    })
}

/// A sentence for people, the view for programs.
fn tell(output: Format, view: &impl Serialize, told: &str) -> Result<(), Failure> {
    match output {
        Format::Table => note(told),
        _ => output.one(view),
    }
}

/// A target as lists show it: `agent:data_analyst`.
pub(super) fn target_text(target: Option<SuspensionTarget>) -> String {
    match target.and_then(|target| target.target) {
        Some(Target::AgentId(id)) => format!("agent:{id}"),
        Some(Target::MachineId(id)) => format!("machine:{id}"),
        Some(Target::ResourceType(name)) => format!("resource_type:{name}"),
        Some(Target::Everything(_)) => "everything".to_owned(),
        None => String::new(),
    }
}

#[derive(Debug, Serialize)]
struct SuspendedView {
    suspension: Option<SuspensionView>,
    ended: u64,
    position: Option<PositionView>,
    dry_run: bool,
}

impl SuspendedView {
    fn of_dry_run(ended: u64) -> Self {
        Self {
            suspension: None,
            ended,
            position: None,
            dry_run: true,
        }
    }
}

impl From<SuspendResponse> for SuspendedView {
    fn from(suspended: SuspendResponse) -> Self {
        Self {
            suspension: suspended.suspension.map(SuspensionView::from),
            ended: suspended.ended,
            position: suspended.position.map(PositionView::from),
            dry_run: false,
        }
    }
}

#[derive(Debug, Serialize)]
struct ResumedView {
    /// What was lifted, or would be.
    lifted: Option<SuspensionView>,
}

impl From<Option<Suspension>> for ResumedView {
    fn from(lifted: Option<Suspension>) -> Self {
        Self {
            lifted: lifted.map(SuspensionView::from),
        }
    }
}

#[derive(Debug, Serialize)]
struct SuspensionView {
    target: String,
    created_at: Option<String>,
    created_by: String,
    comment: String,
}

impl From<Suspension> for SuspensionView {
    fn from(suspension: Suspension) -> Self {
        Self {
            target: target_text(suspension.target),
            created_at: rfc3339(suspension.created_at.as_ref()),
            created_by: suspension.created_by,
            comment: suspension.comment,
        }
    }
}

impl Row for SuspensionView {
    const PLURAL: &'static str = "suspensions";
    const COLUMNS: &'static [&'static str] = &["TARGET", "SINCE", "BY", "COMMENT"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.target.clone(),
            short_time(self.created_at.as_deref()),
            self.created_by.clone(),
            self.comment.clone(),
        ]
    }
}
