//! The one binary: parse, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use persona_ctl::cli::Cli;

fn main() -> ExitCode {
    Cli::parse().run()
}
