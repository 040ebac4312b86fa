//! Memory shrinks at random under a process that allocates and frees: what fits comes into force, what does not is given
//! up, and nobody is ever killed.

use std::time::Instant;

use persona_core::limit::Limits;
use persona_core::wire::limits::LimitState;
use persona_ctl::limits::{LimitsConfig, Wish};

use super::child;
use super::group::Group;
use super::wears;

/// Shrinks of a plain run of the tests.
const SHRINK_COUNT: u64 = 16;

/// Shrinks of `cargo xtask soak shrinks`.
const SOAK_COUNT: u64 = 1_000;

#[test]
fn memory_shrinks_at_random_and_nobody_is_killed() {
    shrink_at_random(SHRINK_COUNT);
}

#[test]
#[ignore = "takes a quarter of an hour: `cargo xtask soak shrinks`"]
fn soak() {
    shrink_at_random(SOAK_COUNT);
}

fn shrink_at_random(count: u64) {
    let Some(group) = Group::new() else { return };
    let before = group.bytes();
    let mut child = child::allocator();
    group.take(child.id());
    child::go(&mut child);
    let mut limited = group.limited(LimitsConfig { shrink_secs: 1, ..LimitsConfig::default() });
    let (mut dice, mut in_force, mut given_up) = (99_u64, 0, 0);
    let start = Instant::now();
    for round in 0..count {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // From what can never fit to what always does.
        let bytes = ((4 + (dice >> 33) % 124) << 20) + round * 4_096;
        let report = limited.turn(&wears(Limits { memory_max_bytes: Some(bytes), ..Limits::default() }));
        match report.state {
            LimitState::InForce => in_force += 1,
            LimitState::Failed => given_up += 1,
            other => panic!("{other} for {bytes} bytes: {report:?}"),
        }
        assert_eq!(group.oom_kill_count(), 0, "round {round}, {bytes} bytes: {report:?}");
        assert!(child.try_wait().unwrap().is_none(), "round {round}, {bytes} bytes: the child is gone");
        if round % 3 == 0 {
            limited.turn(&Wish::Nothing);
        }
    }
    let counts = serde_json::json!({ "version": format!("cgroup {:?}", group.version()).to_lowercase(), "shrinks": count,
        "inForce": in_force, "givenUp": given_up, "killed": group.oom_kill_count(), "seconds": start.elapsed().as_secs() });
    println!("shrinks: {counts}");
    assert!(in_force > 0 && given_up > 0, "both outcomes were to be seen");
    limited.turn(&Wish::Nothing);
    assert_eq!(group.bytes(), before);
    child.kill().unwrap();
    child.wait().unwrap();
}
