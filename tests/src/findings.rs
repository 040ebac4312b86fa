//! What was expected and what was measured, line by line, and the table that closes a run.

use anyhow::{Result, bail};
use comfy_table::{ContentArrangement, Table, presets};

/// Columns of the table where the terminal does not say, and the fewest that it is believed to have.
const TABLE_COLUMNS: u16 = 140;
const TABLE_COLUMNS_MIN: u16 = 60;

/// One line: a claim and what became of it.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The step that it belongs to.
    pub step: String,
    /// What was claimed.
    pub expected: String,
    /// What was seen.
    pub measured: String,
    /// Whether they agree.
    pub ok: bool,
}

/// All lines of a run.
#[derive(Debug, Default)]
pub struct Findings {
    step: String,
    lines: Vec<Finding>,
    on_line: Option<fn(&Finding)>,
}

impl Findings {
    /// Findings that are also told one by one, as they come.
    pub fn telling(on_line: fn(&Finding)) -> Self {
        Self { on_line: Some(on_line), ..Self::default() }
    }

    /// Begins a step; the following lines belong to it.
    pub fn begin(&mut self, step: &str) {
        self.step = step.to_owned();
    }

    /// Notes a line.
    pub fn note(&mut self, expected: impl Into<String>, measured: impl Into<String>, ok: bool) {
        let line = Finding { step: self.step.clone(), expected: expected.into(), measured: measured.into(), ok };
        if let Some(tell) = self.on_line {
            tell(&line);
        }
        self.lines.push(line);
    }

    /// Runs a step; one that breaks off is a line that is not ok, and the next step still runs.
    pub fn run(&mut self, step: &str, function: impl FnOnce(&mut Self) -> Result<()>) {
        self.begin(step);
        if let Err(error) = function(self) {
            self.note("the step runs to its end", format!("{error:#}"), false);
        }
    }

    /// Whether every line is ok, and there are any.
    pub fn all_ok(&self) -> bool {
        !self.lines.is_empty() && self.lines.iter().all(|line| line.ok)
    }

    /// Fails with every line that is not ok.
    pub fn require_ok(&self) -> Result<()> {
        if self.all_ok() {
            return Ok(());
        }
        bail!("not every line is ok:\n{}", self.table())
    }

    /// The table.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
        // No terminal, or a serial console that says it has no columns.
        if table.width().is_none_or(|width| width < TABLE_COLUMNS_MIN) {
            table.set_width(TABLE_COLUMNS);
        }
        table.set_header(["step", "expected", "measured", "ok"]);
        for line in &self.lines {
            let ok = if line.ok { "ok" } else { "NOT OK" };
            table.add_row([line.step.as_str(), &line.expected, &line.measured, ok]);
        }
        table.to_string()
    }
}
