//! `persona-ctl completions`: a script that completes commands and options.

use clap::Args;
use clap_complete::Shell;

use super::Cli;

/// Arguments of `completions`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  persona-ctl completions bash > /etc/bash_completion.d/persona-ctl")]
pub(super) struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

impl CompletionsArgs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::described(), "persona-ctl", &mut script);
        super::print::print_text(&String::from_utf8(script)?)
    }
}
