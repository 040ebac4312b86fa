//! Twenty edges die under downloads, one after the other, and no connection notices more than a pause.

use persona_tests::steps::failover;
use persona_tests::world::Hook;

use super::{check, start};

/// Kills, unless `PERSONA_TEST_KILLS` says otherwise.
const KILL_COUNT: u32 = 20;

#[test]
fn connections_survive_twenty_edge_deaths() {
    let given = std::env::var("PERSONA_TEST_KILLS").ok().and_then(|text| text.parse().ok());
    check(Hook::Auto, |world, findings| {
        start(world, findings);
        findings.run("5 edge death", |findings| failover::run(world, given.unwrap_or(KILL_COUNT), findings));
    });
}
