//! A change that concerns everybody, made by passes that take a few at a time, and managers that die in between.

use serde_json::json;

use super::fleet::Fleet;
use super::ledger::Ledger;
use super::{Dice, Manager, documents};
use crate::documents::{self as store, Conflicts};
use persona_core::document::Document;

/// What a pass may take: a change or two.
const BUDGET: usize = 9;

/// Workloads of each of four nodes.
const WORKLOAD_COUNT: usize = 4;

/// What everybody is to wear next.
fn change() -> Document {
    let egress = json!({ "pools": ["fra"], "portsPerSubject": 4096 });
    let document = json!({ "apiVersion": "persona/v1", "kind": "Persona", "metadata": { "name": "frankfurt" },
        "spec": { "network": { "egress": egress } } });
    Document::from_json(document).unwrap()
}

fn apply(manager: &mut Manager, documents: &[Document]) {
    let reports = manager.assigner.reports();
    manager.change(|draft| store::apply(draft, &reports, documents, Conflicts::Override)).unwrap();
}

/// How many subjects wear `frankfurt` in a version.
fn wearers(manager: &Manager, version: u32) -> usize {
    let targets = manager.snapshot.subjects.values().filter_map(|record| record.target.as_ref());
    targets.filter(|target| target.persona.as_str() == "frankfurt" && target.version == version).count()
}

#[test]
fn whatever_a_manager_has_done_of_a_change_when_it_dies_the_next_one_does_the_rest() {
    let (mut pass_count, mut partial_count) = (0, 0);
    loop {
        let (mut dice, mut ledger) = (Dice(7), Ledger::default());
        let mut manager = Manager::with_budget(BUDGET);
        apply(&mut manager, &documents());
        let mut fleet = Fleet::join(&mut manager, 4, 2);
        fleet.host(WORKLOAD_COUNT);
        let mut talk = |manager: &mut Manager, fleet: &mut Fleet, ledger: &mut Ledger| {
            for _ in 0..20 {
                manager.advance(1_000);
                fleet.talk(manager, &mut dice);
                ledger.watch(fleet, &manager.snapshot, manager.elapsed_ms());
            }
            manager.settle();
        };
        talk(&mut manager, &mut fleet, &mut ledger);
        let all = 4 * WORKLOAD_COUNT;
        assert_eq!((wearers(&manager, 1), wearers(&manager, 2)), (all, 0));
        apply(&mut manager, &[change()]);
        for _ in 0..pass_count {
            // Whatever has been decided is in force as a whole, and the rest is as it was.
            manager.change(|_| Ok(())).unwrap();
            ledger.watch(&fleet, &manager.snapshot, manager.elapsed_ms());
            assert_eq!(wearers(&manager, 1) + wearers(&manager, 2), all);
        }
        let (is_through, done) = (manager.assigner.has_decided_all(), wearers(&manager, 2));
        partial_count += u32::from(done > 0 && done < all);
        manager.start();
        assert!(wearers(&manager, 2) >= done, "what was stored is there");
        talk(&mut manager, &mut fleet, &mut ledger);
        assert_eq!((wearers(&manager, 1), wearers(&manager, 2)), (0, all), "after {pass_count} passes");
        if is_through {
            break;
        }
        pass_count += 1;
    }
    assert!(partial_count > 5, "one pass has done it all: {partial_count}");
}
