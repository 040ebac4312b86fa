//! `persona-ctl signal`: what other systems say about a subject, and everything that is known of it.

use clap::{Args, Subcommand};
use persona_core::ids::SubjectId;
use persona_core::signal::{SignalName, Unit};
use persona_core::units::Span;
use persona_core::wire::api::{PushSignal, SignalView, SignalsView};

use super::Session;
use super::print::{ahead, now_ms, short_time, show_done, table_of};

/// What to do with signals.
#[derive(Debug, Subcommand)]
pub(super) enum SignalCommand {
    /// Say something about a subject, for a while.
    Push(PushArgs),
    /// List what is known of a subject: what was pushed, and what its node measures.
    List(ListArgs),
    /// Take a pushed signal back: it is unknown from then on.
    Withdraw(WithdrawArgs),
}

/// Arguments of `signal push`.
#[derive(Debug, Args)]
#[command(
    after_help = "Criteria read it by its name: external.surge > 0. When its time is over it is unknown, and onUnknown decides.\n\nExamples:\n  persona-ctl signal push workload/n1/web external.surge 1 --for 5m\n  persona-ctl signal push workload/n1/web external.expected_rate 200mbit --for 1h"
)]
pub(super) struct PushArgs {
    /// About whom: node/NAME or workload/NODE/NAME.
    subject: SubjectId,
    /// The signal, such as external.surge.
    #[arg(value_name = "SIGNAL")]
    name: SignalName,
    /// A number, or one with a unit: 0.8, 80%, 30s, 512MiB, 200mbit (in bytes per second).
    #[arg(value_parser = value_of, allow_hyphen_values = true)]
    value: f64,
    /// How long it counts: 1s to 7d.
    #[arg(long = "for", value_name = "TIME")]
    duration: Span,
}

/// Arguments of `signal list`.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Of whom: node/NAME or workload/NODE/NAME.
    subject: SubjectId,
}

/// Arguments of `signal withdraw`.
#[derive(Debug, Args)]
pub(super) struct WithdrawArgs {
    /// Of whom: node/NAME or workload/NODE/NAME.
    subject: SubjectId,
    /// The signal, such as external.surge.
    #[arg(value_name = "SIGNAL")]
    name: SignalName,
}

fn value_of(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().or_else(|| Unit::parse(text).map(|(value, _)| value));
    number
        .filter(|value| value.is_finite())
        .ok_or_else(|| "write a number such as 1, 0.8, 80%, 512MiB or 200mbit".to_owned())
}

impl SignalCommand {
    pub(super) async fn run(self, session: &Session) -> anyhow::Result<()> {
        match self {
            Self::Push(PushArgs { subject, name, value, duration }) => {
                let push = PushSignal { subject, name: name.to_string(), value, for_ms: duration.0 };
                session.output.show(&session.client.push_signal(&push).await?, told)
            }
            Self::List(args) => session.output.show(&session.client.signals(&args.subject).await?, told),
            Self::Withdraw(args) => {
                session.client.withdraw_signal(&args.subject, args.name.as_str()).await?;
                show_done(session.output, "signal", &args.name, "unknown from now on")
            }
        }
    }
}

fn told(view: &SignalsView) -> String {
    let row = |signal: &SignalView| {
        let from = signal.by.clone().unwrap_or_else(|| "measured".to_owned());
        let until = signal.until_ms.map_or_else(|| "-".to_owned(), |until_ms| ahead(Some(until_ms), now_ms()));
        [signal.name.clone(), signal.shown.clone(), short_time(signal.age_ms), until, from]
    };
    table_of(&["SIGNAL", "VALUE", "AGE", "ENDS", "FROM"], view.signals.iter().map(row), "nothing is known")
}
