//! The node programs' clock in the test's hand.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use aya::maps::{Array, Map, MapData};
use persona_common::node::NodeConfig;
use persona_tests::sys;

use super::nat_world::pinned;

/// So shortly before the kernel's second turns, a packet waits until it has.
const EDGE_OF_A_SECOND: Duration = Duration::from_millis(20);

/// It stands still while nobody advances it: what the kernel's clock has gone on by is taken out before each packet, so
/// that the last second of a timer is as long as a slow machine needs.
pub(super) struct Clock(Mutex<Held>);

struct Held {
    config: Array<MapData, NodeConfig>,
    now_secs: u32,
}

impl Clock {
    /// Takes the clock of the node that is pinned here.
    pub(super) fn new(bpffs: &Path) -> Self {
        let config: Array<MapData, NodeConfig> = Map::Array(pinned(bpffs, "NODE_CONFIG")).try_into().unwrap();
        let now_secs = (kernel_time().as_secs() as u32).wrapping_add(config.get(&0, 0).unwrap().clock_offset_secs);
        Self(Mutex::new(Held { config, now_secs }))
    }

    /// Lets time pass for the programs.
    pub(super) fn advance(&self, secs: u32) {
        let mut held = self.0.lock().unwrap();
        held.now_secs = held.now_secs.wrapping_add(secs);
        held.write();
    }

    /// Says the time once more; before each packet.
    pub(super) fn hold(&self) {
        self.0.lock().unwrap().write();
    }
}

impl Held {
    fn write(&mut self) {
        let mut time = kernel_time();
        let rest = Duration::from_nanos(u64::from(1_000_000_000 - time.subsec_nanos()));
        if rest < EDGE_OF_A_SECOND {
            std::thread::sleep(EDGE_OF_A_SECOND);
            time = kernel_time();
        }
        let clock_offset_secs = self.now_secs.wrapping_sub(time.as_secs() as u32);
        let config = self.config.get(&0, 0).unwrap();
        if config.clock_offset_secs != clock_offset_secs {
            self.config.set(0, NodeConfig { clock_offset_secs, ..config }, 0).unwrap();
        }
    }
}

/// The clock that the programs read.
fn kernel_time() -> Duration {
    sys::coarse_time().unwrap()
}
