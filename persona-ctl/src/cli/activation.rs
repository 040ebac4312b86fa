//! `persona-ctl activation`: criteria checked and replayed before anybody trusts them, and what they make of a subject.

use std::fmt;

use clap::{Args, Subcommand};
use persona_core::activate::{Criterion, CriterionError};
use persona_core::ids::{PersonaName, SubjectId};
use persona_core::signal::{MEASURED, SignalInfo};
use persona_core::units::Span;
use persona_core::wire::api::{ActivationView, Trigger};
use serde::Serialize;

use super::print::{listed, now_ms, table_of, utc};
use super::replay::{ReplayArgs, tell_story};
use super::schedule::{self, SchedulesArgs, UnscheduleArgs, When};
use super::switch::Wait;
use super::{Output, Session};

/// What to do with criteria.
#[derive(Debug, Subcommand)]
pub(super) enum ActivationCommand {
    /// Check one criterion, and say what it reads and compares.
    Check(CheckArgs),
    /// Run a history of signals through personas' rules, and print when they would have switched.
    Replay(ReplayArgs),
    /// Say what a subject's criteria see, what they wait for, and what is worn for them.
    Status(StatusArgs),
    /// Put a persona on whatever its criteria say: above them, below requests and switches by hand; now, at a time, or again
    /// and again.
    Trigger(TriggerArgs),
    /// Release what was triggered: criteria decide again.
    Release(ReleaseArgs),
    /// List what is scheduled, and when it comes next.
    Schedules(SchedulesArgs),
    /// Remove a schedule; what it has put on is taken off.
    Unschedule(UnscheduleArgs),
    /// List the signals that criteria may name.
    Signals,
}

/// Arguments of `activation check`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  persona-ctl activation check 'cpu.utilisation > 80% && hour() >= 8'\n  persona-ctl activation check \"predicted(cpu.utilisation, 30m) > 0.7\" -o json"
)]
pub(super) struct CheckArgs {
    /// The criterion.
    #[arg(value_name = "CRITERION", allow_hyphen_values = true)]
    criterion: String,
}

/// Arguments of `activation status`.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Who: node/NAME or workload/NODE/NAME.
    subject: SubjectId,
}

/// Arguments of `activation trigger`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  persona-ctl activation trigger workload/n1/web ai-training-node --for 2h --wait\n  persona-ctl activation trigger workload/n1/web sale --at '2026-12-24 18:00' --time-zone Europe/Berlin --for 6h\n  persona-ctl activation trigger workload/n1/web nightly-backup --every '0 1 * * *' --time-zone Europe/Berlin --for 4h"
)]
pub(super) struct TriggerArgs {
    /// Who: node/NAME or workload/NODE/NAME.
    subject: SubjectId,
    /// The persona, in every section that it has.
    persona: PersonaName,
    /// For how long, such as 2h. Without it: until it is released.
    #[arg(long = "for", value_name = "TIME")]
    duration: Option<Span>,
    #[command(flatten)]
    when: When,
    #[command(flatten)]
    wait: Wait,
}

/// Arguments of `activation release`.
#[derive(Debug, Args)]
pub(super) struct ReleaseArgs {
    /// Who: node/NAME or workload/NODE/NAME.
    subject: SubjectId,
    #[command(flatten)]
    wait: Wait,
}

/// A criterion that is refused; prints where.
#[derive(Debug)]
pub(super) struct RefusedCriterion {
    text: String,
    wrong: CriterionError,
}

impl fmt::Display for RefusedCriterion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let column = self.wrong.column.max(1) as usize;
        write!(formatter, "{}\n  {}\n  {:>column$}", self.wrong, self.text, "^")
    }
}

impl std::error::Error for RefusedCriterion {}

/// What a criterion is.
#[derive(Debug, Serialize)]
struct Checked {
    criterion: String,
    reads: Vec<String>,
    compares: Vec<String>,
}

/// A signal of the catalogue.
#[derive(Debug, Serialize)]
struct SignalView {
    name: &'static str,
    unit: String,
    about: &'static str,
}

impl ActivationCommand {
    /// Whether it needs no manager.
    pub(super) fn is_offline(&self) -> bool {
        matches!(self, Self::Check(_) | Self::Replay(_) | Self::Signals)
    }

    /// Answers without a manager.
    pub(super) fn run_offline(self, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Check(args) => args.run(output),
            Self::Replay(args) => args.run(output),
            Self::Signals => show_signals(output),
            Self::Status(_) | Self::Trigger(_) | Self::Release(_) | Self::Schedules(_) | Self::Unschedule(_) => {
                unreachable!("`is_offline` was asked")
            }
        }
    }

    pub(super) async fn run(self, session: &Session) -> anyhow::Result<()> {
        match self {
            Self::Status(args) => session.output.show(&session.client.activation(&args.subject).await?, told),
            Self::Trigger(TriggerArgs { subject, persona, duration, when, wait }) => {
                if let Some(new) = when.schedule(&subject, &persona, duration)? {
                    let made = session.client.schedule_activation(&new).await?;
                    return session.output.show(&made, |made| schedule::told(std::slice::from_ref(made), now_ms()));
                }
                let trigger = Trigger { subject: subject.clone(), persona, for_ms: duration.map(|span| span.0) };
                let answer = session.client.trigger_activation(&trigger).await?;
                wait.show(session, &subject, Some(answer)).await
            }
            Self::Release(ReleaseArgs { subject, wait }) => {
                let answer = session.client.release_activation(&subject).await?;
                wait.show(session, &subject, answer).await
            }
            Self::Schedules(args) => args.run(session).await,
            Self::Unschedule(args) => args.run(session).await,
            offline => offline.run_offline(session.output),
        }
    }
}

/// What criteria make of a subject, for people.
pub(super) fn told(view: &ActivationView) -> String {
    let worn = match (&view.reason, view.since_ms) {
        (Some(reason), Some(since_ms)) => format!("since {}: {reason}", utc(since_ms)),
        _ => "nothing is worn by activation".to_owned(),
    };
    let budget =
        format!("switched {} times of {} in {}", view.switch_count, view.switch_count_max, Span(view.switch_span_ms));
    let trouble = view.trouble.iter().map(|trouble| format!("the rules cannot be judged: {trouble}"));
    let lines = [worn, budget].into_iter().chain(view.held_back.clone()).chain(trouble);
    format!("{}\n\n{}", lines.collect::<Vec<_>>().join("\n"), tell_story(&view.personas))
}

impl CheckArgs {
    fn run(self, output: Output) -> anyhow::Result<()> {
        let refused = |wrong| RefusedCriterion { text: self.criterion.clone(), wrong };
        let criterion = Criterion::parse(&self.criterion).map_err(refused)?;
        let checked = Checked {
            criterion: criterion.to_string(),
            reads: criterion.sources().iter().map(ToString::to_string).collect(),
            compares: criterion.comparisons().iter().map(|comparison| comparison.text().to_owned()).collect(),
        };
        output.show(&checked, |checked| {
            let Checked { criterion, reads, compares } = checked;
            format!("{criterion}\nreads     {}\ncompares  {}", listed(reads), listed(compares))
        })
    }
}

fn show_signals(output: Output) -> anyhow::Result<()> {
    let unit = |info: &SignalInfo| if info.is_share { "a share, 0 to 1".to_owned() } else { info.unit.to_string() };
    let view = |info: &'static SignalInfo| SignalView { name: info.name, unit: unit(info), about: info.about };
    let signals: Vec<SignalView> = MEASURED.iter().map(view).collect();
    output.show(&signals, |signals| {
        let rows = signals.iter().map(|signal| [signal.name.to_owned(), signal.unit.clone(), signal.about.to_owned()]);
        let table = table_of(&["SIGNAL", "UNIT", "WHAT"], rows, "none");
        format!("{table}\n\nEach also with host. before it. External systems push external.NAME; metric.NAME comes from the workload's /metrics.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_tells_rules_budget_and_what_is_held_back() {
        let view: ActivationView = serde_json::from_value(serde_json::json!({
            "subject": "workload/n1/web", "reason": "surge: holds: external.surge > 0 (2)", "sinceMs": 0,
            "heldBack": "held back for 5m", "switchCount": 6, "switchCountMax": 6, "switchSpanMs": 3_600_000, "trouble": null,
            "personas": [{ "persona": "surge@1", "worn": ["resources"], "rules": [{ "when": "external.surge > 0", "leave": null,
                "holds": "true", "isIn": true, "verdict": "in for 5s",
                "seen": [{ "comparison": "external.surge > 0", "value": "2", "truth": "true", "margin": 2.0 }] }] }],
        }))
        .unwrap();
        let told = told(&view);
        let parts = [
            "since 1970-01-01T00:00:00.000Z: surge: holds",
            "switched 6 times of 6 in 1h",
            "held back for 5m",
            "in for 5s",
        ];
        parts.iter().for_each(|part| assert!(told.contains(part), "{told}"));
    }

    #[test]
    fn a_refusal_points_at_the_column() {
        let text = "memory.bytes > 5".to_owned();
        let wrong = Criterion::parse(&text).unwrap_err();
        let told = RefusedCriterion { text, wrong }.to_string();
        let lines: Vec<&str> = told.lines().collect();
        assert!(lines[0].starts_with("column 16: 5 is a plain number"), "{told}");
        assert_eq!((lines[1], lines[2]), ("  memory.bytes > 5", "                 ^"));
    }
}
