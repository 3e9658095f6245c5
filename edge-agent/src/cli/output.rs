//! Results on stdout: a table for people, JSON and YAML for programs.

use std::io::Write;

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
    writeln!(std::io::stdout(), "{}", text.trim_end()).map_err(Failure::other)
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
