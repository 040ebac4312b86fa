//! The one binary: parse, run, exit code.

use std::process::ExitCode;

use persona_ctl::cli::Cli;

fn main() -> ExitCode {
    Cli::from_arguments().run()
}
