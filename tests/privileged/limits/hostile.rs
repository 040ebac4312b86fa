//! Somebody else who writes the same files at random is put right each time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use persona_core::limit::Knob;
use persona_ctl::limits::{Backend, Drift, LimitsConfig, Wish};

use super::group::Group;
use super::{assert_in_force, six, wears};

/// How long they fight.
const FIGHT_TIME: Duration = Duration::from_secs(3);

#[test]
fn a_hostile_writer_is_always_put_right() {
    let Some(group) = Group::new() else { return };
    let before = group.bytes();
    let mut limited = group.limited(LimitsConfig { drift: Drift::Repair, ..LimitsConfig::default() });
    let wish = wears(six(&group.devices));
    assert_in_force(&limited.turn(&wish));
    let held = group.bytes();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (mut files, stop) = (group.files(), Arc::clone(&stop));
        move || write_at_random(&mut files, &stop)
    });
    let (start, mut told_count) = (Instant::now(), 0);
    while start.elapsed() < FIGHT_TIME {
        limited.turn(&wish);
        told_count += limited.take_told().iter().filter(|told| told.event == "limits.changed-by-others").count();
        std::thread::sleep(Duration::from_millis(20));
    }
    stop.store(true, Ordering::Relaxed);
    let write_count = writer.join().unwrap();
    println!("{write_count} hostile writes, told {told_count} times");
    assert!(write_count > 0 && told_count > 0);
    // A failure of the last fight may have left a step to try again: something else is wanted, then the same again.
    limited.turn(&Wish::Nothing);
    assert_in_force(&limited.turn(&wish));
    assert_eq!(group.bytes(), held);
    limited.turn(&Wish::Nothing);
    assert_eq!(group.bytes(), before);
}

/// Values that the kernel takes, for knobs that both versions may have.
fn write_at_random(files: &mut impl Backend, stop: &AtomicBool) -> usize {
    let values = [
        ("cpu.max", "30000 100000"),
        ("cpu.cfs_quota_us", "30000"),
        ("cpu.weight", "7"),
        ("cpu.shares", "70"),
        ("memory.max", "1073741824"),
        ("memory.limit_in_bytes", "1073741824"),
        ("pids.max", "77"),
    ];
    let (mut dice, mut count) = (7_usize, 0);
    while !stop.load(Ordering::Relaxed) {
        dice = dice.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        let (name, value) = values[(dice >> 16) % values.len()];
        if files.write(&Knob::new(name), value).is_ok_and(|is_ours| is_ours) {
            count += 1;
            std::thread::sleep(Duration::from_millis(3));
        }
    }
    count
}
