//! Names of personas by their unique ids, also of those that the store does not know.

use std::collections::BTreeMap;

use persona_core::ids::{PersonaName, Vni};
use persona_core::wire::desired::Item;

use super::Snapshot;

/// Names of personas by their unique ids.
pub(crate) struct PersonaNames(BTreeMap<Vni, PersonaName>);

impl PersonaNames {
    /// The names that documents give, and those that subjects wear.
    pub(crate) fn of(snapshot: &Snapshot, items: &[Item]) -> Self {
        let worn = items.iter().filter_map(|item| match item {
            Item::Subject(subject) => subject.network.as_ref().map(|network| (network.vni, network.persona.clone())),
            _ => None,
        });
        let documents = snapshot.documents.values();
        let known = documents.filter_map(|record| Some((record.vni?, record.name.parse().ok()?)));
        Self(worn.chain(known).collect())
    }

    /// A persona's name. One that only others know is named for its id.
    pub(crate) fn name(&self, vni: Vni) -> PersonaName {
        let unknown = || format!("vni-{}", vni.0).parse().expect("digits after a letter are a name");
        self.0.get(&vni).cloned().unwrap_or_else(unknown)
    }
}
