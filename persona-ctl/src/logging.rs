//! Logs of the long-running roles: to standard error, for people on a terminal and as JSON lines otherwise if asked.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

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
    let filter = EnvFilter::try_from_env("PERSONA_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // Colours are for a terminal, and not where NO_COLOR asks for none.
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}
