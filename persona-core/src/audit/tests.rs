//! Chains that somebody tampered with, and what is said of each.

use super::FindingKind::{Altered, Bare, Diverged, Inserted, Moved, Removed, Rewritten, Signature, Unsealed};
use super::*;

/// A signature that anybody could make: what is signed, as hex of its hash.
fn sign(seal: &mut AuditSeal, purpose: SealPurpose) {
    seal.signature = format!("signed {:?}", EventHash(sha(&seal.statement(purpose))));
}

fn sha(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).into()
}

fn is_signed(seal: &AuditSeal, purpose: SealPurpose) -> bool {
    let mut again = seal.clone();
    sign(&mut again, purpose);
    again.signature == seal.signature
}

fn seal_of(entry: &AuditEntry, purpose: SealPurpose) -> AuditSeal {
    let (number, hash) = (entry.number, entry.hash.unwrap());
    let mut seal = AuditSeal { number, hash, time_ms: 1, root: "r".into(), signature: String::new() };
    sign(&mut seal, purpose);
    seal
}

/// A store: event 1 begins, each event whose number ends with 0 signs what was before it.
fn chain(count: u64) -> Vec<AuditEntry> {
    let mut rows: Vec<AuditEntry> = Vec::new();
    for number in 1..=count {
        let (name, details) = match number {
            1 => (BEGUN_EVENT, r#"{"process":"p","release":"1","unchained":0}"#.to_owned()),
            _ if number % 10 == 0 => {
                let seal = seal_of(&rows[number as usize - 2], SealPurpose::Head);
                (SEALED_EVENT, serde_json::to_string(&seal).unwrap())
            }
            _ => ("x.happened", format!("{{\"n\":{number}}}")),
        };
        push(&mut rows, number, name, details);
    }
    rows
}

fn push(rows: &mut Vec<AuditEntry>, number: u64, name: &str, details: String) {
    let previous = rows.last().map_or(EventHash::GENESIS, |last| last.hash.unwrap());
    let (about, actor, message) = ("it".into(), "test".into(), "it did".into());
    let mut entry = AuditEntry {
        number,
        time_ms: number % 1_000 * 1_000,
        name: name.into(),
        about,
        actor,
        message,
        details,
        previous: None,
        hash: None,
    };
    entry.link(previous);
    rows.push(entry);
}

fn report(rows: &[AuditEntry], stub: Option<AuditSeal>, kept: &[Exported]) -> AuditReport {
    let mut walk = Walk::new(stub, is_signed);
    rows.iter().for_each(|row| walk.take(row));
    walk.finish(kept)
}

fn found(rows: &[AuditEntry]) -> Vec<(FindingKind, u64, u64)> {
    report(rows, None, &[]).findings.iter().map(|it| (it.kind, it.first, it.last)).collect()
}

/// Hashes everything from an index on anew, as somebody does who knows how.
fn rehash(rows: &mut [AuditEntry], from: usize) {
    for index in from..rows.len() {
        let previous = index.checked_sub(1).map_or(EventHash::GENESIS, |it| rows[it].hash.unwrap());
        rows[index].link(previous);
    }
}

#[test]
fn a_chain_that_nobody_touched_is_whole() {
    let rows = chain(45);
    let report = report(&rows, None, &[]);
    assert!(report.is_whole(), "{report:?}");
    assert_eq!((report.entry_count, report.first, report.last), (45, Some(1), Some(45)));
    assert_eq!((report.process_count, report.seal_count, report.sealed_to), (1, 4, Some(39)));
    assert!(self::report(&[], None, &[]).is_whole());
}

#[test]
fn what_was_done_to_which_event_is_said() {
    type Tamper = fn(&mut Vec<AuditEntry>);
    type Found = &'static [(FindingKind, u64, u64)];
    let cases: [(&str, Tamper, Found); 17] = [
        ("a text", |rows| rows[11].message = "other".into(), &[(Altered, 12, 12)]),
        ("the first text", |rows| rows[0].actor = "other".into(), &[(Altered, 1, 1)]),
        (
            "two texts",
            |rows| (rows[11].time_ms, rows[14].about) = (7, "x".into()),
            &[(Altered, 12, 12), (Altered, 15, 15)],
        ),
        ("a hash", |rows| rows[11].hash = Some(EventHash([7; 32])), &[(Altered, 12, 12)]),
        ("a link", |rows| rows[11].previous = Some(EventHash([7; 32])), &[(Altered, 12, 12)]),
        (
            "text and hash",
            |rows| {
                rows[11].message = "x".into();
                rehash(&mut rows[..12], 11)
            },
            &[(Rewritten, 12, 12)],
        ),
        ("one is gone", |rows| drop(rows.remove(11)), &[(Removed, 12, 12)]),
        ("a signed one is gone", |rows| drop(rows.remove(18)), &[(Removed, 19, 19)]),
        ("several are gone", |rows| drop(rows.drain(11..14)), &[(Removed, 12, 14)]),
        ("the oldest are gone", |rows| drop(rows.drain(..3)), &[(Removed, 1, 3)]),
        (
            "one is gone, numbers closed",
            |rows| {
                rows.remove(11);
                rows[11..].iter_mut().for_each(|row| row.number -= 1);
            },
            &[(Removed, 12, 12), (Moved, 12, 44)],
        ),
        (
            "one is put in",
            |rows| {
                let mut other = rows[11].clone();
                other.message = "other".into();
                other.link(rows[10].hash.unwrap());
                rows[11..].iter_mut().for_each(|row| row.number += 1);
                rows.insert(11, other);
            },
            &[(Inserted, 12, 12), (Moved, 13, 46)],
        ),
        (
            "two change places",
            |rows| {
                rows.swap(11, 12);
                (rows[11].number, rows[12].number) = (12, 13);
            },
            &[(Moved, 12, 12), (Moved, 13, 13)],
        ),
        (
            "two far apart change places",
            |rows| {
                rows.swap(11, 31);
                (rows[11].number, rows[31].number) = (12, 32);
            },
            &[(Moved, 12, 12), (Moved, 32, 32)],
        ),
        (
            "hashes are taken out",
            |rows| {
                rows[11..13].iter_mut().for_each(|row| (row.previous, row.hash) = (None, None));
            },
            &[(Bare, 12, 13)],
        ),
        (
            "everything after it is hashed anew",
            |rows| {
                rows[11].message = "x".into();
                rehash(rows, 11);
            },
            &[(Rewritten, 10, 19), (Rewritten, 10, 29), (Rewritten, 10, 39)],
        ),
        (
            "a signature",
            |rows| {
                rows[19].details = rows[19].details.replace("signed", "forged");
                rehash(rows, 19);
            },
            &[(Rewritten, 10, 29), (Rewritten, 10, 39), (Signature, 20, 20)],
        ),
    ];
    for (what, tamper, expected) in cases {
        let mut rows = chain(45);
        tamper(&mut rows);
        assert_eq!(found(&rows), expected, "{what}");
    }
}

#[test]
fn what_is_put_into_a_gap_of_numbers_is_found() {
    let mut rows = chain(5);
    push(&mut rows, 1 << 32, "recovery.begun", "{}".into());
    push(&mut rows, (1 << 32) + 1, "x.happened", "{}".into());
    assert_eq!(found(&rows), [], "a store that went back leaves numbers out");
    let mut put_in = rows.clone();
    let mut other = rows[4].clone();
    other.number = 77;
    other.link(rows[4].hash.unwrap());
    put_in.insert(5, other.clone());
    assert_eq!(found(&put_in), [(Inserted, 77, 77)]);
    put_in[5].link(EventHash([3; 32]));
    assert_eq!(found(&put_in), [(Inserted, 77, 77)]);
}

#[test]
fn a_copy_of_an_event_is_what_was_put_in() {
    let mut rows = chain(9);
    let copy = AuditEntry { number: 6, ..rows[2].clone() };
    rows[5..].iter_mut().for_each(|row| row.number += 1);
    rows.insert(5, copy);
    assert_eq!(found(&rows), [(Inserted, 6, 6), (Moved, 7, 10)]);
}

#[test]
fn events_from_before_the_chain_are_named_and_held_together() {
    let mut rows = chain(4);
    rows.iter_mut().for_each(|row| (row.previous, row.hash, row.name) = (None, None, "old.event".into()));
    let fold = rows.iter().fold(EventHash::GENESIS, |before, row| row.hash_after(before));
    assert_eq!(report(&rows, None, &[]).unchained_count, 4, "no manager has begun a chain yet");
    let mut begun = AuditEntry { number: 5, name: BEGUN_EVENT.into(), ..rows[3].clone() };
    begun.details = r#"{"process":"p","release":"1","unchained":4}"#.into();
    begun.link(fold);
    rows.push(begun);
    push(&mut rows, 6, "x.happened", "{}".into());
    let whole = report(&rows, None, &[]);
    assert!(whole.is_whole() && whole.notes[0].starts_with("events 1 to 4"), "{whole:?}");
    let mut altered = rows.clone();
    altered[2].message = "x".into();
    assert_eq!(found(&altered), [(Altered, 1, 4)]);
    rows.remove(1);
    assert_eq!(found(&rows), [(Altered, 1, 4)]);
}

#[test]
fn what_was_dropped_for_its_age_is_signed_for() {
    let rows = chain(45);
    let stub = seal_of(&rows[24], SealPurpose::Stub);
    let pruned = report(&rows[25..], Some(stub.clone()), &[]);
    assert!(pruned.is_whole() && pruned.pruned_to == Some(25), "{pruned:?}");
    let findings = |rows: &[AuditEntry], stub: AuditSeal| report(rows, Some(stub), &[]).findings;
    assert_eq!(findings(&rows[26..], stub.clone())[0].kind, Removed);
    assert_eq!(findings(&rows[25..], seal_of(&rows[24], SealPurpose::Head))[0].kind, Signature, "a head is no stub");
    let older = seal_of(&rows[14], SealPurpose::Stub);
    assert_eq!((findings(&rows[25..], older.clone())[0].kind, findings(&rows[25..], older)[0].first), (Removed, 16));
}

#[test]
fn what_is_left_unsigned_is_found() {
    let mut rows = chain(12);
    rows[11].time_ms += 3_600_000;
    rehash(&mut rows, 11);
    assert_eq!(found(&rows), [(Unsealed, 11, 12)]);
    let mut quiet = chain(10);
    push(&mut quiet, 11, "x.happened", "{}".into());
    quiet[10].time_ms += 3_600_000;
    rehash(&mut quiet, 10);
    assert_eq!(found(&quiet), [], "nothing happened between a signature and what follows it");
}

#[test]
fn a_chain_rewritten_as_a_whole_is_found_by_what_was_kept_elsewhere() {
    let rows = chain(45);
    let entries = rows[4..40].iter().map(|row| (row.number, row.hash.unwrap())).collect();
    let kept = Exported { name: "a checkpoint".into(), checkpoint: seal_of(&rows[39], SealPurpose::Head), entries };
    let alone = Exported { entries: Vec::new(), ..kept.clone() };
    assert!(report(&rows, None, &[kept.clone(), alone.clone()]).is_whole());
    let kinds = |rows: &[AuditEntry], kept: &Exported| {
        let findings = report(rows, None, std::slice::from_ref(kept)).findings;
        findings.into_iter().map(|it| (it.kind, it.first, it.last)).collect::<Vec<_>>()
    };
    // Somebody without the key leaves the signed events out.
    let mut rewritten: Vec<AuditEntry> = Vec::new();
    for row in rows.iter().filter(|row| row.number == 1 || row.name != SEALED_EVENT) {
        let text = if row.number == 12 { "{\"n\":\"other\"}".into() } else { row.details.clone() };
        let number = rewritten.len() as u64 + 1;
        push(&mut rewritten, number, &row.name, text);
    }
    assert_eq!(found(&rewritten), []);
    assert_eq!(kinds(&rewritten, &kept), [(Diverged, 10, 40)]);
    assert_eq!(kinds(&rewritten, &alone), [(Diverged, 40, 40)]);
    assert_eq!(kinds(&rows[..20], &alone), [(Diverged, 21, 40)], "the end is gone");
    let mut forged = alone.clone();
    forged.checkpoint.hash = EventHash([1; 32]);
    assert_eq!(kinds(&rows, &forged), [(Signature, 40, 40)]);
}
