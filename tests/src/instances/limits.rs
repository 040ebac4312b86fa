//! What criteria chose and what the kernel makes of it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use persona_core::wire::api::{ActivationView, WorkloadView};
use persona_core::wire::limits::{LimitReport, LimitState};

use super::DOCUMENTS;
use crate::cgroups::read_first;
use crate::ctl::patient;
use crate::findings::Findings;
use crate::world::World;

/// How long a change may take: a night begins and ends at a full minute.
const CHANGE_TIME: Duration = Duration::from_secs(90);

const MINUTES_PER_DAY: u64 = 24 * 60;

/// A minute of the day, UTC.
#[derive(Debug, Clone, Copy)]
pub(super) struct MinuteOfDay(u64);

/// Half a day from now: no window opens while it is not wanted.
pub(super) fn far_from_now() -> Result<MinuteOfDay> {
    minute_in(Duration::from_hours(12))
}

/// The first full minute that is at least so far away.
pub(super) fn minute_in(delay: Duration) -> Result<MinuteOfDay> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    Ok(MinuteOfDay((now + delay).as_secs().div_ceil(60) % MINUTES_PER_DAY))
}

/// Applies the documents with a night that begins then.
pub(super) fn apply_documents(world: &World, night: MinuteOfDay) -> Result<()> {
    let cron = format!("{} {}", night.0 % 60, night.0 / 60);
    world.apply("instances.yaml", &DOCUMENTS.replace("NIGHT", &cron))
}

/// How a subject's limits stand.
pub(super) fn report(world: &World, subject: &str) -> Result<LimitReport> {
    let view: WorkloadView = world.ctl.json(&["workload", "get", subject])?;
    view.limits.with_context(|| format!("{subject} has no limits reported"))
}

/// Waits until they stand so.
pub(super) fn wait_for(world: &World, subject: &str, is_enough: impl Fn(&LimitReport) -> bool) -> Result<LimitReport> {
    let start = Instant::now();
    loop {
        match report(world, subject) {
            Ok(report) if is_enough(&report) => return Ok(report),
            report if start.elapsed() > patient(CHANGE_TIME) => {
                let status = world.ctl.text(&["activation", "status", subject])?;
                let signals = world.ctl.text(&["signal", "list", subject])?;
                bail!("limits of {subject} after {CHANGE_TIME:?}: {report:?}\n{status}\n{signals}")
            }
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// Whether nothing limits it.
pub(super) fn is_unlimited(report: &LimitReport) -> bool {
    report.state == LimitState::Unlimited
}

/// Waits until a persona's limits are in force, and notes with which reason, and what the kernel says.
pub(super) fn note_worn(
    world: &World,
    subject: &str,
    group: &str,
    persona: &str,
    findings: &mut Findings,
) -> Result<LimitReport> {
    let before = kernel(group);
    let start = Instant::now();
    let is_worn = |report: &LimitReport| {
        let is_settled = matches!(report.state, LimitState::InForce | LimitState::Partly);
        is_settled && report.persona.as_deref().is_some_and(|worn| worn.split('@').next() == Some(persona))
    };
    let report = wait_for(world, subject, is_worn)?;
    let view: ActivationView = world.ctl.json(&["activation", "status", subject])?;
    let reason = view.reason.unwrap_or_default();
    let measured = format!("after {:.1} s: {reason}", start.elapsed().as_secs_f64());
    findings.note(format!("{subject} wears {persona}, with the reason"), measured, reason.contains(persona));
    let lacking = |field: &str| report.unsupported.contains_key(field);
    let actual = report.actual.fields();
    let is_held = report.wanted.fields().iter().all(|field| lacking(field.0) || actual.contains(field));
    findings.note(format!("the kernel holds it so (before: {before})"), kernel(group), is_held);
    Ok(report)
}

/// Processor and memory as the kernel has them.
pub(super) fn kernel(group: &str) -> String {
    let read = |controller, files: &[&str]| read_first(group, controller, files).unwrap_or_else(|_| "?".into());
    let cpu = cpu_limit(group).map_or_else(|| "all".to_owned(), |limit| format!("{limit}"));
    let memory = memory_limit_mib(group).map_or_else(|| "all".to_owned(), |limit| format!("{limit} MiB"));
    let weight = read("cpu", &["cpu.shares", "cpu.weight"]);
    format!("processors {cpu}, weight {weight}, memory {memory}, processes {}", read("pids", &["pids.max"]))
}

/// Processors that a group may use; none: all.
pub(super) fn cpu_limit(group: &str) -> Option<f64> {
    let quota = read_first(group, "cpu", &["cpu.cfs_quota_us", "cpu.max"]).ok()?;
    let quota: f64 = quota.split_whitespace().next()?.parse().ok()?;
    (quota > 0.0).then_some(quota / 100_000.0)
}

/// Memory that a group may use, MiB; none: all.
pub(super) fn memory_limit_mib(group: &str) -> Option<u64> {
    let bytes: u64 = read_first(group, "memory", &["memory.limit_in_bytes", "memory.max"]).ok()?.parse().ok()?;
    (bytes < 1 << 40).then_some(bytes >> 20)
}
