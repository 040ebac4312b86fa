//! Maglev tables: written into a group's spare half, then put in force by one write.

use persona_common::maps::MAGLEV_ROW_COUNT;
use persona_common::node::Group;

use super::error::DataplaneError;
use super::node::NodeDataplane;
use super::tables::NamedRows;

/// FNV-1a, 64 bits: finds a group again by its name after a restart.
pub(super) fn name_hash(name: &str) -> u64 {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    hash.max(1)
}

impl NodeDataplane {
    /// Makes the table of a name this one.
    pub(super) fn put_rows(&mut self, name: &str, table: &NamedRows<'_>) -> Result<(), DataplaneError> {
        let (key, rows) = (name_hash(name), table.cells());
        let index = match self.index.groups.get(&key) {
            Some(index) => index,
            None => self
                .index
                .groups
                .give(key)
                .ok_or_else(|| DataplaneError::Invalid("too many tables of edges".to_owned()))?,
        };
        let group = self.maps.groups.get(index)?;
        let halves = [index * 2 * MAGLEV_ROW_COUNT, (index * 2 + 1) * MAGLEV_ROW_COUNT];
        let is_new = group.name_hash != key;
        if !is_new && *self.rows_in_force(key, group.row_base)? == *rows {
            return Ok(());
        }
        let spare = if is_new || group.row_base != halves[0] { halves[0] } else { halves[1] };
        self.fill_spare(key, spare, &rows)?;
        self.maps.groups.set(index, Group { name_hash: key, row_base: spare, reserved: 0 })?;
        // The half that was in force is the spare one from here on.
        let before = self.index.group_rows.insert(key, rows);
        self.index.spare_rows.remove(&key);
        if let Some(before) = before.filter(|_| !is_new) {
            self.index.spare_rows.insert(key, before);
        }
        Ok(())
    }

    /// Writes rows into a group's spare half: only those that differ, where it is known what stands there.
    fn fill_spare(&mut self, key: u64, spare: u32, rows: &[u32]) -> Result<(), DataplaneError> {
        let Some(known) = self.index.spare_rows.remove(&key) else { return self.maps.maglev.set_from(spare, rows) };
        for (at, pair) in rows.iter().enumerate().filter(|(at, pair)| known[*at] != **pair) {
            self.maps.maglev.set(spare + at as u32, *pair)?;
        }
        Ok(())
    }

    /// Frees a group that no lease uses any more.
    pub(super) fn remove_group(&mut self, key: u64) -> Result<(), DataplaneError> {
        if let Some(index) = self.index.groups.take_back(&key) {
            self.maps.groups.set(index, Group::default())?;
            self.index.group_rows.remove(&key);
            self.index.spare_rows.remove(&key);
        }
        Ok(())
    }

    /// The rows that packets see, read once after a restart.
    fn rows_in_force(&mut self, key: u64, row_base: u32) -> Result<&[u32], DataplaneError> {
        if !self.index.group_rows.contains_key(&key) {
            let rows = (row_base..row_base + MAGLEV_ROW_COUNT).map(|row| self.maps.maglev.get(row));
            self.index.group_rows.insert(key, rows.collect::<Result<_, _>>()?);
        }
        Ok(&self.index.group_rows[&key])
    }
}
