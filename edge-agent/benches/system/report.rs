//! What was measured, as a table for people and as JSON.

use std::{collections::BTreeMap, path::Path};

use anyhow::Result;
use comfy_table::{Cell, CellAlignment, LineStyle, Table, TableStyle};
use serde::Serialize;

use crate::{cpu, environment::Environment, load::Outcome};

/// Several rounds of one figure.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Spread {
    /// Of all rounds.
    pub(crate) median: f64,
    /// The lowest round.
    pub(crate) min: f64,
    /// The highest round.
    pub(crate) max: f64,
}

/// What a figure has to reach.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

/// What a figure is compared with.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Baseline {
    /// Such as `pgbench`.
    pub(crate) name: String,
    /// In the figure's unit.
    pub(crate) measured: Spread,
}

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) name: String,
    /// Unit of `measured`.
    pub(crate) unit: &'static str,
    /// The figure.
    pub(crate) measured: Spread,
    /// Median time to an answer, µs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p50_us: Option<Spread>,
    /// 99th percentile of it, µs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p99_us: Option<Spread>,
    /// What it is compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) baseline: Option<Baseline>,
    /// The figure by its baseline, of the same round each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio: Option<Spread>,
    /// For the median of the ratio where there is one, else of the figure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<Target>,
    /// Whether it was met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) met: Option<bool>,
    /// CPU time per request by part, µs; medians.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) cpu_us_per_request: BTreeMap<&'static str, f64>,
    #[serde(skip)]
    samples: Vec<f64>,
}

/// All rows of one section.
#[derive(Debug, Serialize)]
pub(crate) struct Section {
    /// As on the command line.
    pub(crate) name: &'static str,
    /// One sentence.
    pub(crate) title: &'static str,
    /// In the order of the table.
    pub(crate) rows: Vec<Row>,
}

/// Everything.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Where and how it was measured.
    pub(crate) environment: Environment,
    /// In the order in which they ran.
    pub(crate) sections: Vec<Section>,
}

impl Spread {
    /// Of at least one sample.
    pub(crate) fn of(samples: &[f64]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(at(middle.wrapping_sub(1)), at(middle))
        } else {
            at(middle)
        };
        Self {
            median,
            min: at(0),
            max: at(sorted.len().wrapping_sub(1)),
        }
    }
}

impl Target {
    fn is_met_by(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(bound) => figure >= bound,
            Self::AtMost(bound) => figure <= bound,
        }
    }
}

impl Row {
    /// A figure, one sample per round.
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, samples: &[f64]) -> Self {
        Self {
            name: name.into(),
            unit,
            measured: Spread::of(samples),
            p50_us: None,
            p99_us: None,
            baseline: None,
            ratio: None,
            target: None,
            met: None,
            cpu_us_per_request: BTreeMap::new(),
            samples: samples.to_vec(),
        }
    }

    /// Answers per second of a load, one outcome per round.
    pub(crate) fn of_load(name: impl Into<String>, outcomes: &[Outcome]) -> Self {
        let each = |figure: fn(&Outcome) -> f64| outcomes.iter().map(figure).collect::<Vec<_>>();
        let mut row = Self::new(name, "/s", &each(|outcome| outcome.rate));
        row.p50_us = Some(Spread::of(&each(|outcome| outcome.p50_us)));
        row.p99_us = Some(Spread::of(&each(|outcome| outcome.p99_us)));
        let parts = outcomes.iter().flat_map(|outcome| outcome.cpu_us.keys());
        for part in parts {
            let used: Vec<f64> = outcomes
                .iter()
                .filter_map(|outcome| outcome.cpu_us.get(part).copied())
                .collect();
            row.cpu_us_per_request
                .insert(part, Spread::of(&used).median);
        }
        row
    }

    /// Compares it, round by round.
    #[must_use]
    pub(crate) fn against(mut self, name: impl Into<String>, samples: &[f64]) -> Self {
        let ratios: Vec<f64> = self
            .samples
            .iter()
            .zip(samples)
            .map(|(measured, baseline)| measured / baseline)
            .collect();
        self.ratio = Some(Spread::of(&ratios));
        self.baseline = Some(Baseline {
            name: name.into(),
            measured: Spread::of(samples),
        });
        self
    }

    /// Says what it has to reach.
    #[must_use]
    pub(crate) fn target(mut self, target: Target) -> Self {
        let judged = self.ratio.unwrap_or(self.measured).median;
        self.target = Some(target);
        self.met = Some(target.is_met_by(judged));
        self
    }
}

impl Report {
    /// Prints the table.
    pub(crate) fn print(&self) {
        println!("{}\n", self.environment);
        for section in &self.sections {
            println!("{}: {}", section.name, section.title);
            println!("{}\n", section.table());
        }
        let (mut met, mut missed) = (0, Vec::new());
        for section in &self.sections {
            for row in &section.rows {
                match row.met {
                    Some(true) => met += 1,
                    Some(false) => missed.push(format!("{}: {}", section.name, row.name)),
                    None => {}
                }
            }
        }
        println!("{met} of {} targets met", met + missed.len());
        for name in missed {
            println!("  missed: {name}");
        }
    }

    /// Writes the JSON.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        std::fs::write(path, serde_json::to_vec_pretty(self)?)?;
        Ok(())
    }
}

impl Section {
    fn table(&self) -> Table {
        let is_known = |part: &&&str| {
            let mut rows = self.rows.iter();
            rows.any(|row| row.cpu_us_per_request.contains_key(**part))
        };
        let parts: Vec<&str> = cpu::PARTS.iter().filter(is_known).copied().collect();
        let mut table = Table::new();
        table.load_style(
            TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─')),
        );
        let mut header = vec![
            String::new(),
            "measured (min..max)".to_owned(),
            "p50".to_owned(),
            "p99".to_owned(),
            "baseline".to_owned(),
            "ratio (min..max)".to_owned(),
            "target".to_owned(),
            "met".to_owned(),
        ];
        header.extend(parts.iter().map(|part| format!("CPU µs:\n{part}")));
        table.set_header(header);
        for row in &self.rows {
            let mut cells = row.cells();
            cells.extend(parts.iter().map(|part| {
                row.cpu_us_per_request
                    .get(part)
                    .map_or_else(String::new, |used| number(*used))
            }));
            let name = cells.remove(0);
            let figures = cells
                .into_iter()
                .map(|cell| Cell::new(cell).set_alignment(CellAlignment::Right));
            table.add_row([Cell::new(name)].into_iter().chain(figures));
        }
        table
    }
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let spread = |spread: Spread, unit: &str| {
            if self.samples.len() == 1 {
                return format!("{}{unit}", number(spread.median));
            }
            format!(
                "{}{unit} ({}..{})",
                number(spread.median),
                number(spread.min),
                number(spread.max)
            )
        };
        let micros = |spread: Option<Spread>| {
            spread.map_or_else(String::new, |spread| duration(spread.median))
        };
        let baseline = self.baseline.as_ref().map_or_else(String::new, |baseline| {
            format!(
                "{} {}{}",
                baseline.name,
                number(baseline.measured.median),
                spaced(self.unit)
            )
        });
        let unit = match self.ratio {
            Some(_) => "×".to_owned(),
            None => spaced(self.unit),
        };
        let target = match self.target {
            None => String::new(),
            Some(Target::AtLeast(bound)) => format!("≥ {}{unit}", number(bound)),
            Some(Target::AtMost(bound)) => format!("≤ {}{unit}", number(bound)),
        };
        let met = match self.met {
            None => "",
            Some(true) => "yes",
            Some(false) => "NO",
        };
        vec![
            self.name.clone(),
            spread(self.measured, &spaced(self.unit)),
            micros(self.p50_us),
            micros(self.p99_us),
            baseline,
            self.ratio
                .map_or_else(String::new, |ratio| spread(ratio, "×")),
            target,
            met.to_owned(),
        ]
    }
}

/// `12/s`, but `12 ms`.
fn spaced(unit: &str) -> String {
    if unit.starts_with('/') || unit.is_empty() {
        unit.to_owned()
    } else {
        format!(" {unit}")
    }
}

fn duration(micros: f64) -> String {
    if micros < 1e3 {
        format!("{} µs", number(micros))
    } else {
        format!("{} ms", number(micros / 1e3))
    }
}

/// Three digits that count.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        small if small < 10.0 => 2,
        medium if medium < 100.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    if decimals > 0 {
        return text;
    }
    let (sign, digits) = text
        .strip_prefix('-')
        .map_or(("", text.as_str()), |digits| ("-", digits));
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}")
}
