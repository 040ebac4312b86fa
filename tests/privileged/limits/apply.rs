//! Limits come into force as the kernel tells it, and go back byte by byte.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use persona_core::limit::Limits;
use persona_core::wire::limits::LimitState;
use persona_ctl::limits::{Gauge, LimitsConfig, Version, Wish, measure};

use super::child;
use super::group::Group;
use super::{assert_in_force, six, wears};

/// How often limits are switched to and fro while it is measured.
const SWITCH_COUNT: usize = 50;

#[test]
fn limits_are_in_the_kernel_and_go_back_byte_by_byte() {
    let Some(group) = Group::new() else { return };
    let before = group.bytes();
    let mut limited = group.limited(LimitsConfig::default());
    assert_in_force(&limited.turn(&wears(six(&group.devices))));
    let read = |controller: &str, file: &str| std::fs::read_to_string(group.folder(controller).join(file)).unwrap();
    assert_eq!(read("pids", "pids.max"), "512\n");
    match group.version() {
        Version::V2 => {
            assert_eq!(read("cpu", "cpu.max"), "50000 100000\n");
            assert_eq!(read("memory", "memory.max"), format!("{}\n", 256 << 20));
        }
        Version::V1 => {
            assert_eq!(read("cpu", "cpu.cfs_quota_us"), "50000\n");
            assert_eq!(read("memory", "memory.limit_in_bytes"), format!("{}\n", 256 << 20));
        }
    }
    let other = Limits { cpu_us_per_sec: Some(1_250_000), pids_max: Some(7), ..Limits::default() };
    assert_in_force(&limited.turn(&wears(other)));
    assert_ne!(group.bytes(), before);
    assert_eq!(limited.turn(&Wish::Nothing).state, LimitState::Unlimited);
    assert_eq!(group.bytes(), before);
}

#[test]
fn an_agent_that_starts_anew_knows_what_to_put_back() {
    let Some(group) = Group::new() else { return };
    let before = group.bytes();
    group.limited(LimitsConfig::default()).turn(&wears(six(&group.devices)));
    let held = group.bytes();
    group.limited(LimitsConfig::default()).turn(&Wish::Unknown);
    assert_eq!(group.bytes(), held, "a start changes nothing");
    let restored = persona_ctl::limits::restore_everything(group.state.path());
    assert!(restored.len() == 1 && restored[0].outcome.is_ok(), "{restored:?}");
    assert_eq!(group.bytes(), before);
}

#[test]
fn what_an_instance_uses_is_measured_and_a_quota_holds_it() {
    let Some(group) = Group::new() else { return };
    let limits = Limits { cpu_us_per_sec: Some(100_000), ..Limits::default() };
    assert_in_force(&group.limited(LimitsConfig::default()).turn(&wears(limits)));
    let mut child = child::allocator();
    group.take(child.id());
    child::go(&mut child);
    let start = Instant::now();
    let mut used = measure(&group.places).unwrap();
    while used.cpu_throttled_us.unwrap() == 0 && start.elapsed().as_secs() < 60 {
        std::thread::sleep(std::time::Duration::from_millis(50));
        used = measure(&group.places).unwrap();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    println!("{used:?}");
    assert!(used.cpu_throttled_us.unwrap() > 0 && used.memory_bytes.unwrap() > 0 && used.pid_count.unwrap() > 0);
    assert_eq!(used.oom_kill_count, Some(0));
}

#[test]
fn a_group_that_is_gone_or_made_anew_is_not_taken_for_the_one_that_is_measured() {
    let Some(group) = Group::new() else { return };
    let mut gauge = Gauge::at(&group.places);
    gauge.read().unwrap();
    let before = gauge.read().unwrap();
    assert_eq!((before.pid_count, before.memory_bytes.is_some()), (Some(0), true));
    let folders: BTreeSet<&PathBuf> = group.places.iter().map(|place| &place.folder).collect();
    folders.iter().for_each(|folder| std::fs::remove_dir(folder).unwrap());
    assert!(gauge.read().unwrap_err().is_gone());
    folders.iter().for_each(|folder| std::fs::create_dir(folder).unwrap());
    assert!(gauge.read().unwrap_err().is_gone(), "it has the same name, and is another");
    assert_eq!(Gauge::at(&group.places).read().unwrap().pid_count, Some(0));
}

/// Figures for the reader of the log; nothing is asserted about time.
#[test]
fn switching_six_limits_is_measured() {
    let Some(group) = Group::new() else { return };
    let mut limited = group.limited(LimitsConfig::default());
    // Both have the same maximum of memory: shrinking waits on purpose.
    let two =
        Limits { cpu_us_per_sec: Some(700_000), cpu_weight: Some(300), pids_max: Some(600), ..six(&group.devices) };
    limited.turn(&wears(six(&group.devices)));
    let mut times = Vec::new();
    for index in 0..SWITCH_COUNT {
        let wish = wears(if index % 2 == 0 { two.clone() } else { six(&group.devices) });
        let start = Instant::now();
        let report = limited.turn(&wish);
        times.push(start.elapsed());
        assert_in_force(&report);
    }
    times.sort();
    println!("a switch: median {:?}, slowest {:?}", times[SWITCH_COUNT / 2], times[SWITCH_COUNT - 1]);
    let start = Instant::now();
    (0..SWITCH_COUNT).for_each(|_| drop(limited.turn(&wears(six(&group.devices)))));
    println!("a turn that finds everything as it shall be: {:?}", start.elapsed() / SWITCH_COUNT as u32);
}
