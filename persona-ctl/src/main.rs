//! The one binary: parse, run, exit code.

use std::process::ExitCode;

use persona_ctl::cli::Cli;

/// musl's own allocator has one lock for all threads.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    Cli::from_arguments().run()
}
