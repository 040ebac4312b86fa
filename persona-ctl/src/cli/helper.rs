//! `persona-ctl helper`: does for an agent that is not root what only root can. Its unit starts it, nobody else.

use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::logging::{self, LogFormat};
use crate::privilege::{self, Bounds};

/// Do what the agent's user may ask for: a fixed list of verbs, within the agent's configuration.
///
/// Without --listen, the listening socket is standard input (StandardInput=socket of a socket unit). Whoever owns the
/// socket's file may ask.
#[derive(Debug, Args)]
pub(super) struct HelperArgs {
    /// Configuration file of the agent that is served.
    #[arg(long, env = "PERSONA_CONFIG")]
    config: PathBuf,
    /// A socket to make and listen on.
    #[arg(long)]
    listen: Option<PathBuf>,
    /// How log lines look.
    #[arg(long, env = "PERSONA_LOG_FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,
}

impl HelperArgs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        logging::start(self.log_format);
        let listener = match &self.listen {
            Some(path) => {
                UnixListener::bind(path).with_context(|| format!("{} cannot be listened on", path.display()))?
            }
            None => std::io::stdin().as_fd().try_clone_to_owned().context("there is no standard input")?.into(),
        };
        privilege::serve(&listener, &Bounds::Configured(self.config)).context("the helper cannot serve")
    }
}
