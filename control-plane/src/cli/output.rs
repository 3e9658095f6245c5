//! What goes to stdout: a table for people; JSON or YAML for programs, with
//! snake_case keys, RFC 3339 times and lower-case enum names. A list is
//! `{"items": […], "next_page_token": "…"}`, the token only where there is more.

use std::io::{self, IsTerminal, Write};

use authguardian_terminal::Sight;
use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::{failure::Failure, value::or_dash};

/// How results are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people; may change at any time
    #[default]
    Table,
    /// Stable, for programs
    Json,
    /// As `json`
    Yaml,
}

/// Something that stands in lists.
pub(crate) trait Row: Serialize {
    /// The plural, for "no …".
    const PLURAL: &'static str;
    /// Headings.
    const COLUMNS: &'static [&'static str];

    /// One text for each heading.
    fn cells(&self) -> Vec<String>;
}

/// One page of a list.
#[derive(Debug, Serialize)]
pub(crate) struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Where the next one begins; `None` on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

impl Format {
    /// Writes one thing; as a table, its fields one a line.
    pub(crate) fn one(self, value: &impl Serialize) -> Result<(), Failure> {
        match self {
            Self::Table => write_stdout(&fields(value)?),
            _ => self.structured(value),
        }
    }

    /// Writes a page of a list.
    pub(crate) fn page<T: Row>(self, page: &Page<T>) -> Result<(), Failure> {
        if self != Self::Table {
            return self.structured(page);
        }
        let sight = table(page);
        write_stdout(&sight.text)?;
        sight.hint.map_or(Ok(()), |hint| note(&hint))
    }

    /// One thing, as one look of many shows it.
    pub(crate) fn one_sight(self, value: &impl Serialize) -> Result<Sight, Failure> {
        let text = match self {
            Self::Table => fields(value)?,
            _ => self.document(value)?,
        };
        Ok(Sight {
            text,
            ..Sight::default()
        })
    }

    /// A page of a list, as one look of many shows it.
    pub(crate) fn page_sight<T: Row>(self, page: &Page<T>) -> Result<Sight, Failure> {
        match self {
            Self::Table => Ok(table(page)),
            _ => self.one_sight(page),
        }
    }

    /// Writes one entry of an endless list.
    pub(crate) fn entry(self, value: &impl Serialize, line: &str) -> Result<(), Failure> {
        match self {
            Self::Table => write_stdout(&format!("{line}\n")),
            _ => write_stdout(&self.document(value)?),
        }
    }

    /// One of many: one JSON value a line, or one YAML document.
    fn document(self, value: &impl Serialize) -> Result<String, Failure> {
        Ok(match self {
            Self::Yaml => format!(
                "---\n{}",
                serde_norway::to_string(value).map_err(unwritable)?
            ),
            _ => serde_json::to_string(value).map_err(unwritable)? + "\n",
        })
    }

    /// Writes a secret that is shown once: for people nothing but the secret
    /// on stdout, so that a shell can take it, and what it belongs to on stderr.
    pub(crate) fn secret(
        self,
        secret: &str,
        whole: &impl Serialize,
        about: &str,
    ) -> Result<(), Failure> {
        if self != Self::Table {
            return self.structured(whole);
        }
        write_stdout(&format!("{secret}\n"))?;
        note(about)
    }

    fn structured(self, value: &impl Serialize) -> Result<(), Failure> {
        let text = match self {
            Self::Yaml => serde_norway::to_string(value).map_err(unwritable)?,
            _ => serde_json::to_string_pretty(value).map_err(unwritable)? + "\n",
        };
        write_stdout(&text)
    }
}

/// Writes text to stdout as it is.
pub(crate) fn write_stdout(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Writes a line to stderr, for people.
pub(crate) fn note(text: &str) -> Result<(), Failure> {
    Ok(writeln!(io::stderr().lock(), "{text}")?)
}

/// A page for people: the hint tells that it is empty, or how to see more.
fn table<T: Row>(page: &Page<T>) -> Sight {
    let hint = match &page.next_page_token {
        _ if page.items.is_empty() => Some(format!("no {}", T::PLURAL)),
        Some(token) => Some(format!(
            "there is more: add `--all` or `--page-token {token}`"
        )),
        None => None,
    };
    let text = if page.items.is_empty() {
        String::new()
    } else {
        rows(&page.items)
    };
    Sight {
        text,
        hint,
        compared: None,
    }
}

fn rows<T: Row>(items: &[T]) -> String {
    let mut table = plain_table();
    table.set_header(T::COLUMNS.to_vec());
    table.add_rows(items.iter().map(Row::cells));
    lines_of(&table)
}

/// The fields of one thing, one a line; deeper values as compact JSON.
fn fields(value: &impl Serialize) -> Result<String, Failure> {
    let serde_norway::Value::Mapping(fields) = serde_norway::to_value(value).map_err(unwritable)?
    else {
        return Err(Failure::internal("the result has no fields"));
    };
    let mut table = plain_table();
    for (name, value) in &fields {
        let name = name.as_str().unwrap_or_default();
        table.add_row([name.replace('_', " "), text_of(value)]);
    }
    Ok(lines_of(&table))
}

fn text_of(value: &serde_norway::Value) -> String {
    match value {
        serde_norway::Value::Null => "-".to_owned(),
        serde_norway::Value::String(text) => or_dash(text),
        serde_norway::Value::Sequence(items) if items.is_empty() => or_dash(""),
        serde_norway::Value::Sequence(items)
            if items.iter().all(serde_norway::Value::is_string) =>
        {
            let items: Vec<_> = items
                .iter()
                .filter_map(serde_norway::Value::as_str)
                .collect();
            items.join(", ")
        }
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}

/// Columns as kubectl shows them: no borders, two spaces between.
fn plain_table() -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table
}

fn lines_of(table: &Table) -> String {
    table.lines().fold(String::new(), |mut text, line| {
        // every cell is padded on both sides; the margin would only be noise
        text.push_str(line.strip_prefix(' ').unwrap_or(&line).trim_end());
        text.push('\n');
        text
    })
}

fn unwritable(error: impl std::fmt::Display) -> Failure {
    Failure::internal(format!("the result cannot be written: {error}"))
}

/// Asks a yes-or-no question on a terminal; `true` where nobody can be asked.
pub(crate) fn confirm(question: &str) -> Result<bool, Failure> {
    Ok(ask(question)?.unwrap_or(true))
}

/// Asks a yes-or-no question on a terminal; `None` where nobody can be asked.
pub(crate) fn ask(question: &str) -> Result<Option<bool>, Failure> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(None);
    }
    let mut err = io::stderr().lock();
    write!(err, "{question} [y/N] ")?;
    err.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(Some(matches!(
        answer.trim().to_ascii_lowercase().as_str(),
        "y" | "yes"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Fruit {
        name: &'static str,
        grams: u32,
        colours: Vec<&'static str>,
        eaten_at: Option<&'static str>,
    }

    impl Row for Fruit {
        const PLURAL: &'static str = "fruit";
        const COLUMNS: &'static [&'static str] = &["NAME", "GRAMS"];

        fn cells(&self) -> Vec<String> {
            vec![self.name.to_owned(), self.grams.to_string()]
        }
    }

    const FIG: Fruit = Fruit {
        name: "fig",
        grams: 50,
        colours: vec![],
        eaten_at: None,
    };

    #[test]
    fn a_list_is_columns_without_borders() {
        let plum = Fruit {
            name: "mirabelle",
            grams: 8,
            ..FIG
        };
        assert_eq!(
            rows(&[FIG, plum]),
            "NAME       GRAMS\nfig        50\nmirabelle  8\n"
        );
    }

    #[test]
    fn one_thing_is_its_fields_in_their_order() {
        let fig = Fruit {
            colours: vec!["green", "violet"],
            ..FIG
        };
        assert_eq!(
            fields(&fig).unwrap(),
            "name      fig\ngrams     50\ncolours   green, violet\neaten at  -\n"
        );
    }

    #[test]
    fn the_last_page_has_no_token() {
        let page = Page {
            items: vec![1],
            next_page_token: None,
        };
        assert_eq!(serde_json::to_string(&page).unwrap(), r#"{"items":[1]}"#);
    }
}
