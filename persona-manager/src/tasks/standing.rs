//! Who stands where under policies: the ledger of what subjects hold, as a draft has them.

use std::collections::BTreeMap;

use persona_core::assign::{Labels, Ledger, Seat, Spread};
use persona_core::ids::PersonaName;
use persona_core::wire::planning::PlanMode;

use super::assignment::subjects_of;
use super::wear::{Personas, bindings_of, labels_of};
use crate::planning::settings_of;
use crate::store::{NetworkTarget, Snapshot};

/// What subjects hold, in the versions of personas in force.
pub(super) fn ledger_of(snapshot: &Snapshot) -> Ledger {
    let settings = settings_of(snapshot);
    let spread = match settings.mode {
        PlanMode::Advise => Spread::Group,
        PlanMode::Steer => Spread::Edge,
    };
    let mut ledger = Ledger::new(settings.policies, spread);
    let guarantees = snapshot.personas().map(|it| (&it.document.metadata.name, it.document.spec.guaranteed_bps()));
    let guarantees: BTreeMap<&PersonaName, u64> = guarantees.filter(|(_, bps)| *bps > 0).collect();
    let counts_labels = ledger.counts_labels();
    if counts_labels {
        let selected = subjects_of(snapshot).into_iter().filter(|subject| !bindings_of(snapshot, subject).is_empty());
        selected.for_each(|subject| ledger.expect(&labels_of(snapshot, &subject).bound));
    }
    if guarantees.is_empty() && !counts_labels {
        return ledger;
    }
    for record in snapshot.subjects.values() {
        let Some(target) = &record.target else { continue };
        let guaranteed_bps = guarantees.get(&target.persona).copied().unwrap_or(0);
        let labels = if counts_labels { labels_of(snapshot, &record.subject).bound } else { Labels::new() };
        ledger.seat(&record.subject, &labels, seat_of(snapshot, target, guaranteed_bps));
    }
    ledger
}

/// What a subject holds of the group of its leases.
pub(super) fn seat(snapshot: &Snapshot, personas: &Personas<'_>, target: &NetworkTarget) -> Option<Seat> {
    let (_, persona) = personas.get(&target.persona)?;
    seat_of(snapshot, target, persona.spec.guaranteed_bps())
}

fn seat_of(snapshot: &Snapshot, target: &NetworkTarget, guaranteed_bps: u64) -> Option<Seat> {
    let lease = target.leases().next().and_then(|id| snapshot.leases.get(&id))?;
    Some(Seat { group: lease.group.clone(), guaranteed_bps })
}
