//! What waits when somebody sets the manager's clock: it waits as long as it was meant to, no shorter and no longer.

use persona_core::ids::{Generation, LeaseId, SubjectNumber};
use persona_core::lease::LeaseState;
use persona_core::wire::desired::LeaseSpace;

use super::{Manager, QUARANTINE_MS};
use crate::store::{LeaseRecord, SubjectRecord};

const HOUR_MS: i64 = 3_600_000;

/// What ends close after something else ends together with it.
const LOOK_MS: u64 = 50;

/// Forward, back, and by less than a rest.
const STEPS_MS: [i64; 4] = [HOUR_MS, -HOUR_MS, 200_000, -200_000];

/// Puts a lease into the store as it is in some state.
fn with_lease(state: impl FnOnce(u64) -> LeaseState) -> Manager {
    let mut manager = Manager::new();
    let state = state(manager.now_ms());
    let subject: persona_core::ids::SubjectId = "workload/n1/web".parse().unwrap();
    let lease = LeaseRecord {
        id: LeaseId(1),
        subject: subject.clone(),
        persona: "frankfurt".parse().unwrap(),
        vni: persona_core::ids::Vni(1),
        group: "fra".parse().unwrap(),
        pool: "fra".parse().unwrap(),
        space: LeaseSpace::Ports { address: [198, 51, 100, 1].into(), block_bits: 10, blocks: vec![1] },
        configured: false,
        encrypted: false,
        mtu: 1_400,
        grace_ms: Some(QUARANTINE_MS),
        quarantine_ms: QUARANTINE_MS,
        generation: Generation::default(),
        fullness: Default::default(),
        claim: Default::default(),
        state,
    };
    let record = SubjectRecord {
        subject,
        number: SubjectNumber(1),
        manual: None,
        request: None,
        requested_by: None,
        request_content: None,
        triggered: None,
        triggered_by: None,
        activation: None,
        alerts: Default::default(),
        sections: Default::default(),
        target: None,
        unassigned: None,
        planned: None,
        item: None,
    };
    manager
        .change(|draft| {
            draft.put(record);
            draft.grant_lease(lease);
            Ok(())
        })
        .unwrap();
    manager
}

fn resting() -> Manager {
    with_lease(|now_ms| LeaseState::Quarantine { free_at_ms: now_ms + QUARANTINE_MS })
}

/// The state of the lease once so much has passed.
fn state_after(manager: &mut Manager, ms: u64) -> Option<LeaseState> {
    manager.advance(ms);
    manager.change(|_| Ok(())).unwrap();
    manager.snapshot.leases.get(&LeaseId(1)).map(|lease| lease.state)
}

#[test]
fn a_rest_lasts_as_long_as_it_was_meant() {
    for step_ms in STEPS_MS {
        let mut manager = resting();
        assert!(state_after(&mut manager, 100_000).is_some());
        manager.set_clock(step_ms);
        assert!(state_after(&mut manager, QUARANTINE_MS - 100_001).is_some(), "{step_ms}: free too early");
        assert_eq!(state_after(&mut manager, LOOK_MS), None, "{step_ms}: not free in time");
    }
}

#[test]
fn a_clock_that_is_set_while_no_manager_runs_frees_nothing_early_and_keeps_nothing_for_hours() {
    for step_ms in STEPS_MS {
        let mut manager = resting();
        manager.advance(100_000);
        manager.set_clock(step_ms);
        manager.start();
        assert!(state_after(&mut manager, QUARANTINE_MS - 1).is_some(), "{step_ms}: nobody knows that it rested");
        assert_eq!(state_after(&mut manager, LOOK_MS), None, "{step_ms}: it rested anew");
    }
}

#[test]
fn a_grace_lasts_as_long_as_it_was_meant() {
    for step_ms in STEPS_MS {
        let since = Generation::default();
        let mut manager = with_lease(|now_ms| LeaseState::Retiring { since, cut_at_ms: Some(now_ms + QUARANTINE_MS) });
        manager.set_clock(step_ms);
        let state = state_after(&mut manager, QUARANTINE_MS - 1).unwrap();
        assert!(matches!(state, LeaseState::Retiring { .. }), "{step_ms}: cut too early: {state:?}");
        let state = state_after(&mut manager, LOOK_MS).unwrap();
        assert!(!matches!(state, LeaseState::Retiring { .. }), "{step_ms}: not cut in time: {state:?}");
    }
}
