//! All steps of the demo, in one world.

use persona_tests::steps::run_all;
use persona_tests::world::Hook;

use super::check;

/// Kills here; `kills` has the long series.
const KILL_COUNT: u32 = 2;

#[test]
fn the_steps_of_the_demo_hold() {
    check(Hook::Auto, |world, findings| run_all(world, KILL_COUNT, findings).unwrap());
}
