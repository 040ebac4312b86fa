//! The command line: one file per subcommand, each with its arguments and a `run`.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage (clap), 3 refused by the manager or by validation.

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// Personas: how machines appear on the network, what they may use, what is made ready for them.
#[derive(Debug, Parser)]
#[command(name = "persona-ctl", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

/// How answers are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
}

#[derive(Debug, Subcommand)]
enum Command {}

impl Cli {
    /// Runs the command to its end.
    pub fn run(self) -> ExitCode {
        match self.command {}
    }
}
