//! The guest: its processor is busy, and it gives memory back until it no longer is.

use std::time::Duration;

use anyhow::{Context, Result};

use super::Instances;
use super::limits::{is_unlimited, note_worn, wait_for};
use crate::cgroups::{differences, limit_files};
use crate::findings::Findings;
use crate::peers::guest::Guest;
use crate::world::World;

/// The guest, as the manager knows it.
pub(super) const SUBJECT: &str = "workload/n1/v1";

/// How long a command in the guest may take on a busy machine.
const COMMAND_TIME: Duration = Duration::from_secs(90);

/// How long its load lasts, seconds of its clock.
const LOAD_SECS: u32 = 25;

/// It must have lost most of the 64 MiB that its persona takes.
const SHRUNK_KIB_MIN: u64 = 56 << 10;

/// Its processor is busy: QEMU's group, the balloon and the disk are held, and then everything is as before.
pub(super) fn under_load(world: &World, instances: &mut Instances, findings: &mut Findings) -> Result<()> {
    let files = limit_files(&instances.guest_group)?;
    let before = memory_kib(&mut instances.guest)?;
    let burn = format!("timeout -s KILL {LOAD_SECS} sh -c 'while :; do :; done' > /dev/null 2>&1 &");
    instances.guest.run(&burn, COMMAND_TIME)?;
    let report = note_worn(world, SUBJECT, &instances.guest_group, "busy-guest", findings)?;
    let now = memory_kib(&mut instances.guest)?;
    let shrunk = before.saturating_sub(now) >= SHRUNK_KIB_MIN;
    findings.note("the guest itself sees less memory", format!("{before} KiB, then {now} KiB"), shrunk);
    let throttled = report.actual.read_bytes_per_sec;
    findings.note("QEMU throttles its disk", format!("{throttled:?} bytes/s"), throttled == Some(10 << 20));
    wait_for(world, SUBJECT, is_unlimited)?;
    let after = memory_kib(&mut instances.guest)?;
    findings.note("its load is over: it has all of it again", format!("{after} KiB"), after == before);
    let same = limit_files(&instances.guest_group)?;
    findings.note("and every file of QEMU's group is as it was", differences(&files, &same), files == same);
    Ok(())
}

fn memory_kib(guest: &mut Guest) -> Result<u64> {
    let text = guest.run("grep MemTotal /proc/meminfo", COMMAND_TIME)?;
    let word = text.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    word.with_context(|| format!("{text:?} is no size"))
}
