//! Arguments that draining and deleting nodes and edges share.

use std::time::Duration;

use clap::Args;
use persona_core::units::Span;

/// Arguments of `node drain` and `edge drain`.
#[derive(Debug, Args)]
pub(super) struct DrainArgs {
    /// Wait until it is empty, and show the progress.
    #[arg(long)]
    wait: bool,
    /// How long to wait at most, such as 10m.
    #[arg(long, value_name = "TIME", default_value = "10m", requires = "wait")]
    timeout: Span,
}

impl DrainArgs {
    /// How long to wait. None: not at all.
    pub(super) fn limit(&self) -> Option<Duration> {
        self.wait.then(|| Duration::from_millis(self.timeout.0))
    }
}

/// Arguments of `node delete` and `edge delete`.
#[derive(Debug, Args)]
pub(super) struct DeleteArgs {
    /// Delete it although it is in use: flows end, and what it held rests before it is leased again.
    #[arg(long, requires = "reason")]
    force: bool,
    /// Why; it is kept in the event log.
    #[arg(long, requires = "force", value_name = "TEXT")]
    reason: Option<String>,
}

impl DeleteArgs {
    /// The reason of a deletion by force.
    pub(super) fn forced(&self) -> Option<&str> {
        self.reason.as_deref().filter(|_| self.force)
    }
}
