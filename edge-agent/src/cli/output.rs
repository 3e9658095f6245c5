//! Results on stdout: a table for people, JSON and YAML for programs.

use std::io::{ErrorKind, Write};

use clap::{Args, ValueEnum};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use super::Failure;

/// How results are printed.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Format {
    /// How results are printed
    #[arg(short, long = "output", value_enum, default_value_t = Kind::Table)]
    output: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// For people
    Table,
    /// JSON
    Json,
    /// YAML
    Yaml,
}

/// Prints one result.
pub(super) fn print(format: Format, result: &Value) -> Result<(), Failure> {
    let text = match format.output {
        Kind::Table => table(result),
        Kind::Json => serde_json::to_string_pretty(result).map_err(Failure::other)?,
        Kind::Yaml => serde_norway::to_string(result).map_err(Failure::other)?,
    };
    write_stdout(&format!("{}\n", text.trim_end()))
}

/// Prints many results as a table for people: one row each, and of each these fields.
pub(super) fn print_rows(columns: &[&str], results: &[Value]) -> Result<(), Failure> {
    write_stdout(&format!("{}\n", rows(columns, results)))
}

fn rows(columns: &[&str], results: &[Value]) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(
            columns
                .iter()
                .map(|name| name.replace('_', " ").to_uppercase()),
        );
    for result in results {
        table.add_row(columns.iter().map(|name| plain(&result[*name])));
    }
    let lines = table.lines().map(|line| line.trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

/// Writes text to stdout. A reader that left, as after `| head`, is no failure
/// of ours: the exit code still tells what came of the command.
pub(super) fn write_stdout(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::other(error)),
        _ => Ok(()),
    }
}

impl Format {
    /// Whether results are documents for programs.
    pub(super) fn is_document(self) -> bool {
        self.output != Kind::Table
    }

    /// One of many results: one JSON value a line, or one YAML document.
    pub(super) fn text_of_many(self, result: &Value) -> Result<String, Failure> {
        Ok(match self.output {
            Kind::Table => table(result) + "\n",
            Kind::Json => format!("{result}\n"),
            Kind::Yaml => format!(
                "---\n{}",
                serde_norway::to_string(result).map_err(Failure::other)?
            ),
        })
    }
}

/// One line per field; what is empty is left out.
fn table(result: &Value) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    for (name, value) in result.as_object().into_iter().flatten() {
        let text = plain(value);
        if !text.is_empty() {
            table.add_row([name.replace('_', " "), text]);
        }
    }
    table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            let parts = fields
                .iter()
                .map(|(name, value)| format!("{name} {}", plain(value)));
            parts.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn many_results_have_a_row_each_under_the_names_of_their_fields() {
        let results = [
            json!({ "agent_id": "a", "capabilities": ["x@1", "y"] }),
            json!({ "agent_id": "b", "age_ms": 5 }),
        ];
        let text = rows(&["agent_id", "capabilities", "age_ms"], &results);
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        assert!(lines[0].starts_with("AGENT ID"), "{text}");
        assert!(lines[1].contains("x@1, y"), "{text}");
        assert!(
            lines[2].starts_with('b') && lines[2].ends_with('5'),
            "{text}"
        );
    }

    #[test]
    fn a_table_shows_what_is_there() {
        let text = table(
            &json!({"grant_id": "grt_1", "reasons": [], "score_parts": {"risk": 1, "trust": 2}}),
        );
        assert!(
            text.contains("grant id") && text.contains("grt_1"),
            "{text}"
        );
        assert!(text.contains("risk 1, trust 2"), "{text}");
        assert!(!text.contains("reasons"), "{text}");
    }
}
