//! `persona-ctl forecast limits`: how high a limit has to be, by a history, and what that and other rules would have cost.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use persona_core::predict::{Headroom, LimitCosts, LimitRule, limit_costs};
use persona_core::units::Span;
use serde::Serialize;

use super::Output;
use super::print::table_of;
use crate::trace::{Series, read_series};

/// Arguments of `forecast limits`.
#[derive(Debug, Args)]
#[command(
    after_help = "A trace is as for `forecast backtest`; give maxima of each step rather than means. What a rule costs is measured on the last\nquarter: the share of the limit that was unused, the share of steps that went over it, and changes a day.\n\nExamples:\n  persona-ctl forecast limits --trace maxima.csv --ceiling 100\n  persona-ctl forecast limits --trace maxima.csv.gz --ceiling 100 --overrun-cost 3 --per-series"
)]
pub(super) struct LimitsArgs {
    /// A history; may be given several times.
    #[arg(long = "trace", value_name = "FILE", required = true)]
    traces: Vec<PathBuf>,
    /// How far values are apart; a long trace is averaged over it.
    #[arg(long, value_name = "TIME", default_value = "5m")]
    step: Span,
    /// What no value can be over, in the series' unit.
    #[arg(long, value_name = "VALUE")]
    ceiling: f64,
    /// What a step over the limit costs, in steps in which all of it is unused: 3 is thrifty, 11 careful, 15 strict.
    #[arg(long, value_name = "STEPS", default_value_t = 11.0)]
    overrun_cost: f64,
    /// Print the limit of each series too.
    #[arg(long)]
    per_series: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    rule: &'static str,
    unused: f64,
    over: f64,
    changes_per_day: f64,
}

#[derive(Debug, Serialize)]
struct LimitNow {
    series: String,
    limit: Option<f64>,
    why: String,
}

#[derive(Debug, Serialize)]
struct Report {
    rules: Vec<Row>,
    series: Vec<LimitNow>,
}

impl LimitsArgs {
    pub(super) fn run(self, output: Output) -> anyhow::Result<()> {
        output.show(&self.report()?, |report| tell(report, self.per_series))
    }

    fn report(&self) -> anyhow::Result<Report> {
        let Self { ceiling, overrun_cost, step, .. } = *self;
        if !(1_000..=86_400_000).contains(&step.0) {
            bail!("a step of {step} is impossible: write 1s to 1d");
        }
        if !(ceiling.is_finite() && ceiling > 0.0 && overrun_cost.is_finite() && overrun_cost > 0.0) {
            bail!("--ceiling and --overrun-cost are numbers above 0");
        }
        let mut all: Vec<Series> = Vec::new();
        for trace in &self.traces {
            all.extend(read_series(trace, step)?);
        }
        let step_s = step.0 / 1_000;
        let rules = [
            ("headroom", LimitRule::Headroom { overrun_cost }),
            ("maximum of a day", LimitRule::DayMaximum),
            ("98th percentile + 15 %", LimitRule::Percentile { share: 0.98, margin: 1.15 }),
            ("90th percentile + 15 %", LimitRule::Percentile { share: 0.9, margin: 1.15 }),
            ("the ceiling", LimitRule::Ceiling),
        ];
        let row = |(name, rule): (&'static str, LimitRule)| {
            let costs: Vec<_> = all.iter().map(|series| limit_costs(&series.values, step_s, ceiling, rule)).collect();
            let LimitCosts { unused, over, changes_per_day, .. } = LimitCosts::together(&costs);
            Row { rule: name, unused, over, changes_per_day }
        };
        let now = |series: &Series| {
            let mut model = Headroom::daily(step_s, ceiling, overrun_cost);
            let limit = series.values.iter().fold(None, |_, value| model.observe(*value));
            LimitNow { series: series.name.clone(), limit, why: model.explain() }
        };
        Ok(Report { rules: rules.map(row).into(), series: all.iter().map(now).collect() })
    }
}

fn tell(report: &Report, per_series: bool) -> String {
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    let rows = report.rules.iter().map(|row| {
        let changes = format!("{:.2}", row.changes_per_day);
        [row.rule.to_owned(), percent(row.unused), percent(row.over), changes]
    });
    let rules = table_of(&["RULE", "UNUSED", "OVER", "CHANGES A DAY"], rows, "no rules");
    if !per_series {
        return rules;
    }
    let rows = report.series.iter().map(|it| {
        let limit = it.limit.map_or_else(|| "-".to_owned(), |limit| format!("{limit:.3}"));
        [it.series.clone(), limit, it.why.clone()]
    });
    format!("{rules}\n\n{}", table_of(&["SERIES", "LIMIT", "NOT BELOW"], rows, "no series"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(trace: PathBuf, ceiling: f64) -> LimitsArgs {
        LimitsArgs { traces: vec![trace], step: Span(300_000), ceiling, overrun_cost: 11.0, per_series: true }
    }

    #[test]
    fn each_series_has_a_limit_and_every_rule_its_costs() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("wide.csv");
        let rows: String = (0..1_000).map(|step| format!("{},20\n", if step % 288 < 96 { 60 } else { 10 })).collect();
        std::fs::write(&path, format!("wave,flat\n{rows}")).unwrap();
        let report = args(path.clone(), 100.0).report().unwrap();
        let of = |rule: &str| report.rules.iter().find(|row| row.rule == rule).unwrap();
        assert!(of("headroom").unused < of("the ceiling").unused && of("the ceiling").over == 0.0, "{report:?}");
        assert!(report.series[1].limit.is_some_and(|limit| (20.0..=26.0).contains(&limit)), "{report:?}");
        let told = tell(&report, true);
        assert!(told.contains("maximum of a day") && told.contains("% of the values of the last"), "{told}");
        assert!(args(path, -1.0).report().unwrap_err().to_string().contains("numbers above 0"));
    }
}
