//! Forecasts and limits on public traces: 100 machines, processor time in per cent every five minutes for four weeks. The variable
//! PERSONA_TRACES names the folder that has them; the project ships none, and without it this measures nothing.
//!
//! Every machine is one sample, so that the median is that of the machine in the middle; nothing here is a time.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use persona_core::predict::{Accuracy, LimitCosts, LimitRule, Model, backtest, limit_costs};
use persona_core::units::Span;
use persona_ctl::trace::{Series, read_series};

use crate::bench::measures::Run;
use crate::bench::row::{Better, Goal, Row};
use crate::bench::samples::Samples;

/// Names the folder.
const VARIABLE: &str = "PERSONA_TRACES";

/// Mean and maximum of each interval.
const MEANS: &str = "azure-vm-cpu-avg.csv.gz";
const MAXIMA: &str = "azure-vm-cpu-max.csv.gz";

/// The interval.
const STEP: Span = Span(300_000);

/// How far ahead, and in steps.
const HORIZONS: [(&str, usize); 3] = [("5m", 1), ("1h", 12), ("6h", 72)];

/// Per cent of all processors.
const CEILING: f64 = 100.0;

/// Better than the peer at all.
const BETTER: Goal = Goal::TimesPeer(1.0);

/// Each rule of others, and the cost of an overrun with which ours stands beside it.
const RULES: [(&str, &str, LimitRule, f64); 3] = [
    ("strict", "the maximum of the last day", LimitRule::DayMaximum, 15.0),
    ("careful", "the 98th percentile, decayed, and 15 %", LimitRule::Percentile { share: 0.98, margin: 1.15 }, 11.0),
    ("thrifty", "the 90th percentile, decayed, and 15 %", LimitRule::Percentile { share: 0.9, margin: 1.15 }, 3.0),
];

/// Forecasts beside both naive ones, and limits beside three ways to choose them.
pub fn measure(run: &Run<'_>) -> Result<Vec<Row>> {
    let Some(folder) = std::env::var_os(VARIABLE).map(PathBuf::from) else {
        run.say("forecast: left out, since PERSONA_TRACES names no folder of traces");
        return Ok(Vec::new());
    };
    run.say("forecast: a backtest of every machine");
    let mut rows = forecasts(&series(&folder.join(MEANS))?)?;
    run.say("forecast: limits of every machine");
    rows.extend(limits(&series(&folder.join(MAXIMA))?));
    (0..run.rounds).for_each(|_| run.step());
    Ok(rows)
}

fn series(path: &Path) -> Result<Vec<Series>> {
    let all =
        read_series(path, STEP).with_context(|| format!("{VARIABLE} names no folder with {MEANS} and {MAXIMA}"))?;
    ensure!(!all.is_empty(), "{} has no series", path.display());
    Ok(all)
}

fn forecasts(all: &[Series]) -> Result<Vec<Row>> {
    let (steps, models) =
        (HORIZONS.map(|(_, steps)| steps), [Model::Smoothing, Model::Persistence, Model::SeasonalNaive]);
    let tested = all.iter().map(|series| backtest(&series.values, STEP.0 / 1_000, &steps, &models));
    let tested: Vec<Vec<Accuracy>> = tested.collect::<Result<_, _>>()?;
    let errors = |model: Model, horizon: usize| -> Samples {
        let of_model = tested.iter().flatten().filter(|accuracy| accuracy.model == model);
        of_model.filter_map(|accuracy| accuracy.errors[horizon]).collect()
    };
    let mut rows = Vec::new();
    for (horizon, (name, _)) in HORIZONS.iter().enumerate() {
        for peer in [Model::Persistence, Model::SeasonalNaive] {
            let name = format!("forecast/{name}/{}", peer.as_str());
            let row = Row::new(name, "points off, the median machine", Better::Less, errors(Model::Smoothing, horizon));
            rows.push(row.beside(peer.as_str(), errors(peer, horizon)).reach(BETTER));
        }
    }
    Ok(rows)
}

fn limits(all: &[Series]) -> Vec<Row> {
    let costs = |rule: LimitRule| -> LimitCosts {
        let each = all.iter().map(|series| limit_costs(&series.values, STEP.0 / 1_000, CEILING, rule));
        LimitCosts::together(&each.collect::<Vec<_>>())
    };
    let one = |value: f64| Samples::from_iter([value]);
    let rows = RULES.iter().flat_map(|(name, peer, rule, overrun_cost)| {
        let (ours, theirs) = (costs(LimitRule::Headroom { overrun_cost: *overrun_cost }), costs(*rule));
        let row = |what: &str, unit: &'static str, of: fn(&LimitCosts) -> f64| {
            let row = Row::new(format!("limits/{name}/{what}"), unit, Better::Less, one(of(&ours)));
            row.beside(peer, one(of(&theirs))).reach(BETTER)
        };
        [
            row("unused", "% of the limit", |costs| costs.unused * 100.0),
            row("over", "% of the intervals", |costs| costs.over * 100.0),
            row("changes", "changes per machine and day", |costs| costs.changes_per_day),
        ]
    });
    rows.collect()
}
