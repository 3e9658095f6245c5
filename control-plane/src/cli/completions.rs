//! `completions`: a completion script for a shell.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, failure::Failure, output::write_stdout};

const EXAMPLES: &str = "\
Examples:
  control-plane completions bash > /etc/bash_completion.d/control-plane
  control-plane completions zsh > ~/.zfunc/_control-plane";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

impl CompletionsArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(
            self.shell,
            &mut Cli::command(),
            "control-plane",
            &mut script,
        );
        write_stdout(&String::from_utf8_lossy(&script))
    }
}
