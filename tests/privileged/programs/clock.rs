//! The clock of a node's or an edge's programs in the test's hand.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use aya::Pod;
use aya::maps::{Array, Map, MapData};
use persona_common::edge::EdgeConfig;
use persona_common::node::NodeConfig;
use persona_tests::sys;

/// So shortly before the kernel's second turns, a packet waits until it has.
const EDGE_OF_A_SECOND: Duration = Duration::from_millis(20);

/// It stands still while nobody advances it: what the kernel's clock has gone on by is taken out before each packet, so
/// that the last second of a timer is as long as a slow machine needs.
pub(super) struct Clock<C: Timed>(Mutex<Held<C>>);

/// A node's.
pub(super) type NodeClock = Clock<NodeConfig>;
/// An edge's.
pub(super) type EdgeClock = Clock<EdgeConfig>;

/// A configuration that says what programs add to the kernel's clock.
pub(super) trait Timed: Pod {
    /// Where its map is pinned.
    const PIN: &str;
    /// Seconds that are added.
    fn offset_secs(&mut self) -> &mut u32;
}

impl Timed for NodeConfig {
    const PIN: &str = "node/maps/NODE_CONFIG";
    fn offset_secs(&mut self) -> &mut u32 {
        &mut self.clock_offset_secs
    }
}

impl Timed for EdgeConfig {
    const PIN: &str = "edge/maps/EDGE_CONFIG";
    fn offset_secs(&mut self) -> &mut u32 {
        &mut self.clock_offset_secs
    }
}

struct Held<C: Timed> {
    config: Array<MapData, C>,
    now_secs: u32,
}

impl<C: Timed> Clock<C> {
    /// Takes the clock of what is pinned here.
    pub(super) fn new(bpffs: &Path) -> Self {
        let config: Array<MapData, C> = Map::Array(MapData::from_pin(bpffs.join(C::PIN)).unwrap()).try_into().unwrap();
        let now_secs = (kernel_time().as_secs() as u32).wrapping_add(*config.get(&0, 0).unwrap().offset_secs());
        Self(Mutex::new(Held { config, now_secs }))
    }

    /// Gives the programs the kernel's clock back.
    pub(super) fn release(&self) {
        self.0.lock().unwrap().set_offset(0);
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

impl<C: Timed> Held<C> {
    fn write(&mut self) {
        let mut time = kernel_time();
        let rest = Duration::from_nanos(u64::from(1_000_000_000 - time.subsec_nanos()));
        if rest < EDGE_OF_A_SECOND {
            std::thread::sleep(EDGE_OF_A_SECOND);
            time = kernel_time();
        }
        self.set_offset(self.now_secs.wrapping_sub(time.as_secs() as u32));
    }

    fn set_offset(&mut self, secs: u32) {
        let mut config = self.config.get(&0, 0).unwrap();
        if std::mem::replace(config.offset_secs(), secs) != secs {
            self.config.set(0, config, 0).unwrap();
        }
    }
}

/// The clock that the programs read.
fn kernel_time() -> Duration {
    sys::coarse_time().unwrap()
}
