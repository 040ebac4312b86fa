//! Packets that subjects' own classes dropped, since the classes were made. The kernel's counts begin anew with a queue that is made
//! anew, and have 32 bits. (Departure times need no look: the program counts what finds no room.)

use std::collections::BTreeMap;
use std::io;

use persona_core::ids::{SubjectId, SubjectNumber};
use persona_core::wire::agent::Counters;

use crate::netlink::DropReader;

/// Device index and minor of a class.
type Class = (u32, u16);

/// Under which name the node's sum stands among the reasons of drops.
const REASON: &str = "queues";

/// What has been seen so far.
#[derive(Debug, Default)]
pub(super) struct QueueDrops {
    /// Opened by the first look, and anew after one that failed.
    reader: Option<DropReader>,
    seen: BTreeMap<Class, u32>,
    of_subjects: BTreeMap<SubjectNumber, u64>,
}

impl QueueDrops {
    /// Asks the kernel. Blocks for as long as that takes.
    pub(super) fn look(&mut self, owners: &BTreeMap<Class, SubjectNumber>) -> io::Result<()> {
        let mut reader = self.reader.take().map_or_else(DropReader::open, Ok)?;
        let mut found = BTreeMap::new();
        reader.read(&mut |ifindex, minor, count| {
            found.insert((ifindex, minor), count);
        })?;
        self.reader = Some(reader);
        self.take(found, owners);
        Ok(())
    }

    /// Takes the kernel's counts in. Those of nobody's classes are left out.
    fn take(&mut self, found: BTreeMap<Class, u32>, owners: &BTreeMap<Class, SubjectNumber>) {
        for (class, count) in &found {
            let Some(owner) = owners.get(class) else { continue };
            let before = self.seen.get(class).copied().unwrap_or(0);
            let growth = count.checked_sub(before).unwrap_or(*count);
            *self.of_subjects.entry(*owner).or_default() += u64::from(growth);
        }
        self.seen = found;
    }

    /// Adds them to what programs dropped.
    pub(super) fn add_to(&self, counters: &mut Counters, subjects: &BTreeMap<SubjectNumber, SubjectId>) {
        if self.of_subjects.is_empty() {
            return;
        }
        let named = self.of_subjects.iter().filter_map(|(number, count)| Some((subjects.get(number)?, *count)));
        let named: BTreeMap<&SubjectId, u64> = named.collect();
        for subject in &mut counters.subjects {
            subject.dropped_packets += named.get(&subject.subject).copied().unwrap_or(0);
        }
        *counters.drops.entry(REASON.to_owned()).or_default() += self.of_subjects.values().sum::<u64>();
    }
}

#[cfg(test)]
mod tests {
    use persona_core::wire::agent::{SubjectCounters, Traffic};

    use super::*;

    #[test]
    fn drops_of_both_directions_count_for_their_subject_and_a_new_queue_begins_anew() {
        let (web, db) = (SubjectNumber(1), SubjectNumber(2));
        let owners = [((7, 1), web), ((9, 1), web), ((7, 2), db)].into();
        let mut drops = QueueDrops::default();
        drops.take([((7, 1), 5), ((9, 1), 2), ((7, 2), 0), ((7, 3), 100)].into(), &owners);
        drops.take([((7, 1), 3), ((9, 1), 4)].into(), &owners);
        let counted = |name: &str| SubjectCounters {
            subject: name.parse().unwrap(),
            traffic: Traffic::default(),
            opened_flows: 0,
            dropped_packets: 10,
        };
        let subjects = [(web, "workload/n1/web".parse().unwrap()), (db, "workload/n1/db".parse().unwrap())].into();
        let mut counters = Counters {
            subjects: vec![counted("workload/n1/web"), counted("workload/n1/db")],
            drops: [("no-edge".to_owned(), 1)].into(),
            ..Counters::default()
        };
        drops.add_to(&mut counters, &subjects);
        let of = |index: usize| counters.subjects[index].dropped_packets;
        assert_eq!((of(0), of(1)), (10 + 5 + 2 + 3 + 2, 10));
        assert_eq!(counters.drops.values().sum::<u64>(), 13, "the node's are all of them");
    }
}
