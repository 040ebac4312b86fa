//! Flows that were cut, as they are told: an event per lease, and a count.

use std::collections::BTreeMap;

use persona_core::ids::{SubjectId, SubjectNumber};

use super::changes::Note;
use crate::dataplane::CutLease;

/// What was cut since the agent started.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    /// Flows, of all leases together.
    pub flow_count: u64,
}

impl Cuts {
    /// Counts what was cut, and says whose it was.
    pub(super) fn take(&mut self, cut: &[CutLease], subjects: &BTreeMap<SubjectNumber, SubjectId>) -> Vec<Note> {
        let note = |cut: &CutLease| {
            let subject =
                subjects.get(&cut.subject).map_or_else(|| format!("subject {}", cut.subject), SubjectId::to_string);
            let flows = if cut.flow_count == 1 { "1 flow".to_owned() } else { format!("{} flows", cut.flow_count) };
            let message = format!("{flows} of {subject} cut under lease {}: its grace was over", cut.lease);
            Note::new("lease.cut", format!("lease/{}", cut.lease), message)
        };
        self.flow_count += cut.iter().map(|cut| u64::from(cut.flow_count)).sum::<u64>();
        cut.iter().map(note).collect()
    }
}

#[cfg(test)]
mod tests {
    use persona_core::ids::LeaseId;

    use super::*;

    #[test]
    fn each_lease_is_told_and_all_flows_are_counted() {
        let subjects = [(SubjectNumber(7), "workload/n1/web".parse().unwrap())].into();
        let cut = |lease, subject, flow_count| CutLease {
            lease: LeaseId(lease),
            subject: SubjectNumber(subject),
            flow_count,
        };
        let mut cuts = Cuts::default();
        let notes = cuts.take(&[cut(3, 7, 12), cut(4, 8, 1)], &subjects);
        let told: Vec<_> = notes.iter().map(|note| (note.about.as_str(), note.message.as_str())).collect();
        assert_eq!(
            told,
            [
                ("lease/3", "12 flows of workload/n1/web cut under lease 3: its grace was over"),
                ("lease/4", "1 flow of subject 8 cut under lease 4: its grace was over"),
            ]
        );
        cuts.take(&[cut(5, 7, 2)], &subjects);
        assert_eq!(cuts.flow_count, 15);
    }
}
