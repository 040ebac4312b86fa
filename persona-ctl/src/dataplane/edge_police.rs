//! Which subjects an edge polices, and their cells in `POLICERS`.
//!
//! A cell is filled before a block names it, and emptied after none does. What has passed stays in a cell whose rates change:
//! a packet that is charged while the cell is written may go uncharged, once.

use std::collections::BTreeMap;

use persona_common::police::{Bucket, Policer};

use super::edge::EdgeDataplane;
use super::error::DataplaneError;
use super::tables::{EdgeTables, PolicedSubject, Policing};

impl EdgeDataplane {
    pub(super) fn put_policers(&mut self, tables: &EdgeTables) -> Result<(), DataplaneError> {
        for (number, subject) in policed(tables).map_err(DataplaneError::Invalid)? {
            let index = match self.index.policers.get(&number) {
                Some(index) => index,
                None => {
                    let index = self.index.policers.give(number);
                    index.ok_or_else(|| DataplaneError::Invalid("no room for another policed subject".to_owned()))?
                }
            };
            let (known, wanted) = (self.maps.policers.get(index)?, policer(&subject));
            if !is_like(&known, &wanted) {
                let egress = Bucket { due_ns: known.egress.due_ns, ..wanted.egress };
                let ingress = Bucket { due_ns: known.ingress.due_ns, ..wanted.ingress };
                self.maps.policers.set(index, Policer { egress, ingress, ..wanted })?;
            }
        }
        Ok(())
    }

    pub(super) fn remove_policers(&mut self, tables: &EdgeTables) -> Result<(), DataplaneError> {
        let wanted = policed(tables).map_err(DataplaneError::Invalid)?;
        for number in self.index.policers.surplus(|number| wanted.contains_key(number)) {
            if let Some(index) = self.index.policers.take_back(&number) {
                self.maps.policers.set(index, Policer::default())?;
            }
        }
        Ok(())
    }
}

/// Every subject that is policed, by number. The error names one whose leases contradict each other.
pub(super) fn policed(tables: &EdgeTables) -> Result<BTreeMap<u32, PolicedSubject>, String> {
    let mut subjects = BTreeMap::new();
    for subject in tables.leases.iter().filter_map(|lease| lease.policed) {
        let number = subject.number.0;
        if subjects.insert(number, subject).is_some_and(|known| known != subject) {
            return Err(format!(
                "subject {number} has other rates in another of its leases; one rate per subject is valid"
            ));
        }
    }
    Ok(subjects)
}

fn policer(subject: &PolicedSubject) -> Policer {
    let bucket = |rate_bps: Option<u64>| match subject.policing {
        Policing::AtRate => Bucket::at_rate(rate_bps.unwrap_or(0), subject.burst_bytes),
        Policing::BehindNode | Policing::InClass(_) => Bucket::behind_queue(rate_bps.unwrap_or(0), subject.burst_bytes),
    };
    Policer {
        subject: subject.number.0,
        is_used: 1,
        class_minor: match subject.policing {
            Policing::InClass(minor) => minor,
            Policing::BehindNode | Policing::AtRate => 0,
        },
        egress: bucket(subject.egress_bps),
        ingress: bucket(subject.ingress_bps),
    }
}

fn is_like(known: &Policer, wanted: &Policer) -> bool {
    let is_same_subject = known.is_used == wanted.is_used && known.subject == wanted.subject;
    let is_same_class = known.class_minor == wanted.class_minor;
    is_same_subject && is_same_class && known.egress.is_like(&wanted.egress) && known.ingress.is_like(&wanted.ingress)
}
