//! The command line: the daemon's own verbs, and the operator's, which are
//! clients of the admin listener. One file per noun.

mod admin_certificate;
mod admin_token;
mod agent;
mod api_key;
mod audit;
mod backup;
mod blackboard;
mod board;
mod bootstrap;
mod budget;
mod client;
mod completions;
mod control_plane;
mod dev;
mod doctor;
mod examples;
mod failure;
mod files;
mod grant;
mod join_token;
mod key;
mod machine;
mod migrate;
mod output;
mod page;
mod pem;
mod policy;
mod public_key;
mod resource_type;
mod restore;
mod rewrap_keys;
mod serve;
mod status;
mod suspend;
mod validate_config;
mod value;

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use self::{failure::Failure, output::Format};
use crate::{
    clock::{Ambient, Entropy, SystemClock},
    config::{Config, Sources},
};

const AFTER_HELP: &str = "\
Exit codes:
  0 ok, 1 failure, 2 usage, 3 not found, 4 denied, 5 conflict, 6 unavailable,
  7 outcome unknown

Operator verbs are clients of the admin listener; they need its address, its CA
certificate and an admin token, or AUTHGUARDIAN_CLIENT_CERTIFICATE instead of it:
  export AUTHGUARDIAN_SERVER=https://127.0.0.1:3003
  export AUTHGUARDIAN_CA_FILE=/path/to/ca.pem
  export AUTHGUARDIAN_ADMIN_TOKEN=aga_…
  control-plane status";

/// AuthGuardian's control plane: permissions for AI agents, across machines.
#[derive(Debug, Parser)]
#[command(name = "control-plane", version, after_help = AFTER_HELP, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the control plane
    Serve(serve::ServeArgs),
    /// Run the whole system on this machine: PostgreSQL, control plane, edge, demo keys
    Dev(dev::DevArgs),
    /// Bring the database's schema up to date
    Migrate(migrate::MigrateArgs),
    /// Keep the database in a directory
    Backup(backup::BackupArgs),
    /// Put a backup into an empty database, or fence one that was put back
    Restore(restore::RestoreArgs),
    /// Seal the control plane's own keys under another master key
    RewrapKeys(rewrap_keys::RewrapKeysArgs),
    /// Look at what the control plane needs on this machine
    Doctor(doctor::DoctorArgs),
    /// Check a configuration and print what it comes to
    ValidateConfig(validate_config::ValidateConfigArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
    /// How the control plane is
    Status(status::StatusArgs),
    /// One-time tokens that machines join with
    JoinToken(join_token::JoinTokenArgs),
    /// Machines that run an edge
    Machine(machine::MachineArgs),
    /// Agents and how far they are trusted
    Agent(agent::AgentArgs),
    /// Keys that agents authenticate with
    ApiKey(api_key::ApiKeyArgs),
    /// The control plane's own keys, and their rotation
    Key(key::KeyArgs),
    /// Make the first admin, as the owner of this machine
    Bootstrap(bootstrap::BootstrapArgs),
    /// Tokens and client certificates of admins
    AdminToken(admin_token::AdminTokenArgs),
    /// What grants are given for
    ResourceType(resource_type::ResourceTypeArgs),
    /// The rules that decide
    Policy(policy::PolicyArgs),
    /// Permissions that were given or denied
    Grant(grant::GrantArgs),
    /// Stop an agent, a machine, a resource type or everything
    Suspend(suspend::SuspendArgs),
    /// Lift a suspension
    Resume(suspend::ResumeArgs),
    /// Boards, what they promise and who may use them
    Board(board::BoardArgs),
    /// What is on boards
    Blackboard(blackboard::BlackboardArgs),
    /// Amounts that many machines spend from together
    Budget(budget::BudgetArgs),
    /// Who did what
    Audit(audit::AuditArgs),
}

/// Where the configuration comes from.
#[derive(Debug, Clone, Args)]
struct ConfigArgs {
    /// TOML file; without one, the defaults
    #[arg(long, env = "AUTHGUARDIAN_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// Overrides one key; beats environment and file; repeatable
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

impl ConfigArgs {
    fn load(&self) -> Result<Config, Failure> {
        let sources = Sources::of_process(self.config.clone(), self.set.clone());
        Ok(Config::load(&sources)?)
    }
}

/// Runs the command that this process was started with.
pub fn run() -> ExitCode {
    let matches = examples::with_examples(Cli::command()).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let format = cli.command.format();
    let outcome = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime.block_on(cli.command.run()),
        Err(error) => Err(Failure::internal(format!(
            "the runtime does not start: {error}"
        ))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(format),
    }
}

impl Command {
    /// How failures are told.
    fn format(&self) -> Format {
        match self {
            Self::Serve(_)
            | Self::Dev(_)
            | Self::Migrate(_)
            | Self::ValidateConfig(_)
            | Self::Completions(_) => Format::Table,
            Self::Backup(args) => args.format,
            Self::Restore(args) => args.output,
            Self::RewrapKeys(args) => args.output,
            Self::Doctor(args) => args.output,
            Self::Status(args) => args.client.output,
            Self::JoinToken(args) => args.client.output,
            Self::Machine(args) => args.client.output,
            Self::Agent(args) => args.client.output,
            Self::ApiKey(args) => args.client.output,
            Self::Key(args) => args.client.output,
            Self::Bootstrap(args) => args.output,
            Self::AdminToken(args) => args.client.output,
            Self::ResourceType(args) => args.client.output,
            Self::Policy(args) => args.client.output,
            Self::Grant(args) => args.client.output,
            Self::Suspend(args) => args.client.output,
            Self::Resume(args) => args.client.output,
            Self::Board(args) => args.client.output,
            Self::Blackboard(args) => args.client.output,
            Self::Budget(args) => args.client.output,
            Self::Audit(args) => args.client.output,
        }
    }

    async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Serve(args) => args.run().await,
            Self::Dev(args) => args.run().await,
            Self::Migrate(args) => args.run().await,
            Self::Backup(args) => args.run().await,
            Self::Restore(args) => args.run().await,
            Self::RewrapKeys(args) => args.run().await,
            Self::Doctor(args) => args.run().await,
            Self::ValidateConfig(args) => args.run(),
            Self::Completions(args) => args.run(),
            Self::Status(args) => args.run().await,
            Self::JoinToken(args) => args.run().await,
            Self::Machine(args) => args.run().await,
            Self::Agent(args) => args.run().await,
            Self::ApiKey(args) => args.run().await,
            Self::Key(args) => args.run().await,
            Self::Bootstrap(args) => args.run().await,
            Self::AdminToken(args) => args.run().await,
            Self::ResourceType(args) => args.run().await,
            Self::Policy(args) => args.run().await,
            Self::Grant(args) => args.run().await,
            Self::Suspend(args) => args.run().await,
            Self::Resume(args) => args.run().await,
            Self::Board(args) => args.run().await,
            Self::Blackboard(args) => args.run().await,
            Self::Budget(args) => args.run().await,
            Self::Audit(args) => args.run().await,
        }
    }
}

/// The system's time and randomness.
fn ambient() -> Result<Ambient, Failure> {
    let entropy = Entropy::from_system()
        .map_err(|error| Failure::internal(format!("the system gives no randomness: {error}")))?;
    Ok(Ambient {
        clock: Arc::new(SystemClock::default()),
        entropy: Arc::new(entropy),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn connection_flags_may_stand_after_the_verb() {
        let cli = Cli::try_parse_from([
            "control-plane",
            "agent",
            "list",
            "-o",
            "json",
            "--server",
            "https://cp:1",
        ]);
        assert_eq!(cli.unwrap().command.format(), Format::Json);
    }

    #[test]
    fn a_revocation_needs_exactly_one_target() {
        let parse = |args: &[&str]| {
            Cli::try_parse_from(["control-plane", "grant", "revoke"].iter().chain(args)).is_ok()
        };
        assert!(parse(&["grt_0000000000000000000007"]));
        assert!(parse(&["--agent", "a"]));
        assert!(parse(&["--everything", "--yes"]));
        assert!(!parse(&[]));
        assert!(!parse(&["--agent", "a", "--resource", "SAP_API"]));
        assert!(!parse(&["grt_0000000000000000000007", "--everything"]));
    }

    #[test]
    fn a_suspension_needs_exactly_one_target_and_its_list_none() {
        let parse =
            |args: &[&str]| Cli::try_parse_from(["control-plane"].iter().chain(args)).is_ok();
        assert!(parse(&["suspend", "--agent", "a", "--dry-run"]));
        assert!(parse(&["suspend", "--everything", "--yes"]));
        assert!(parse(&["suspend", "list"]));
        assert!(parse(&["resume", "--machine", "build-7"]));
        assert!(!parse(&["suspend"]));
        assert!(!parse(&["resume"]));
        assert!(!parse(&["suspend", "--agent", "a", "--everything"]));
        assert!(!parse(&["suspend", "--agent", "a", "list"]));
    }

    #[test]
    fn an_amount_of_a_budget_is_a_whole_number_of_at_least_one() {
        let parse = |verb: &[&str]| {
            Cli::try_parse_from(["control-plane", "budget"].iter().chain(verb)).is_ok()
        };
        let create = |total| parse(&["create", "--task", "t", "--unit", "u", "--total", total]);
        let top_up = |amount| parse(&["top-up", "t", "--amount", amount]);
        let settle = |spent| parse(&["settle", "t", "--machine", "m", "--spent", spent]);
        assert!(create("1") && top_up("1") && settle("1"));
        assert!(settle("0") && parse(&["settle", "t", "--machine", "m"]));
        assert!(!create("0") && !top_up("0"));
        for bad in ["-1", "1.5", "9007199254740992", "1e3", ""] {
            assert!(!create(bad) && !top_up(bad) && !settle(bad), "{bad:?}");
        }
    }

    #[test]
    fn every_noun_shows_an_example() {
        let command = Cli::command();
        for noun in command.get_subcommands() {
            assert!(
                noun.get_after_help().is_some(),
                "`{}` has no example",
                noun.get_name()
            );
        }
    }
}
