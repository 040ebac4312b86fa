//! What people see of a rollout.

use persona_core::rollout::wave_count;
use persona_core::wire::rollouts::{RolloutView, WaveView};

use super::watch::Watches;
use crate::store::{RolloutRecord, Snapshot};

/// Subjects of those moved that a view names.
const NAMED_COUNT_MAX: usize = 20;

/// A rollout as it stands.
pub(crate) fn view_of(snapshot: &Snapshot, watches: &Watches, record: &RolloutRecord) -> RolloutView {
    let seen = watches.seen(&record.name);
    let wave = |share: &persona_core::units::Share| WaveView {
        share: *share,
        subjects: wave_count(*share, record.member_count),
    };
    let mut moved: Vec<_> = snapshot.members_of(&record.name).filter(|member| member.moved.is_some()).collect();
    moved.sort_by_key(|member| member.position);
    RolloutView {
        name: record.name.clone(),
        change: record.change.clone(),
        spec: record.spec.clone(),
        phase: record.progress.phase,
        wave: record.progress.wave,
        waves: record.spec.waves.iter().map(wave).collect(),
        members: record.member_count,
        moved: record.moved_count,
        behind: seen.map_or(0, |seen| seen.behind_count),
        moved_subjects: moved.into_iter().take(NAMED_COUNT_MAX).map(|member| member.subject.clone()).collect(),
        reason: record.progress.reason.clone(),
        waiting: record.waiting.clone(),
        watched_ms: seen.map(|seen| seen.watched_ms),
        health: seen.map(|seen| seen.health),
        started_by: record.started_by.clone(),
        started_ms: record.started_ms,
        changed_ms: record.changed_ms,
    }
}
