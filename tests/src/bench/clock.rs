//! Lets time pass for a node's programs, by what is added to their clock.

use std::path::Path;

use anyhow::Result;
use aya::maps::{Array, Map, MapData};
use persona_common::node::NodeConfig;

/// The clock of one node.
pub struct Clock(Array<MapData, NodeConfig>);

impl Clock {
    /// Of the node whose maps are pinned under this bpffs.
    pub fn open(bpffs: &Path) -> Result<Self> {
        Ok(Self(Map::Array(MapData::from_pin(bpffs.join("node/maps/NODE_CONFIG"))?).try_into()?))
    }

    /// Puts it forward.
    pub fn advance(&mut self, secs: u32) -> Result<()> {
        let mut config = self.0.get(&0, 0)?;
        config.clock_offset_secs += secs;
        Ok(self.0.set(0, config, 0)?)
    }
}
