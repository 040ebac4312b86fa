//! The same steps with the edges' programs forced to XDP.

use persona_tests::steps::run_all;
use persona_tests::world::Hook;

use super::check;

/// Kills in this run.
const KILL_COUNT: u32 = 2;

#[test]
fn the_steps_hold_with_edges_on_xdp() {
    check(Hook::Xdp, |world, findings| run_all(world, KILL_COUNT, findings).unwrap());
}
