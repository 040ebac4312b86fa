//! Traces: files of what was measured, for replays and backtests.
//!
//! Long: CSV with the header `time,signal,value[,lifetime]`, or JSON lines with these keys. Wide: CSV with a column per
//! series and a row per step. `.gz` is unpacked, `-` is standard input.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use persona_core::units::Span;
use serde::Deserialize;

/// Rows that a trace may have: a signal a second for four months.
const ROW_COUNT_MAX: usize = 10_000_000;

/// Numbers at least so large are milliseconds and not seconds: 1973 in milliseconds.
const MILLISECONDS_FROM: f64 = 1e11;

/// One measured value.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// Which signal.
    pub signal: String,
    /// Its value; NaN where the trace says that it is missing.
    pub value: f64,
    /// How long a pushed value counts.
    pub lifetime: Option<Span>,
}

/// Values of one series, a step apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// None where one is missing.
    pub values: Vec<Option<f64>>,
}

/// Why a trace cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file.
    #[error("{path} cannot be read")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line.
    #[error("{path}:{line}: {message}")]
    Line {
        /// In which file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong and what would be valid.
        message: String,
    },
    /// Nothing in it.
    #[error("{0} is empty: write a header time,signal,value and a row per value")]
    Empty(PathBuf),
    /// Too long.
    #[error("{0} has more than {ROW_COUNT_MAX} rows: cut it")]
    TooLong(PathBuf),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonRow {
    time: JsonTime,
    signal: String,
    value: Option<f64>,
    lifetime: Option<Span>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum JsonTime {
    Number(f64),
    Text(String),
}

/// Reads a long trace in the order of the file.
pub fn read_rows(path: &Path) -> Result<Vec<Row>, TraceError> {
    rows_in(open(path)?, path)
}

/// Reads the lines of a long trace, which lie at `path`.
pub(crate) fn rows_in(lines: impl BufRead, path: &Path) -> Result<Vec<Row>, TraceError> {
    let mut rows = Vec::new();
    let mut columns: Option<Columns> = None;
    for (index, line) in lines.lines().enumerate() {
        let line = line.map_err(|source| TraceError::File { path: path.to_owned(), source })?;
        let wrong = |message| TraceError::Line { path: path.to_owned(), line: index + 1, message };
        let text = line.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let row = match (&columns, text.starts_with('{')) {
            (None, true) => json_row(text).map_err(wrong)?,
            (None, false) => {
                columns = Some(Columns::of(text).map_err(wrong)?);
                continue;
            }
            (Some(columns), _) => columns.row(text).map_err(wrong)?,
        };
        rows.push(row);
        if rows.len() > ROW_COUNT_MAX {
            return Err(TraceError::TooLong(path.to_owned()));
        }
    }
    if rows.is_empty() { Err(TraceError::Empty(path.to_owned())) } else { Ok(rows) }
}

/// Reads series `step` apart: the columns of a wide trace, or the means over each step of a long one.
pub fn read_series(path: &Path, step: Span) -> Result<Vec<Series>, TraceError> {
    if !is_wide(path)? {
        return in_steps(&read_rows(path)?, step).ok_or_else(|| TraceError::TooLong(path.to_owned()));
    }
    columns_in(open(path)?, path)
}

/// Reads the lines of a wide trace, which lie at `path`.
pub(crate) fn columns_in(lines: impl BufRead, path: &Path) -> Result<Vec<Series>, TraceError> {
    let mut series: Vec<Series> = Vec::new();
    for (index, line) in lines.lines().enumerate() {
        let line = line.map_err(|source| TraceError::File { path: path.to_owned(), source })?;
        let wrong = |message| TraceError::Line { path: path.to_owned(), line: index + 1, message };
        let cells: Vec<&str> = line.trim_end().split(',').map(str::trim).collect();
        if index == 0 {
            series = cells.iter().map(|name| Series { name: (*name).to_owned(), values: Vec::new() }).collect();
            continue;
        }
        if cells.len() != series.len() {
            return Err(wrong(format!("{} cells, but the header has {}", cells.len(), series.len())));
        }
        for (column, cell) in series.iter_mut().zip(cells) {
            let value = number(cell).map_err(|message| wrong(format!("{}: {message}", column.name)))?;
            column.values.push(value.is_finite().then_some(value));
        }
        if index > ROW_COUNT_MAX {
            return Err(TraceError::TooLong(path.to_owned()));
        }
    }
    Ok(series)
}

fn open(path: &Path) -> Result<Box<dyn BufRead>, TraceError> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    let file = File::open(path).map_err(|source| TraceError::File { path: path.to_owned(), source })?;
    let is_packed = path.extension().is_some_and(|ending| ending == "gz");
    let plain: Box<dyn Read> = if is_packed { Box::new(GzDecoder::new(file)) } else { Box::new(file) };
    Ok(Box::new(BufReader::new(plain)))
}

/// Whether the first line is a header without times. Standard input cannot be read twice, so it is long.
fn is_wide(path: &Path) -> Result<bool, TraceError> {
    if path == Path::new("-") {
        return Ok(false);
    }
    let first = open(path)?.lines().next().transpose();
    let first = first.map_err(|source| TraceError::File { path: path.to_owned(), source })?.unwrap_or_default();
    let has_time = first.split(',').any(|name| name.trim() == "time");
    Ok(!has_time && !first.trim_start().starts_with('{') && !first.trim_start().starts_with('#'))
}

struct Columns {
    time: usize,
    signal: usize,
    value: usize,
    lifetime: Option<usize>,
    count: usize,
}

impl Columns {
    fn of(header: &str) -> Result<Self, String> {
        let names: Vec<&str> = header.split(',').map(str::trim).collect();
        let find = |name: &str| names.iter().position(|known| *known == name);
        let unknown = names.iter().find(|name| !["time", "signal", "value", "lifetime"].contains(*name));
        match (find("time"), find("signal"), find("value"), unknown) {
            (Some(time), Some(signal), Some(value), None) => {
                Ok(Self { time, signal, value, lifetime: find("lifetime"), count: names.len() })
            }
            _ => Err(format!("{header:?} is no header of a trace: write time,signal,value and perhaps ,lifetime")),
        }
    }

    fn row(&self, text: &str) -> Result<Row, String> {
        let cells: Vec<&str> = text.split(',').map(str::trim).collect();
        if cells.len() != self.count {
            return Err(format!("{} cells, but the header has {}", cells.len(), self.count));
        }
        let lifetime = self.lifetime.map(|index| cells[index]).filter(|text| !text.is_empty());
        Ok(Row {
            time_ms: time_of(cells[self.time])?,
            signal: cells[self.signal].to_owned(),
            value: number(cells[self.value])?,
            lifetime: lifetime.map(|text| text.parse().map_err(|error| format!("{error}"))).transpose()?,
        })
    }
}

fn json_row(text: &str) -> Result<Row, String> {
    let row: JsonRow = serde_json::from_str(text).map_err(|error| {
        format!("{error}; a line is {{\"time\": …, \"signal\": \"cpu.utilisation\", \"value\": 0.5}}")
    })?;
    let time = match row.time {
        JsonTime::Number(number) => number.to_string(),
        JsonTime::Text(text) => text,
    };
    let value = row.value.unwrap_or(f64::NAN);
    Ok(Row { time_ms: time_of(&time)?, signal: row.signal, value, lifetime: row.lifetime })
}

/// A time: RFC 3339, or seconds or milliseconds since the Unix epoch.
pub fn time_of(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no time: write 2026-03-01T12:00:00Z, or seconds or milliseconds since 1970");
    if let Ok(number) = text.parse::<f64>() {
        let ms = if number >= MILLISECONDS_FROM { number } else { number * 1_000.0 };
        return if (0.0..1e15).contains(&ms) { Ok(ms.round() as u64) } else { Err(wrong()) };
    }
    let timestamp: jiff::Timestamp = text.parse().map_err(|_| wrong())?;
    u64::try_from(timestamp.as_millisecond()).map_err(|_| wrong())
}

/// A value; empty is missing.
fn number(text: &str) -> Result<f64, String> {
    if text.is_empty() || text.eq_ignore_ascii_case("nan") {
        return Ok(f64::NAN);
    }
    let value: Option<f64> = text.parse().ok();
    value.filter(|value| value.is_finite()).ok_or_else(|| format!("{text:?} is no number; leave a missing one empty"))
}

/// Means over each step, per signal, from the first row of all to the last. None: these would be more than a trace may have.
pub(crate) fn in_steps(rows: &[Row], step: Span) -> Option<Vec<Series>> {
    let step_ms = step.0.max(1);
    let first = rows.iter().map(|row| row.time_ms / step_ms).min().unwrap_or(0);
    let mut sums: BTreeMap<&str, BTreeMap<u64, (f64, u32)>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.value.is_finite()) {
        let sum = sums.entry(&row.signal).or_default().entry(row.time_ms / step_ms - first).or_default();
        *sum = (sum.0 + row.value, sum.1 + 1);
    }
    let last_of = |sums: &BTreeMap<u64, (f64, u32)>| sums.keys().next_back().copied().unwrap_or(0);
    let count = sums.values().map(|sums| last_of(sums).saturating_add(1)).fold(0, u64::saturating_add);
    if count > ROW_COUNT_MAX as u64 {
        return None;
    }
    let series = |(name, sums): (&str, BTreeMap<u64, (f64, u32)>)| {
        let last = last_of(&sums);
        let mean = |step: u64| sums.get(&step).map(|(sum, count)| sum / f64::from(*count));
        Series { name: name.to_owned(), values: (0..=last).map(mean).collect() }
    };
    Some(sums.into_iter().map(series).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        (directory, path)
    }

    #[test]
    fn csv_and_json_lines_say_the_same() {
        let csv = "time,signal,value,lifetime\n2026-03-01T12:00:00Z,cpu.utilisation,0.5,\n# a note\n1772366405,external.x,1,10m\n1772366406000,cpu.utilisation,,\n";
        let json = "{\"time\": \"2026-03-01T12:00:00Z\", \"signal\": \"cpu.utilisation\", \"value\": 0.5}\n{\"time\": 1772366405, \"signal\": \"external.x\", \"value\": 1, \"lifetime\": \"10m\"}\n{\"time\": 1772366406000, \"signal\": \"cpu.utilisation\", \"value\": null}\n";
        for (name, text) in [("a.csv", csv), ("a.jsonl", json)] {
            let (_directory, path) = file(name, text);
            let rows = read_rows(&path).unwrap();
            let times: Vec<u64> = rows.iter().map(|row| row.time_ms).collect();
            assert_eq!(times, [1_772_366_400_000, 1_772_366_405_000, 1_772_366_406_000], "{name}");
            assert_eq!((rows[0].value, rows[1].lifetime), (0.5, Some(Span(600_000))));
            assert!(rows[2].value.is_nan());
        }
    }

    #[test]
    fn mistakes_name_file_line_and_what_would_be_valid() {
        let cases = [
            ("time,signal\n", "a.csv:1: \"time,signal\" is no header"),
            ("time,signal,value\nyesterday,cpu.usage,1\n", "a.csv:2: \"yesterday\" is no time"),
            ("time,signal,value\n1,cpu.usage\n", "a.csv:2: 2 cells, but the header has 3"),
            ("time,signal,value\n1,cpu.usage,lots\n", "a.csv:2: \"lots\" is no number"),
            ("{\"time\": 1}\n", "a.csv:1: missing field `signal`"),
            ("", "is empty"),
        ];
        for (text, expected) in cases {
            let (_directory, path) = file("a.csv", text);
            let error = read_rows(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn wide_traces_may_be_packed_and_long_ones_become_means() {
        let (directory, _) = file("x", "");
        let path = directory.path().join("wide.csv.gz");
        let mut packed = flate2::write::GzEncoder::new(File::create(&path).unwrap(), flate2::Compression::fast());
        packed.write_all(b"vm0,vm1\n1,2\n3,\n").unwrap();
        packed.finish().unwrap();
        let series = read_series(&path, Span(300_000)).unwrap();
        assert_eq!(series[0], Series { name: "vm0".to_owned(), values: vec![Some(1.0), Some(3.0)] });
        assert_eq!(series[1].values, [Some(2.0), None]);
        let (_directory, path) = file("long.csv", "time,signal,value\n0,a,1\n10,a,3\n700,a,5\n400,b,7\n");
        let series = read_series(&path, Span(300_000)).unwrap();
        assert_eq!(series[0].values, [Some(2.0), None, Some(5.0)]);
        assert_eq!(series[1].values, [None, Some(7.0)]);
    }

    #[test]
    fn a_few_rows_far_apart_are_no_millions_of_steps() {
        let (_directory, path) = file("far.csv", "time,signal,value\n0,a,1\n900000000000,a,3\n");
        assert!(matches!(read_series(&path, Span(1_000)), Err(TraceError::TooLong(_))));
    }
}
