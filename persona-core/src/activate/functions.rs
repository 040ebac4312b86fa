//! The functions of criteria: readings of signals and of the clock.

use super::clock::{ClockReading, Zone};
use super::compile::CriterionError;
use super::cron::Schedule;
use super::expr::{Expr, ExprKind};
use super::formula::SourceKind;
use crate::nearest::nearest;
use crate::signal::{Input, PREDICTED_SPANS, Reading, SignalName, Unit, WINDOW_SPANS};
use crate::units::Span;

/// How long a cron window may be open.
const CRON_SPANS: std::ops::RangeInclusive<Span> = Span(60_000)..=Span(7 * 86_400_000);

/// Every function with its arguments, for messages.
pub(super) const FUNCTIONS: [(&str, &str); 16] = [
    ("abs", "abs(NUMBER)"),
    ("between", "between('22:00', '06:00', 'Europe/Berlin')"),
    ("cron", "cron('0 22 * * 1-5', 8h, 'Europe/Berlin')"),
    ("day", "day('Europe/Berlin')"),
    ("has", "has(SIGNAL)"),
    ("hour", "hour('Europe/Berlin')"),
    ("last", "last(SIGNAL)"),
    ("max", "max(SIGNAL, 5m)"),
    ("mean", "mean(SIGNAL, 5m)"),
    ("min", "min(SIGNAL, 5m)"),
    ("minute", "minute('Europe/Berlin')"),
    ("month", "month('Europe/Berlin')"),
    ("p95", "p95(SIGNAL, 5m)"),
    ("predicted", "predicted(SIGNAL, 30m)"),
    ("total", "total(SIGNAL, 1h)"),
    ("weekday", "weekday('Europe/Berlin')"),
];

/// Words for the values of `weekday()`.
pub(super) const WEEKDAYS: [(&str, f64); 7] =
    [("mon", 1.0), ("tue", 2.0), ("wed", 3.0), ("thu", 4.0), ("fri", 5.0), ("sat", 6.0), ("sun", 7.0)];

/// What a function reads.
pub(super) struct Called {
    pub(super) source: SourceKind,
    /// None: it is true or false.
    pub(super) range: Option<(f64, f64)>,
    pub(super) is_flag: bool,
}

/// Finds out what a call reads; `abs` and `has` are the caller's.
pub(super) fn call(column: u32, name: &str, arguments: &[Expr]) -> Result<Called, CriterionError> {
    let usage = FUNCTIONS.iter().find(|(known, _)| *known == name).map(|(_, usage)| *usage);
    let Some(usage) = usage else { return Err(unknown_function(column, name)) };
    let wrong = || CriterionError::new(column, format!("{name} is written {usage}"));
    let number = |reading: fn(Zone) -> ClockReading, range| {
        let zone = zone_of(arguments, 0, usage)?;
        Ok(Called { source: SourceKind::Clock(reading(zone)), range: Some(range), is_flag: false })
    };
    let flag = |reading| Ok(Called { source: SourceKind::Clock(reading), range: None, is_flag: true });
    match (name, arguments) {
        ("hour", _) => number(ClockReading::Hour, (0.0, 23.0)),
        ("minute", _) => number(ClockReading::Minute, (0.0, 59.0)),
        ("weekday", _) => number(ClockReading::Weekday, (1.0, 7.0)),
        ("day", _) => number(ClockReading::Day, (1.0, 31.0)),
        ("month", _) => number(ClockReading::Month, (1.0, 12.0)),
        ("between", [from, to, ..]) => {
            let (start, end) = (time_of_day(from)?, time_of_day(to)?);
            if start == end {
                return Err(CriterionError::new(to.column, "both times are the same: this would be the whole day"));
            }
            flag(ClockReading::Between(start, end, zone_of(arguments, 2, usage)?))
        }
        ("cron", [schedule, span, ..]) => {
            let read =
                Schedule::parse(text_of(schedule)?).map_err(|wrong| CriterionError::new(schedule.column, wrong))?;
            let span = span_of(span, &CRON_SPANS)?;
            flag(ClockReading::Cron(Box::new(read), span, zone_of(arguments, 2, usage)?))
        }
        ("last", [signal]) => reading_of(signal, Reading::Last),
        ("mean", [signal, span]) => reading_of(signal, Reading::Mean(span_of(span, &WINDOW_SPANS)?)),
        ("max", [signal, span]) => reading_of(signal, Reading::Max(span_of(span, &WINDOW_SPANS)?)),
        ("min", [signal, span]) => reading_of(signal, Reading::Min(span_of(span, &WINDOW_SPANS)?)),
        ("p95", [signal, span]) => reading_of(signal, Reading::P95(span_of(span, &WINDOW_SPANS)?)),
        ("total", [signal, span]) => reading_of(signal, Reading::Total(span_of(span, &WINDOW_SPANS)?)),
        ("predicted", [signal, span]) => reading_of(signal, Reading::Predicted(span_of(span, &PREDICTED_SPANS)?)),
        _ => Err(wrong()),
    }
}

fn unknown_function(column: u32, name: &str) -> CriterionError {
    let names = FUNCTIONS.iter().map(|(name, _)| *name);
    let meant = nearest(name, names.clone()).map(|name| format!("did you mean {name}? ")).unwrap_or_default();
    let valid = names.collect::<Vec<_>>().join(", ");
    CriterionError::new(column, format!("unknown function {name}; {meant}valid: {valid}"))
}

/// A signal's last value, where its name stands alone.
pub(super) fn last_of(column: u32, name: &str) -> Result<Called, CriterionError> {
    if let Some((_, usage)) = FUNCTIONS.iter().find(|(known, _)| *known == name) {
        return Err(CriterionError::new(column, format!("{name} is a function: write {usage}")));
    }
    let signal: SignalName =
        name.parse().map_err(|wrong: crate::signal::UnknownSignal| CriterionError::new(column, wrong.to_string()))?;
    Ok(called(signal, Reading::Last))
}

fn reading_of(signal: &Expr, reading: Reading) -> Result<Called, CriterionError> {
    Ok(called(signal_of(signal)?, reading))
}

fn called(signal: SignalName, reading: Reading) -> Called {
    // A share may pass its whole for a moment, by the error of measuring.
    let is_share = signal.info().is_some_and(|info| info.is_share);
    let is_plain = !matches!(reading, Reading::Total(_));
    let range = (is_share && is_plain).then_some((0.0, 2.0));
    Called { source: SourceKind::Signal(Input { signal, reading }), range, is_flag: false }
}

/// The signal that an argument names, with or without quotes.
pub(super) fn signal_of(argument: &Expr) -> Result<SignalName, CriterionError> {
    let (ExprKind::Name(name) | ExprKind::Text(name)) = &argument.kind else {
        return Err(CriterionError::new(argument.column, "write a signal here, such as cpu.utilisation"));
    };
    name.parse().map_err(|wrong: crate::signal::UnknownSignal| CriterionError::new(argument.column, wrong.to_string()))
}

fn span_of(argument: &Expr, valid: &std::ops::RangeInclusive<Span>) -> Result<Span, CriterionError> {
    let bounds = format!("write {} to {}", valid.start(), valid.end());
    let wrong = |what: &str| CriterionError::new(argument.column, format!("{what}: {bounds}, such as 5m"));
    let ExprKind::Number(text) = &argument.kind else { return Err(wrong("a length of time is needed here")) };
    if !matches!(Unit::parse(text), Some((_, Unit::SECONDS))) {
        return Err(wrong(&format!("{text} is no length of time")));
    }
    let span = text.parse::<Span>().map_err(|error| CriterionError::new(argument.column, error.to_string()))?;
    if valid.contains(&span) { Ok(span) } else { Err(wrong(&format!("{span} is out of bounds here"))) }
}

fn text_of(argument: &Expr) -> Result<&str, CriterionError> {
    match &argument.kind {
        ExprKind::Text(text) => Ok(text),
        _ => Err(CriterionError::new(argument.column, "a text in quotes is needed here")),
    }
}

/// The zone in the last argument; UTC where there is none.
fn zone_of(arguments: &[Expr], index: usize, usage: &str) -> Result<Zone, CriterionError> {
    if let Some(beyond) = arguments.get(index + 1) {
        return Err(CriterionError::new(beyond.column, format!("this is one argument too many: write {usage}")));
    }
    let Some(argument) = arguments.get(index) else { return Ok(Zone::utc()) };
    Zone::named(text_of(argument)?).map_err(|wrong| CriterionError::new(argument.column, wrong))
}

/// Minutes since midnight.
fn time_of_day(argument: &Expr) -> Result<u16, CriterionError> {
    let text = text_of(argument)?;
    let number = |text: &str, end: u16| text.parse::<u16>().ok().filter(|value| text.len() == 2 && *value < end);
    let minutes = text.split_once(':').and_then(|(hour, minute)| Some(number(hour, 24)? * 60 + number(minute, 60)?));
    minutes.ok_or_else(|| {
        CriterionError::new(argument.column, format!("'{text}' is no time of day: write '00:00' to '23:59'"))
    })
}
