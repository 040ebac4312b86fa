//! `cargo xtask soak kills`: managers that are killed hundreds of times under clients that write, on both stores.

use anyhow::Result;

use crate::binaries::TESTED;
use crate::command::{cargo, show};
use crate::setup::{self, Purpose};

/// How often.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Kills in each scene: one manager on SQLite, one on PostgreSQL, two on PostgreSQL.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Only scenes whose name contains this, such as sqlite or postgres.
    filter: Option<String>,
}

/// Kills, and shows what was found after each scene.
pub(super) fn run(args: &Args) -> Result<()> {
    setup::ensure(&[Purpose::Build, Purpose::Test])?;
    let mut command = cargo();
    command.arg("test").args(TESTED).args(["--test", "endurance", "--", "--nocapture", "--test-threads=1"]);
    command.env("PERSONA_KILL_COUNT", args.count.to_string()).env("PERSONA_REQUIRE_TOOLS", "1");
    match &args.filter {
        Some(filter) => command.arg(filter),
        None => command.args(["kill::a_killed", "kill::two_managers"]),
    };
    show("managers that are killed", &mut command)
}
