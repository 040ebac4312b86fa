//! The report: rows as JSON, in which rows that were not measured this time stay, and the table for people.

use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};

use super::row::Row;

/// Columns of the table where the terminal does not say.
const TABLE_COLUMNS: u16 = 160;

/// What the figures were measured on.
#[derive(Debug, Clone)]
pub struct Machine {
    cpu: String,
    kernel: String,
    cores: usize,
}

impl Machine {
    /// This one.
    pub fn here() -> Result<Self> {
        let cpus = std::fs::read_to_string("/proc/cpuinfo").context("/proc/cpuinfo cannot be read")?;
        let field = |name: &str| {
            let line = cpus.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let model = field("model name").unwrap_or_else(|| "unknown".to_owned());
        let number = field("model\t").map(|model| format!(", model {model}")).unwrap_or_default();
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").context("no kernel release")?;
        // What builders have added behind the version says nothing to others.
        let kernel = release.trim().split('-').next().unwrap_or_default().to_owned();
        let cores = cpus.lines().filter(|line| line.starts_with("processor")).count();
        Ok(Self { cpu: model + &number, kernel, cores })
    }

    fn to_json(&self) -> Value {
        json!({ "cpu": self.cpu, "kernel": self.kernel, "cores": self.cores })
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}, {} cores, Linux {}", self.cpu, self.cores, self.kernel)
    }
}

/// Puts rows into an earlier report: rows of the same name are replaced where they stand, others stay, new ones follow.
pub fn merge(previous: Option<&Value>, machine: &Machine, rounds: u32, rows: &[Row]) -> Value {
    let mut merged = previous.and_then(|report| report["rows"].as_array()).cloned().unwrap_or_default();
    for row in rows {
        let new = row.to_json(rounds, &machine.to_string());
        match merged.iter_mut().find(|old| old["name"] == new["name"]) {
            Some(old) => *old = new,
            None => merged.push(new),
        }
    }
    json!({ "machine": machine.to_json(), "rows": merged })
}

/// The report of an earlier run; None where there is no file.
pub fn read(path: &Path) -> Result<Option<Value>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

/// Writes it with a line per row, so that a change of one is a change of one line.
pub fn write(path: &Path, report: &Value) -> Result<()> {
    let rows: Vec<String> = report["rows"].as_array().into_iter().flatten().map(|row| format!("    {row}")).collect();
    let text = format!("{{\n  \"machine\": {},\n  \"rows\": [\n{}\n  ]\n}}\n", report["machine"], rows.join(",\n"));
    std::fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
}

/// The table of rows as they stand in a report.
pub fn table(rows: &[Value]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    if table.width().is_none_or(|width| width < TABLE_COLUMNS) {
        table.set_width(TABLE_COLUMNS);
    }
    table.set_header(["measure", "unit", "median", "minimum", "spread", "peer", "its median", "ratio", "goal", "met"]);
    for row in rows {
        let number = |key: &str| row[key].as_f64().map_or_else(String::new, short);
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let met = match row["met"].as_bool() {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "",
        };
        let (name, unit, peer_name, goal) = (text("name"), text("unit"), text("peer_name"), text("goal"));
        let (ours, minimum, spread) = (number("ours"), number("minimum"), number("spread"));
        let (peer, ratio) = (number("peer"), number("ratio"));
        table.add_row([name, unit, ours, minimum, spread, peer_name, peer, ratio, goal, met.to_owned()]);
    }
    table.to_string()
}

/// Three digits that matter.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::row::Better;
    use crate::bench::samples::Samples;

    fn machine() -> Machine {
        Machine { cpu: "a processor".to_owned(), kernel: "6.18.1".to_owned(), cores: 2 }
    }

    fn row(name: &str, value: f64) -> Row {
        Row::new(name, "ns", Better::Less, Samples::from_iter([value; 3]))
    }

    #[test]
    fn a_subset_replaces_its_rows_and_leaves_the_others() {
        let whole = merge(None, &machine(), 7, &[row("a", 1.0), row("b", 2.0), row("c", 3.0)]);
        let merged = merge(Some(&whole), &machine(), 3, &[row("d", 4.0), row("b", 20.0)]);
        let values: Vec<(&str, f64)> = merged["rows"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| (row["name"].as_str().unwrap(), row["ours"].as_f64().unwrap()))
            .collect();
        assert_eq!(values, [("a", 1.0), ("b", 20.0), ("c", 3.0), ("d", 4.0)]);
        assert_eq!(merged["rows"][1]["rounds"], 3);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        assert!(read(&path).unwrap().is_none());
        let report = merge(None, &machine(), 7, &[row("a", 1.5)]);
        write(&path, &report).unwrap();
        assert_eq!(read(&path).unwrap(), Some(report));
    }
}
