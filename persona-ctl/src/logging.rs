//! Logs of the long-running roles: to standard error, for people on a terminal and as JSON lines otherwise if asked.

use std::io::IsTerminal;

use persona_manager::telemetry::{self, Traces};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// A line of text.
    #[default]
    Text,
    /// A line of JSON.
    Json,
}

/// Starts logging. `PERSONA_LOG` filters as `RUST_LOG` does; default `info`.
pub fn start(format: LogFormat) {
    start_with(format, None);
}

/// The same, with traces beside it.
pub fn start_with(format: LogFormat, traces: Option<&Traces>) {
    let filter = EnvFilter::try_from_env("PERSONA_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let not_traces = format!("{}=off", telemetry::TARGET).parse().expect("it is a directive");
    let filter = filter.add_directive(not_traces);
    // Colours are for a terminal, and not where NO_COLOR asks for none.
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
    let lines = match format {
        LogFormat::Text => lines.with_filter(filter).boxed(),
        LogFormat::Json => lines.json().with_filter(filter).boxed(),
    };
    tracing_subscriber::registry().with(lines).with(traces.map(Traces::layer)).init();
}
