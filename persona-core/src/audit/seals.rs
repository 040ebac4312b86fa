//! Whether the chain is what was signed, and whether what should be signed by now is.

use super::report::{Finding, FindingKind, events};
use super::walk::{Role, Row, State};
use super::{AuditSeal, SealPurpose};

/// While a manager runs, what happens is signed within a minute; a clock that was just set looks like more.
const UNSEALED_MS_MAX: u64 = 10 * 60_000;

/// What was found of the seals.
#[derive(Default)]
pub(super) struct Sealed {
    /// How many are right.
    pub(super) count: u64,
    /// The newest event that a right one vouches for.
    pub(super) to: Option<u64>,
    pub(super) findings: Vec<Finding>,
}

/// Checks seals, each with the number of the event that holds it. What is up to `start` is not here any more.
pub(super) fn check(
    rows: &[Row],
    seals: &[(u64, Option<AuditSeal>)],
    start: u64,
    is_signed: &impl Fn(&AuditSeal, SealPurpose) -> bool,
) -> Sealed {
    let mut sealed = Sealed::default();
    for (at, seal) in seals {
        let Some(seal) = seal.as_ref().filter(|seal| is_signed(seal, SealPurpose::Head)) else {
            let detail = "the signature in this event is by nothing that is trusted";
            sealed.findings.push(Finding::new(FindingKind::Signature, (*at, *at), detail));
            continue;
        };
        if seal.number <= start {
            continue;
        }
        if is_there(rows, seal) {
            sealed.count += 1;
            sealed.to = sealed.to.max(Some(seal.number));
            continue;
        }
        let range = (sealed.to.unwrap_or(start) + 1, seal.number);
        let detail = format!("event {at} has a signature over another chain: {} were changed since", events(range));
        sealed.findings.push(Finding::new(FindingKind::Rewritten, range, detail));
    }
    sealed.findings.extend(unsealed(rows, sealed.to.unwrap_or(start)));
    sealed
}

/// Whether the event is there that was signed, if under another number, or one that follows it.
fn is_there(rows: &[Row], seal: &AuditSeal) -> bool {
    let next = rows.get(rows.partition_point(|row| row.number <= seal.number));
    find(rows, seal.number).is_some_and(|row| row.link == seal.hash)
        || next.is_some_and(|next| next.previous == Some(seal.hash))
        || rows.iter().any(|row| row.state == State::Moved(seal.number) && row.link == seal.hash)
}

/// The row of a number.
pub(super) fn find(rows: &[Row], number: u64) -> Option<&Row> {
    rows.binary_search_by_key(&number, |row| row.number).ok().map(|index| &rows[index])
}

/// What the process that wrote last has left unsigned for too long.
fn unsealed(rows: &[Row], sealed_to: u64) -> Option<Finding> {
    let begun = rows.iter().rposition(|row| matches!(row.role, Role::Begun(_)))?;
    let is_waiting = |row: &&Row| row.number > sealed_to && row.role != Role::Seal;
    let (first, last) = (rows[begun..].iter().find(is_waiting)?, rows.last()?);
    (last.time_ms.saturating_sub(first.time_ms) > UNSEALED_MS_MAX).then(|| {
        let detail = "not signed, although what follows is minutes younger (if a clock was just set, look again)";
        Finding::new(FindingKind::Unsealed, (first.number, last.number), detail)
    })
}
