//! Examples in the `--help` of each verb: those of its noun that use it.

use clap::Command;

/// Gives every verb its examples.
pub(super) fn with_examples(command: Command) -> Command {
    let program = command.get_name().to_owned();
    command.mut_subcommands(|noun| {
        let text = noun.get_after_help().map(ToString::to_string);
        let call = format!("{program} {}", noun.get_name());
        noun.mut_subcommands(|verb| {
            let call = format!("{call} {}", verb.get_name());
            let examples = examples_of(text.as_deref().unwrap_or_default(), &call);
            match examples.as_str() {
                "" => verb,
                _ => verb.after_help(format!("Examples:\n{examples}")),
            }
        })
    })
}

fn examples_of(text: &str, call: &str) -> String {
    let lines: Vec<_> = text.lines().filter(|line| uses(line, call)).collect();
    lines.join("\n")
}

/// Whether a line has this call, and not one of a longer name.
fn uses(line: &str, call: &str) -> bool {
    line.split_once(call)
        .is_some_and(|(_, rest)| rest.is_empty() || rest.starts_with([' ', ')']))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_verb_shows_an_example_of_its_own() {
        for noun in with_examples(Cli::command()).get_subcommands() {
            for verb in noun.get_subcommands() {
                let examples = verb.get_after_help().map(ToString::to_string);
                let call = format!("control-plane {} {}", noun.get_name(), verb.get_name());
                let examples = examples.unwrap_or_default();
                assert!(examples.contains(&call), "`{call}` has no example");
            }
        }
    }

    #[test]
    fn an_example_of_another_verb_is_not_shown() {
        let text = "Examples:\n  x key list\n  x key list-all\n  y=$(x key list)\n\nMore.";
        assert_eq!(
            examples_of(text, "x key list"),
            "  x key list\n  y=$(x key list)"
        );
    }
}
