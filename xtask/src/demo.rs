//! `cargo xtask demo`: builds, then runs `persona-demo` as root.

use anyhow::Result;

use crate::binaries;
use crate::command::{show, workspace_root};
use crate::setup::{self, Purpose};

/// How to run the demo.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What is shown: network (how workloads appear on it) or instances (what a container and a guest are held to).
    #[arg(default_value = "network", value_parser = ["network", "instances"])]
    subject: String,
    /// Leave the world standing and print how to look into it.
    #[arg(long)]
    keep: bool,
    /// Edge kills in step 5.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// The hook that edges attach their programs to: auto, tc or xdp.
    #[arg(long, default_value = "auto")]
    hook: String,
}

/// Sets up, builds, runs.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::require_root()?;
    let purposes: &[Purpose] = match args.subject.as_str() {
        "instances" => &[Purpose::Build, Purpose::Test, Purpose::Guests],
        _ => &[Purpose::Build, Purpose::Test],
    };
    setup::ensure(purposes)?;
    let persona_ctl = binaries::build_persona_ctl()?;
    let demo = binaries::build("persona-tests", "persona-demo")?;
    let mut command = binaries::elevated(&demo, &persona_ctl, &[])?;
    command.arg(&args.subject).arg("--picture").arg(workspace_root().join("target/xtask/demo/instances.svg"));
    command.arg("--rounds").arg(args.rounds.to_string()).arg("--hook").arg(&args.hook);
    if args.keep {
        command.arg("--keep");
    }
    show("the demo", &mut command)
}
