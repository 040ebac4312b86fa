//! A node and an edge that stay loaded from test to test, because the verifier takes a second for each, and many in an
//! emulated guest. What a test gets is as new: tables are withdrawn, what programs wrote is wiped, and it is long after
//! the last test, so that no hint is believed that was made there. They go when the process ends.
#![expect(unsafe_code, reason = "atexit")]

use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use aya::maps::{Array, Map, MapData};
use persona_common::node::NodeConfig;
use persona_ctl::dataplane::tables::{EdgeTables, NodeTables};
use persona_ctl::dataplane::{EdgeDataplane, NodeDataplane, NodeOptions};

use super::namespace::Namespace;
use super::nat_world::pinned;
use super::wipe::wipe;
use super::world::World;

/// What of a node its programs write, and what counts.
const NODE_STATE: [&str; 20] = [
    "FLOWS",
    "MAPPINGS",
    "SHARED",
    "OPENINGS",
    "OPENINGS6",
    "TOWARDS",
    "HOST_ADDRESSES",
    "FRAGMENTS",
    "RECORDS",
    "SLOTS",
    "CURSORS",
    "FRAGMENT_COUNTERS",
    "SUBJECT_TRAFFIC",
    "SUBJECT_COUNTS",
    "PERSONA_TRAFFIC",
    "LIVENESS",
    "DROPS",
    "HANDED_OVER",
    "EVENT_CONFIG",
    "EVENTS_LOST",
];

/// The same of an edge.
const EDGE_STATE: [&str; 11] = [
    "FRAGMENTS",
    "PERSONA_TRAFFIC",
    "DROPS",
    "HANDED_OVER",
    "EVENT_CONFIG",
    "EVENTS_LOST",
    "OUTSIDE_ALIVE",
    "OWNED",
    "NODE_SILENT",
    "NODE_HEARD",
    "PEER_ALIVE",
];

/// Cells of an array that tests come to: the slots of a whole address, the first of everything else.
const CELL_COUNT_MAX: u32 = 3 * 65_536;

/// From test to test, by a node's clock: longer than any test lets pass.
const BETWEEN_TESTS_SECS: u32 = 1 << 20;

/// A data plane and where it is; they end in this order.
struct Place<D> {
    dataplane: D,
    world: World,
    namespace: Namespace,
}

static NODE: Mutex<Option<Place<NodeDataplane>>> = Mutex::new(None);
static EDGE: Mutex<Option<Place<EdgeDataplane>>> = Mutex::new(None);

impl<D: Send> Place<D> {
    fn open(open: impl FnOnce(&World) -> D + Send) -> Self {
        let (namespace, world) = (Namespace::new("kept"), World::new());
        Self { dataplane: namespace.enter(|| open(&world)), world, namespace }
    }

    /// Lets a test have it. A test that fails takes it along.
    fn use_for(mut self, test: impl FnOnce(D, &World) -> D + Send) -> Self {
        let (dataplane, world) = (self.dataplane, &self.world);
        self.dataplane = self.namespace.enter(|| test(dataplane, world));
        self
    }

    fn wipe(&self, role: &str, names: &[&str]) {
        for name in names {
            wipe(&self.world.bpffs().join(role).join("maps").join(name), CELL_COUNT_MAX);
        }
    }
}

/// Runs a test on a node without tables, in a namespace of its own; the test gives the node back, or one that it opened in
/// its place.
pub(super) fn with_node(adopt: Duration, test: impl FnOnce(NodeDataplane, &World) -> NodeDataplane + Send) {
    let open = |world: &World| NodeDataplane::open(&NodeOptions { adopt, ..world.node_options() }).unwrap();
    if !adopt.is_zero() {
        // The time of adoption begins when a node is opened.
        Place::open(open).use_for(test);
        return;
    }
    let kept = NODE.lock().unwrap().take().map(node_as_new);
    let place = kept.unwrap_or_else(|| Place::open(open)).use_for(test);
    keep(&NODE, place);
}

/// The same with an edge.
pub(super) fn with_edge(test: impl FnOnce(EdgeDataplane, &World) -> EdgeDataplane + Send) {
    let kept = EDGE.lock().unwrap().take().map(edge_as_new);
    let place = kept.unwrap_or_else(|| Place::open(World::edge)).use_for(test);
    keep(&EDGE, place);
}

/// Where tests run at once, the last one's is kept.
fn keep<D>(shelf: &Mutex<Option<Place<D>>>, place: Place<D>) {
    static ONCE: Once = Once::new();
    // SAFETY: the function may run at any time, on any thread.
    ONCE.call_once(|| assert_eq!(unsafe { libc::atexit(take_away) }, 0));
    let before = shelf.lock().unwrap().replace(place);
    drop(before);
}

extern "C" fn take_away() {
    // What a test that failed has poisoned is taken away as well; nothing may unwind from here.
    let node = NODE.lock().unwrap_or_else(PoisonError::into_inner).take();
    let edge = EDGE.lock().unwrap_or_else(PoisonError::into_inner).take();
    drop((node, edge));
}

fn node_as_new(mut place: Place<NodeDataplane>) -> Place<NodeDataplane> {
    place = place.use_for(|mut node, _| {
        node.apply(&NodeTables::default()).unwrap();
        node.take_cut();
        node
    });
    place.wipe("node", &NODE_STATE);
    let config = pinned(&place.world.bpffs(), "NODE_CONFIG");
    let mut cells: Array<MapData, NodeConfig> = Map::Array(config).try_into().unwrap();
    let config = cells.get(&0, 0).unwrap();
    let clock_offset_secs = config.clock_offset_secs.wrapping_add(BETWEEN_TESTS_SECS);
    cells.set(0, NodeConfig { clock_offset_secs, ..config }, 0).unwrap();
    place
}

fn edge_as_new(mut place: Place<EdgeDataplane>) -> Place<EdgeDataplane> {
    place = place.use_for(|mut edge, _| {
        edge.apply(&EdgeTables::default()).unwrap();
        edge
    });
    place.wipe("edge", &EDGE_STATE);
    place
}
