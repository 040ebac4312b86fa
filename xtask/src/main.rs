//! What the newcomer and CI run: `cargo xtask setup`, `check`, `test` and `demo`; and what takes longer.

mod api;
mod bench;
mod binaries;
mod check;
mod command;
mod debian;
mod demo;
mod dist;
mod ebpf;
mod fuzz;
mod packages;
mod planner;
mod setup;
mod soak;
mod stages;
mod test;
mod tidy;
mod ui;
mod unpacked;
mod venv;
mod verifier;
mod vm;

use std::process::ExitCode;

use clap::Parser;

/// Set up, check, test and show Persona.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", arg_required_else_help = true)]
enum Task {
    /// Find or install what building, checking and testing need; quick when all is there.
    Setup(setup::Args),
    /// Formatting, lints of host and eBPF code, licences and sources of dependencies, and the tree's own rules.
    Check,
    /// Unit tests, then the privileged ones in network namespaces, here and on other kernels in guests.
    Test(test::Args),
    /// The page that the manager serves: built from TypeScript, embedded by the next build of the manager.
    Ui(ui::Args),
    /// Instructions that each kernel's verifier looks at, written to docs/benchmarks/verifier.json.
    Verifier,
    /// Millions of random and mutated frames through every program, held against a model of them; some twenty minutes. Or
    /// another subject: `soak kills`.
    Soak(soak::Args),
    /// Parsers of bytes from outside under libFuzzer, each for a bounded time, from the seeds of the tree.
    Fuzz(fuzz::Args),
    /// Speed, ours beside the kernel's own way, written to docs/benchmarks/.
    Bench(bench::Args),
    /// The whole path on real packets, with figures, in under three minutes.
    Demo(demo::Args),
    /// A tarball and a Debian package of the release build, with checksums, in target/dist; some minutes.
    Dist(dist::Args),
}

fn main() -> ExitCode {
    let outcome = match Task::parse() {
        Task::Setup(args) => setup::run(&args),
        Task::Check => check::run(),
        Task::Test(args) => test::run(&args),
        Task::Ui(args) => ui::run(&args),
        Task::Verifier => verifier::run(),
        Task::Soak(args) => soak::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Demo(args) => demo::run(&args),
        Task::Dist(args) => dist::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
