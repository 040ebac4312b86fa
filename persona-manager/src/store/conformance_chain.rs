//! What every backend must do for the chain of events: keep it to the byte, and let it be checked.

use persona_core::audit::{EventHash, FindingKind, SEALED_EVENT, SealPurpose};
use serde_json::json;

use super::conformance::Place;
use super::*;
use crate::authority::{Root, SealKeys};

/// Commits events in several transactions, as a process that begins to write.
fn write_chain(backend: &mut dyn Backend, count: u64) -> Snapshot {
    let mut state = backend.load().unwrap();
    for revision in 1..=count {
        let mut draft = Draft::new(&state, 1_000 * revision);
        if revision == 1 {
            draft.begin_events("p1", EventHash::GENESIS, 0);
        }
        draft.event(
            "x.happened",
            "a\0b",
            "test",
            format!("Größe ' {revision}"),
            json!({ "half": 0.1 + 0.2, "n": revision }),
        );
        let (next, writes, events) = draft.finish();
        backend.commit(next.revision, &writes, &events).unwrap();
        state = next;
    }
    state
}

pub(super) fn what_was_done_to_stored_events_is_found(place: &dyn Place) {
    let mut backend = place.open();
    write_chain(backend.as_mut(), 9);
    drop(backend);
    let found = || -> Vec<(FindingKind, u64, u64)> {
        let report = verify_audit(&place.config(), &SealKeys::default(), &[]).unwrap();
        assert_eq!(report.process_count, 1);
        report.findings.iter().map(|it| (it.kind, it.first, it.last)).collect()
    };
    assert_eq!(found(), []);
    place.tamper("CREATE TABLE saved AS SELECT * FROM events");
    let swap = "UPDATE events SET number = 99 WHERE number = 4; UPDATE events SET number = 4 WHERE number = 5;
        UPDATE events SET number = 5 WHERE number = 99";
    let insert = "UPDATE events SET number = -number WHERE number >= 6; UPDATE events SET number = 1 - number WHERE number < 0;
        INSERT INTO events SELECT 6, time_ms, name, about, actor, message, details, previous, hash FROM events WHERE number = 3";
    type Found = &'static [(FindingKind, u64, u64)];
    let cases: [(&str, Found); 8] = [
        ("UPDATE events SET actor = 'somebody' WHERE number = 4", &[(FindingKind::Altered, 4, 4)]),
        ("UPDATE events SET details = '{\"n\": 3}' WHERE number = 4", &[(FindingKind::Altered, 4, 4)]),
        ("UPDATE events SET time_ms = time_ms + 1 WHERE number = 1", &[(FindingKind::Altered, 1, 1)]),
        ("DELETE FROM events WHERE number IN (4, 5)", &[(FindingKind::Removed, 4, 5)]),
        ("DELETE FROM events WHERE number <= 3", &[(FindingKind::Removed, 1, 3)]),
        (swap, &[(FindingKind::Moved, 4, 4), (FindingKind::Moved, 5, 5)]),
        (insert, &[(FindingKind::Inserted, 6, 6), (FindingKind::Moved, 7, 11)]),
        ("UPDATE events SET hash = NULL, previous = NULL WHERE number = 4", &[(FindingKind::Bare, 4, 4)]),
    ];
    for (statements, expected) in cases {
        place.tamper(statements);
        let report = verify_audit(&place.config(), &SealKeys::default(), &[]).unwrap();
        let found: Vec<_> = report.findings.iter().map(|it| (it.kind, it.first, it.last)).collect();
        assert_eq!(found, expected, "{statements}");
        place.tamper("DELETE FROM events; INSERT INTO events SELECT * FROM saved");
    }
    place.tamper("DROP TABLE saved");
    assert_eq!(found(), []);
}

pub(super) fn dropped_events_are_signed_for(place: &dyn Place) {
    let mut backend = place.open();
    let state = write_chain(backend.as_mut(), 9);
    let few = Kept { count: 8, slack: 2 };
    assert_eq!(audit::drop_point(backend.as_mut(), &state, few).unwrap(), None);
    let kept = Kept { count: 4, slack: 2 };
    let (number, hash) = audit::drop_point(backend.as_mut(), &state, kept).unwrap().unwrap();
    assert_eq!((number, state.event_last), (6, 10));
    let root = Root::make(1_790_000_000_000).unwrap();
    let mut draft = Draft::new(&state, 1);
    draft.drop_events(root.seal((number, hash), SealPurpose::Stub, 1).unwrap());
    let seal = root.seal((10, state.event_head.unwrap()), SealPurpose::Head, 1).unwrap();
    draft.event(SEALED_EVENT, "root", "manager", "signed".into(), serde_json::to_value(seal).unwrap());
    let (next, writes, events) = draft.finish();
    backend.commit(next.revision, &writes, &events).unwrap();
    let left: Vec<u64> = backend.events_after(0, 99).unwrap().iter().map(|event| event.number).collect();
    assert_eq!(left, [7, 8, 9, 10, 11]);
    drop(backend);
    let verify = |keys: &SealKeys| verify_audit(&place.config(), keys, &[]).unwrap();
    let report = verify(&SealKeys::read(&root.certificate).unwrap());
    assert!(report.is_whole(), "{report:?}");
    assert_eq!((report.pruned_to, report.sealed_to, report.entry_count), (Some(6), Some(10), 5));
    let kinds: Vec<_> = verify(&SealKeys::default()).findings.iter().map(|it| it.kind).collect();
    assert_eq!(kinds, [FindingKind::Signature, FindingKind::Signature], "by a root that is not trusted");
}
