//! A chain beside what was kept elsewhere of it: a chain that was rewritten as a whole is found by nothing else.

use super::report::{Finding, FindingKind};
use super::walk::{Role, Row};
use super::{AuditSeal, EventHash, SealPurpose, seals};

/// What was kept elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// What messages call it.
    pub name: String,
    /// What was signed when it was made.
    pub checkpoint: AuditSeal,
    /// Events that were kept with it, ascending: number and hash.
    pub entries: Vec<(u64, EventHash)>,
}

/// Compares rows after event `start` with what was kept.
pub(super) fn compare(
    rows: &[Row],
    start: u64,
    kept: &Exported,
    is_signed: &impl Fn(&AuditSeal, SealPurpose) -> bool,
    findings: &mut Vec<Finding>,
    notes: &mut Vec<String>,
) {
    let Exported { name, checkpoint, entries } = kept;
    let number = checkpoint.number;
    if !is_signed(checkpoint, SealPurpose::Head) {
        let detail = format!("the signature of {name} is by nothing that is trusted");
        return findings.push(Finding::new(FindingKind::Signature, (number, number), detail));
    }
    let is_other = |(number, hash): &&(u64, EventHash)| {
        *number > start && seals::find(rows, *number).is_none_or(|row| row.link != *hash)
    };
    let signed = (number, checkpoint.hash);
    let other = entries.iter().find(is_other).or(Some(&signed).filter(is_other));
    let last = rows.last().map_or(start, |row| row.number);
    match other {
        Some(_) if last < number => {
            let detail = format!("they are in {name} and not here: the chain ends at event {last}");
            findings.push(Finding::new(FindingKind::Diverged, (last + 1, number), with_restore(rows, detail)));
        }
        Some((first, _)) => {
            let detail = format!("not what {name} says: the chain was rewritten, here or before");
            findings.push(Finding::new(FindingKind::Diverged, (*first, number), with_restore(rows, detail)));
        }
        None if number <= start => {
            notes.push(format!("{name} is of event {number}, which was dropped for its age since"));
        }
        None => notes.push(format!("the chain goes on from {name}, event {number}")),
    }
}

/// A store that went back to a backup goes on from there, and says so.
fn with_restore(rows: &[Row], detail: String) -> String {
    match rows.iter().rfind(|row| row.role == Role::Restored) {
        Some(row) => format!("{detail} (the store went back to a backup at event {}: was that you?)", row.number),
        None => detail,
    }
}
