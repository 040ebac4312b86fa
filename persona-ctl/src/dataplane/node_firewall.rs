//! Firewall rules in the maps: sets of rows, each once however many subjects wear it, and every subject's reference to one.
//!
//! A set's rows are there before its cell, its cell before a reference, and the reference before the subject's flags name its
//! generation, so that a process that dies in between has left what was before, or what is wanted. A set is never changed: other
//! rules are another set.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use persona_common::firewall::{FirewallService, FirewallSet, SubjectFirewall};
use persona_common::maps::{FIREWALL_REMOTE_COUNT_MAX, FIREWALL_SERVICE_COUNT_MAX, FIREWALL_SET_COUNT_MAX};
use persona_common::node::{SUBJECT_GENERATION_SHIFT, SUBJECT_HAS_FIREWALL, Subject};
use persona_core::firewall::CompiledRules;
use persona_core::ids::SubjectNumber;
use persona_core::units::Cidr;

use super::error::DataplaneError;
use super::maps::{PrefixSet, scoped};
use super::node::NodeDataplane;
use super::node_apply::full;
use super::tables::NodeTables;

/// Every set of rules that tables name, by its key, and who wears which.
pub(super) struct Firewalls {
    sets: BTreeMap<u64, CompiledRules>,
    worn: BTreeMap<SubjectNumber, u64>,
}

impl Firewalls {
    /// Makes rows of all rules. Fails where they do not fit, before anything is written.
    pub(super) fn of(tables: &NodeTables) -> Result<Self, DataplaneError> {
        let (mut keys, mut sets, mut worn) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for subject in tables.subjects.iter().filter(|subject| !subject.firewall.is_empty()) {
            let rules = &subject.firewall;
            let key = *keys.entry(rules).or_insert_with(|| CompiledRules::key(rules));
            if let Entry::Vacant(free) = sets.entry(key) {
                let refused = |error| DataplaneError::Invalid(format!("subject {}: {error}", subject.number));
                free.insert(CompiledRules::of(rules).map_err(refused)?);
            }
            worn.insert(subject.number, key);
        }
        let rows = |count: fn(&CompiledRules) -> usize| sets.values().map(count).sum::<usize>();
        for (what, count, most) in [
            ("sets of firewall rules", sets.len(), FIREWALL_SET_COUNT_MAX),
            ("ranges in firewall rules", rows(|set| set.remotes.len()), FIREWALL_REMOTE_COUNT_MAX),
            ("ports in firewall rules", rows(|set| set.services.len()), FIREWALL_SERVICE_COUNT_MAX),
        ] {
            // While one state follows another, the rows of both are there.
            if count * 2 > most as usize {
                let half = most / 2;
                return Err(DataplaneError::Invalid(format!("{count} different {what}: at most {half} on a node")));
            }
        }
        Ok(Self { sets, worn })
    }

    /// The set that a subject wears.
    pub(super) fn key_of(&self, subject: SubjectNumber) -> Option<u64> {
        self.worn.get(&subject).copied()
    }
}

/// A subject's cell, with what it says of its firewall.
pub(super) fn with_firewall(cell: Subject, worn: SubjectFirewall) -> Subject {
    let has = if worn.set_index_plus_one == 0 { 0 } else { SUBJECT_HAS_FIREWALL };
    Subject { flags: cell.flags | has | worn.generation << SUBJECT_GENERATION_SHIFT, ..cell }
}

impl NodeDataplane {
    /// Adds the sets that are not there yet, the cell of each last.
    pub(super) fn put_firewalls(&mut self, wanted: &Firewalls) -> Result<(), DataplaneError> {
        for key in wanted.sets.keys() {
            if self.index.firewalls.get(key).is_none() {
                self.index.firewalls.give(*key).ok_or_else(|| full("set of firewall rules"))?;
            }
        }
        self.maps.firewall_remotes.put_all(&self.remotes(wanted))?;
        for (service, bits) in self.services(wanted) {
            self.maps.firewall_services.put(service, bits)?;
        }
        for (key, rules) in &wanted.sets {
            let CompiledRules { allow, egress, any_remote, any_protocol, .. } = *rules;
            let cell = FirewallSet { key: *key, allow, egress, any_remote, any_protocol };
            self.maps.firewalls.put(self.set_index(*key), cell)?;
        }
        Ok(())
    }

    /// Makes a subject's reference that of its rules, under a generation of its own if they are others than before.
    pub(super) fn put_firewall_of(
        &mut self,
        subject_index: u32,
        key: Option<u64>,
    ) -> Result<SubjectFirewall, DataplaneError> {
        let known = self.maps.subject_firewalls.get(subject_index)?;
        let wanted = key.map_or(0, |key| 1 + self.set_index(key));
        if known.set_index_plus_one == wanted {
            return Ok(known);
        }
        let worn = known.followed_by(wanted);
        self.maps.subject_firewalls.set(subject_index, worn)?;
        Ok(worn)
    }

    /// Frees the sets that nobody wears any more, and their rows; each cell first.
    pub(super) fn retain_firewalls(&mut self, wanted: &Firewalls) -> Result<(), DataplaneError> {
        for key in self.index.firewalls.surplus(|key| wanted.sets.contains_key(key)) {
            if let Some(index) = self.index.firewalls.take_back(&key) {
                self.maps.firewalls.set(index, FirewallSet::default())?;
            }
        }
        self.maps.firewall_remotes.retain(&self.remotes(wanted))?;
        let services = self.services(wanted);
        for (service, _) in self.maps.firewall_services.entries()? {
            if !services.contains_key(&service) {
                self.maps.firewall_services.remove(&service)?;
            }
        }
        Ok(())
    }

    fn set_index(&self, key: u64) -> u32 {
        self.index.firewalls.get(&key).expect("sets are given their indices first")
    }

    fn remotes(&self, wanted: &Firewalls) -> PrefixSet<u64> {
        let rows = wanted.sets.iter().flat_map(|(key, rules)| {
            let set_index = self.set_index(*key);
            let row = move |(range, bits): (&Cidr, &u64)| {
                (scoped(set_index, (range.address(), range.prefix_length())), *bits)
            };
            rules.remotes.iter().map(row)
        });
        rows.collect()
    }

    fn services(&self, wanted: &Firewalls) -> BTreeMap<FirewallService, u64> {
        let rows = wanted.sets.iter().flat_map(|(key, rules)| {
            let set_index = self.set_index(*key);
            let row = move |((protocol, port), bits): (&(u8, u16), &u64)| {
                (FirewallService { set_index, protocol: (*protocol).into(), port: *port }, *bits)
            };
            rules.services.iter().map(row)
        });
        rows.collect()
    }
}
