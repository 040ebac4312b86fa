//! Which subjects an edge polices: their cells in `POLICERS`, and what they are held to in `POLICED_RATES`.
//!
//! A cell is filled before a block or another cell names it, and emptied after none does. What has passed stays in a cell whose
//! rates change: a packet that is charged while the cell is written may go uncharged, once.

use std::collections::{BTreeMap, BTreeSet};

use persona_common::police::{PolicedRate, PolicedRates, Policer};

use super::edge::EdgeDataplane;
use super::error::DataplaneError;
use super::tables::{EdgeTables, PolicedSubject, Policing};

impl EdgeDataplane {
    pub(super) fn put_policers(&mut self, tables: &EdgeTables) -> Result<(), DataplaneError> {
        for (number, subject) in policed(tables).map_err(DataplaneError::Invalid)? {
            let rates_index = self.put_rates(rates_of(&subject))?;
            let index = match self.index.policers.get(&number) {
                Some(index) => index,
                None => self.index.policers.give(number).ok_or_else(|| no_room("policed subject"))?,
            };
            let known = self.maps.policers.get(index)?;
            let class_minor = match subject.policing {
                Policing::InClass(minor) => minor,
                Policing::BehindNode | Policing::AtRate => 0,
            };
            let wanted = Policer { subject: number, rates_index, class_minor, ..known };
            if known != wanted {
                self.maps.policers.set(index, wanted)?;
            }
        }
        Ok(())
    }

    fn put_rates(&mut self, rates: PolicedRates) -> Result<u16, DataplaneError> {
        let index = match self.index.policed_rates.get(&rates) {
            Some(index) => index,
            None => {
                let index = self.index.policed_rates.give(rates).ok_or_else(|| no_room("rate to police"))?;
                self.maps.policed_rates.set(index, rates)?;
                index
            }
        };
        u16::try_from(index).map_err(|_| no_room("rate to police"))
    }

    pub(super) fn remove_policers(&mut self, tables: &EdgeTables) -> Result<(), DataplaneError> {
        let wanted = policed(tables).map_err(DataplaneError::Invalid)?;
        for number in self.index.policers.surplus(|number| wanted.contains_key(number)) {
            if let Some(index) = self.index.policers.take_back(&number) {
                self.maps.policers.set(index, Policer::default())?;
            }
        }
        let rates: BTreeSet<PolicedRates> = wanted.values().map(rates_of).collect();
        for unused in self.index.policed_rates.surplus(|known| rates.contains(known)) {
            if let Some(index) = self.index.policed_rates.take_back(&unused) {
                self.maps.policed_rates.set(index, PolicedRates::default())?;
            }
        }
        Ok(())
    }
}

fn no_room(what: &str) -> DataplaneError {
    DataplaneError::Invalid(format!("no room for another {what}"))
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

/// What a subject is held to.
pub(super) fn rates_of(subject: &PolicedSubject) -> PolicedRates {
    let rate = |rate_bps: Option<u64>| match subject.policing {
        Policing::AtRate => PolicedRate::at_rate(rate_bps.unwrap_or(0), subject.burst_bytes),
        Policing::BehindNode | Policing::InClass(_) => {
            PolicedRate::behind_queue(rate_bps.unwrap_or(0), subject.burst_bytes)
        }
    };
    PolicedRates { egress: rate(subject.egress_bps), ingress: rate(subject.ingress_bps) }
}
