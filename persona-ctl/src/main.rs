//! The one binary: parse, run, exit code.

use std::process::ExitCode;

use persona_ctl::allocator::ByRole;
use persona_ctl::cli::Cli;

#[global_allocator]
static ALLOCATOR: ByRole = ByRole;

fn main() -> ExitCode {
    Cli::from_arguments().run()
}
