//! The clock by which a node's programs judge the age of flows, set forward.

use anyhow::{Context, Result};
use aya::maps::{Array, Map, MapData};
use persona_common::node::NodeConfig;

use super::{NODE, World};

impl World {
    /// Lets time pass for the node's programs and for its agent's sweep, but for nobody else: flows age by so much.
    pub fn age_flows(&self, secs: u32) -> Result<()> {
        let pin = self.bpffs(NODE).join("node/maps/NODE_CONFIG");
        let map = MapData::from_pin(&pin).with_context(|| format!("{} is not there", pin.display()))?;
        let mut cells: Array<MapData, NodeConfig> = Map::Array(map).try_into()?;
        let mut config = cells.get(&0, 0)?;
        config.clock_offset_secs += secs;
        cells.set(0, config, 0).context("the node's configuration cannot be written")
    }
}
