//! `persona-ctl forecast`: how good forecasts are on a history, beside the naive ones.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use persona_core::ids::SubjectId;
use persona_core::predict::{Accuracy, Model, backtest, median_accuracy};
use persona_core::signal::{SignalName, Unit};
use persona_core::units::Span;
use persona_core::wire::api::ForecastAccuracy;
use serde::Serialize;

use super::forecast_limits::LimitsArgs;
use super::print::table_of;
use super::{Output, Session};
use crate::trace::{Series, read_series};

/// What to do with forecasts.
#[derive(Debug, Subcommand)]
pub(super) enum ForecastCommand {
    /// Let every model learn from three quarters of a history, and measure it on the last.
    Backtest(BacktestArgs),
    /// Say how high a limit has to be by a history, and what it would have left unused, let through and changed.
    Limits(LimitsArgs),
    /// Say how far forecasts that criteria ask for turned out to be off, since the manager that leads began to judge.
    Accuracy {
        /// Only of this one: node/NAME or workload/NODE/NAME.
        subject: Option<SubjectId>,
    },
}

/// Arguments of `forecast backtest`.
#[derive(Debug, Args)]
#[command(
    after_help = "A trace is long (time,signal,value) or wide (a column per series, a row per step, no times); .gz is unpacked.\nErrors are mean absolute errors in the series' own unit; what beats both naive models is worth having.\n\nExamples:\n  persona-ctl forecast backtest --trace month.csv\n  persona-ctl forecast backtest --trace machines.csv.gz --step 5m --horizon 1h --horizon 6h --per-series"
)]
pub(super) struct BacktestArgs {
    /// A history; may be given several times.
    #[arg(long = "trace", value_name = "FILE", required = true)]
    traces: Vec<PathBuf>,
    /// How far values are apart; a long trace is averaged over it.
    #[arg(long, value_name = "TIME", default_value = "5m")]
    step: Span,
    /// How far ahead is forecast; may be given several times.
    #[arg(long = "horizon", value_name = "TIME", default_values = ["5m", "1h", "6h"])]
    horizons: Vec<Span>,
    /// Print every series too.
    #[arg(long)]
    per_series: bool,
}

/// One model's errors over all series.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    model: &'static str,
    median_errors: Vec<Option<f64>>,
    mean_errors: Vec<Option<f64>>,
}

/// One series' errors.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SeriesRow {
    series: String,
    model: &'static str,
    errors: Vec<Option<f64>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    step: Span,
    horizons: Vec<Span>,
    series_count: usize,
    /// Series too short for the longest horizon.
    skipped: Vec<String>,
    models: Vec<Row>,
    series: Vec<SeriesRow>,
}

impl ForecastCommand {
    /// Whether no manager is needed.
    pub(super) fn is_offline(&self) -> bool {
        matches!(self, Self::Backtest(_) | Self::Limits(_))
    }

    pub(super) fn run_offline(self, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Backtest(args) => args.run(output),
            Self::Limits(args) => args.run(output),
            Self::Accuracy { .. } => unreachable!("it asks the manager"),
        }
    }

    pub(super) async fn run(self, session: &Session) -> anyhow::Result<()> {
        let Self::Accuracy { subject } = self else { return self.run_offline(session.output) };
        let mut all = session.client.forecast_accuracy().await?;
        all.retain(|it| subject.as_ref().is_none_or(|subject| *subject == it.subject));
        session.output.show(&all, |all| accuracies(all))
    }
}

fn accuracies(all: &[ForecastAccuracy]) -> String {
    let shown = |signal: &str, error: Option<f64>| {
        let unit = signal.parse::<SignalName>().ok().and_then(|name| name.unit()).unwrap_or(Unit::NONE);
        error.map_or_else(|| "-".to_owned(), |error| unit.show(error))
    };
    let rows = all.iter().map(|it| {
        let (error, persistence) = (shown(&it.signal, it.error), shown(&it.signal, it.persistence_error));
        let (subject, signal) = (it.subject.to_string(), it.signal.clone());
        [subject, signal, Span(it.ahead_ms).to_string(), it.count.to_string(), error, persistence]
    });
    let none = "no criteria ask for forecasts";
    table_of(&["SUBJECT", "SIGNAL", "AHEAD", "FORECASTS", "MEAN ERROR", "PERSISTENCE"], rows, none)
}

impl BacktestArgs {
    fn run(self, output: Output) -> anyhow::Result<()> {
        let report = self.report()?;
        output.show(&report, |report| tell(report, self.per_series))?;
        if output == Output::Table && !report.skipped.is_empty() {
            eprintln!("note: too short and left out: {}", report.skipped.join(", "));
        }
        Ok(())
    }

    fn report(&self) -> anyhow::Result<Report> {
        let steps = self.horizons_in_steps()?;
        let mut all: Vec<Series> = Vec::new();
        for trace in &self.traces {
            all.extend(read_series(trace, self.step)?);
        }
        let (mut results, mut names, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
        let mut why = None;
        for series in all {
            match backtest(&series.values, self.step.0 / 1_000, &steps, &Model::ALL) {
                Ok(accuracies) => {
                    results.push(accuracies);
                    names.push(series.name);
                }
                Err(error) => {
                    skipped.push(series.name);
                    why = Some(error);
                }
            }
        }
        if let (true, Some(error)) = (results.is_empty(), why) {
            return Err(error).context("no series can be tested");
        }
        let models = Model::ALL.iter().map(|model| row_of(&results, *model, steps.len())).collect();
        let series = names.iter().zip(&results).flat_map(|(name, accuracies)| {
            accuracies.iter().map(|accuracy| SeriesRow {
                series: name.clone(),
                model: accuracy.model.as_str(),
                errors: accuracy.errors.clone(),
            })
        });
        Ok(Report {
            step: self.step,
            horizons: self.horizons.clone(),
            series_count: results.len(),
            skipped,
            models,
            series: series.collect(),
        })
    }

    fn horizons_in_steps(&self) -> anyhow::Result<Vec<usize>> {
        if !(1_000..=86_400_000).contains(&self.step.0) {
            bail!("a step of {} is impossible: write 1s to 1d", self.step);
        }
        let steps = |horizon: &Span| {
            let is_whole = horizon.0 > 0 && horizon.0.is_multiple_of(self.step.0);
            let steps = usize::try_from(horizon.0 / self.step.0).ok().filter(|_| is_whole);
            steps.with_context(|| format!("the horizon {horizon} is not a whole number of steps of {}", self.step))
        };
        self.horizons.iter().map(steps).collect()
    }
}

fn row_of(results: &[Vec<Accuracy>], model: Model, horizon_count: usize) -> Row {
    let mean = |horizon: usize| {
        let of_model = results.iter().flatten().filter(|accuracy| accuracy.model == model);
        let errors: Vec<f64> = of_model.filter_map(|accuracy| accuracy.errors[horizon]).collect();
        (!errors.is_empty()).then(|| errors.iter().sum::<f64>() / errors.len() as f64)
    };
    Row {
        model: model.as_str(),
        median_errors: (0..horizon_count).map(|horizon| median_accuracy(results, model, horizon)).collect(),
        mean_errors: (0..horizon_count).map(mean).collect(),
    }
}

fn tell(report: &Report, per_series: bool) -> String {
    let horizons: Vec<String> = report.horizons.iter().map(ToString::to_string).collect();
    let header = |first: &[&str]| -> Vec<String> {
        first.iter().map(|name| (*name).to_owned()).chain(horizons.iter().cloned()).collect()
    };
    let cells = |names: Vec<String>, errors: &[Option<f64>]| -> Vec<String> {
        names.into_iter().chain(errors.iter().map(|error| shown(*error))).collect()
    };
    let rows = report.models.iter().flat_map(|row| {
        [
            cells(vec![row.model.to_owned(), "median".to_owned()], &row.median_errors),
            cells(vec![String::new(), "mean".to_owned()], &row.mean_errors),
        ]
    });
    let names = header(&["MODEL", "OF SERIES"]);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let summary = table_of(&names, rows, "no models");
    let count = report.series_count;
    let text =
        format!("mean absolute error, {count} series, steps of {}, tested on the last quarter\n{summary}", report.step);
    if !per_series {
        return text;
    }
    let rows = report.series.iter().map(|row| cells(vec![row.series.clone(), row.model.to_owned()], &row.errors));
    let names = header(&["SERIES", "MODEL"]);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    format!("{text}\n\n{}", table_of(&names, rows, "no series"))
}

fn shown(error: Option<f64>) -> String {
    error.map_or_else(|| "-".to_owned(), |error| format!("{error:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(traces: Vec<PathBuf>) -> BacktestArgs {
        let horizons = vec![Span(300_000), Span(3_600_000), Span(21_600_000)];
        BacktestArgs { traces, step: Span(300_000), horizons, per_series: false }
    }

    #[test]
    fn a_ramp_costs_persistence_what_it_should_and_horizons_are_whole_steps() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("wide.csv");
        let rows: String = (0..1_000).map(|step| format!("{step},5\n")).collect();
        std::fs::write(&path, format!("ramp,flat\n{rows}")).unwrap();
        let report = args(vec![path]).report().unwrap();
        assert_eq!(report.models[0].mean_errors, [Some(0.5), Some(6.0), Some(36.0)]);
        assert_eq!(report.series[4].errors, [Some(0.0), Some(0.0), Some(0.0)]);
        let odd = BacktestArgs { horizons: vec![Span(400_000)], ..args(Vec::new()) };
        assert!(odd.report().unwrap_err().to_string().contains("not a whole number of steps of 5m"));
    }

    /// Runs where PERSONA_TRACES names a directory with the traces; the project ships none.
    #[test]
    fn on_public_traces_smoothing_beats_both_baselines_on_the_median_machine() {
        let Some(directory) = std::env::var_os("PERSONA_TRACES") else {
            eprintln!("SKIP: PERSONA_TRACES does not name a directory with azure-vm-cpu-avg.csv.gz");
            return;
        };
        let path = PathBuf::from(directory).join("azure-vm-cpu-avg.csv.gz");
        let report = args(vec![path]).report().unwrap();
        let of = |model: Model| {
            let row = report.models.iter().find(|row| row.model == model.as_str());
            row.unwrap().median_errors.iter().map(|error| error.unwrap()).collect::<Vec<f64>>()
        };
        let (now, season, smoothed) = (of(Model::Persistence), of(Model::SeasonalNaive), of(Model::Smoothing));
        eprintln!("persistence {now:.3?}, seasonal-naive {season:.3?}, smoothing {smoothed:.3?}");
        for horizon in [1, 2] {
            assert!(
                smoothed[horizon] < now[horizon] && smoothed[horizon] < season[horizon],
                "{}",
                tell(&report, false)
            );
        }
    }
}
