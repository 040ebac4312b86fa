//! Maglev tables for subjects that are planned onto edges of their group: those first, the rest of the group by weight after.
//!
//! Subjects with the same edges share a table. A node has room for few tables, and while one goes and another comes it
//! needs both; who is left without one takes the group's own, which is told.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use persona_common::maps::GROUP_COUNT_MAX;
use persona_core::ids::{EdgeNumber, GroupName, SubjectNumber};
use persona_core::maglev;

use super::changes::Note;
use crate::dataplane::tables::{GroupTable, PlannedTable};

/// Group and edges → who is planned onto them.
pub(super) type Wishes = BTreeMap<(GroupName, Vec<EdgeNumber>), BTreeSet<SubjectNumber>>;

/// Tables for as many wishes as there is room for, those of most subjects first. Beside encrypted leases every table may have
/// a second one.
pub(super) fn planned_tables(
    wishes: Wishes,
    groups: &[GroupTable],
    has_encrypted: bool,
    notes: &mut Vec<Note>,
) -> Vec<PlannedTable> {
    let copies = if has_encrypted { 2 } else { 1 };
    let room = (GROUP_COUNT_MAX as usize).saturating_sub(copies * groups.len()) / (2 * copies);
    let mut wishes: Vec<_> = wishes.into_iter().collect();
    wishes.sort_by_key(|(_, subjects)| Reverse(subjects.len()));
    let left_out = wishes.split_off(room.min(wishes.len()));
    for ((group, edges), subjects) in &left_out {
        let message = format!(
            "the group's own table carries {} subjects that are planned onto edges {}: this node has room for {room} tables of planned edges",
            subjects.len(),
            edges.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        );
        notes.push(Note::new("plan.no-room", group, message));
    }
    wishes.sort();
    let table = |((group, edges), subjects): ((GroupName, Vec<EdgeNumber>), BTreeSet<SubjectNumber>)| {
        let own = groups.iter().find(|table| table.group == group)?;
        let rows = maglev::preferring(&own.rows, &edges);
        Some(PlannedTable { group, edges, subjects, rows })
    };
    wishes.into_iter().filter_map(table).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str) -> GroupTable {
        GroupTable { group: name.parse().unwrap(), rows: vec![(EdgeNumber(1), EdgeNumber(2)); 7] }
    }

    fn wish(
        group: &str,
        edge: u16,
        subjects: std::ops::Range<u32>,
    ) -> ((GroupName, Vec<EdgeNumber>), BTreeSet<SubjectNumber>) {
        ((group.parse().unwrap(), vec![EdgeNumber(edge)]), subjects.map(SubjectNumber).collect())
    }

    #[test]
    fn subjects_of_the_same_edges_share_a_table_and_those_of_few_give_way() {
        let groups = [group("fra"), group("tok")];
        let cases = [(0, false, 0), (3, false, 3), (7, false, 7), (9, false, 7), (3, true, 3), (9, true, 3)];
        for (wish_count, has_encrypted, table_count) in cases {
            let wishes = (1..=wish_count).map(|edge| wish("fra", edge, 0..u32::from(edge))).collect();
            let mut notes = Vec::new();
            let tables = planned_tables(wishes, &groups, has_encrypted, &mut notes);
            assert_eq!((tables.len(), notes.len()), (table_count, usize::from(wish_count) - table_count));
            let copies = if has_encrypted { 2 } else { 1 };
            assert!(copies * (groups.len() + 2 * tables.len()) <= GROUP_COUNT_MAX as usize);
            let least = tables.iter().map(|table| table.subjects.len()).min().unwrap_or(0);
            assert!(least >= usize::from(wish_count) - table_count, "who is many is served first: {least}");
        }
    }

    #[test]
    fn the_planned_edge_is_first_and_a_group_without_a_table_has_none() {
        let mut notes = Vec::new();
        let wishes = [wish("fra", 2, 0..1), wish("nowhere", 3, 1..2)].into();
        let tables = planned_tables(wishes, &[group("fra")], false, &mut notes);
        assert_eq!((tables.len(), notes.len()), (1, 0));
        assert!(tables[0].rows.iter().all(|row| *row == (EdgeNumber(2), EdgeNumber(1))));
    }
}
