//! What a sparse flow waits for beside bulk of the same subject, with real packets: all that is queued, or, where flows take
//! turns, hardly anything. Only where the kernel has `fq_codel`.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use persona_ctl::dataplane::Hook;
use persona_ctl::netlink::fair_leaf::FairLeaf;
use persona_ctl::netlink::htb::{HtbClass, Leaf};
use persona_ctl::netlink::{HANDLE_MAJOR, Shaper};
use persona_tests::load::paced::pace;
use persona_tests::sys;

use super::path::Chain;
use crate::peers::interop::{self, FQ_CODEL};

/// Low enough for an emulated guest; what queues at it takes 70 ms.
const RATE_BYTES_PER_SEC: u64 = 1_000_000;
const QUEUE_BYTES: u32 = 70_000;
const CLASS_MINOR: u16 = 2;
/// A bulk packet, with its headers on the device.
const PACKET_BYTES: u64 = 1_350;
const BULK_PAYLOAD: usize = 1_272;
/// A sparse flow sends so many, this far apart, once bulk fills the queue.
const SPARSE_COUNT: u32 = 40;
const SPARSE_GAP: Duration = Duration::from_millis(25);
const FILLED: Duration = Duration::from_millis(600);
/// How many times as long it waits where it has no turns of its own. (Bulk behind it waits as long as ever.)
const GAIN_MIN: u32 = 4;

#[test]
fn a_sparse_flow_does_not_wait_behind_bulk_where_flows_take_turns() {
    if interop::lacks(FQ_CODEL) {
        return;
    }
    let chain = Chain::new();
    let (mut node, _edge) = (chain.open_node(), chain.open_edge(Hook::Tc));
    let uplink = chain.node.ifindex("u0");
    let mut tables = chain.node_tables();
    let class = u32::from(HANDLE_MAJOR) << 16 | u32::from(CLASS_MINOR);
    tables.subjects[0].network.as_mut().unwrap().egress_class = class;
    chain.node.enter(|| node.apply(&tables).unwrap());
    let leaves = [Leaf::Fifo(QUEUE_BYTES), Leaf::Fair(FairLeaf::new(QUEUE_BYTES, RATE_BYTES_PER_SEC, PACKET_BYTES))];
    let waits = leaves.map(|leaf| {
        raise(&chain, uplink, leaf);
        median_wait(&chain)
    });
    eprintln!("a sparse flow beside bulk: {:?} in one queue, {:?} where flows take turns", waits[0], waits[1]);
    assert!(waits[0] > waits[1] * GAIN_MIN, "{waits:?}");
    chain.node.netlink(async |netlink| netlink.remove_shaper(uplink).await.unwrap());
}

fn raise(chain: &Chain, uplink: u32, leaf: Leaf) {
    let class = HtbClass::new(RATE_BYTES_PER_SEC, 8_000, leaf);
    let shaper = Shaper { default_minor: 0, sizes: None, classes: [(CLASS_MINOR, class)].into() };
    chain.node.netlink(async |netlink| netlink.raise_shaper(uplink, &shaper).await.unwrap());
}

/// The median time from workload to server of a sparse flow's packets while the same workload sends twice the rate.
fn median_wait(chain: &Chain) -> Duration {
    let server = chain.family.server();
    let [bulk_sink, sparse_sink] =
        [7_401, 7_402].map(|port| chain.server.enter(|| UdpSocket::bind((server, port)).unwrap()));
    let [bulk, sparse] = [(); 2].map(|()| chain.workload.enter(|| UdpSocket::bind((chain.client, 0)).unwrap()));
    sys::enlarge_receive_buffer(&sparse_sink).unwrap();
    sparse_sink.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    bulk.connect(bulk_sink.local_addr().unwrap()).unwrap();
    sparse.connect(sparse_sink.local_addr().unwrap()).unwrap();
    let start = Instant::now();
    let length = FILLED + SPARSE_GAP * SPARSE_COUNT;
    let twice = 2.0 * RATE_BYTES_PER_SEC as f64 / PACKET_BYTES as f64;
    std::thread::scope(|scope| {
        scope.spawn(|| pace(start, length + FILLED, twice, || assert!(bulk.send(&[7; BULK_PAYLOAD]).is_ok())));
        scope.spawn(|| {
            std::thread::sleep(FILLED);
            for _ in 0..SPARSE_COUNT {
                sparse.send(&nanos_since(start).to_ne_bytes()).unwrap();
                std::thread::sleep(SPARSE_GAP);
            }
        });
        let mut waits = Vec::new();
        let mut payload = [0; 8];
        // A packet that a full queue had no room for has waited for ever; most come through.
        while start.elapsed() < length && sparse_sink.recv(&mut payload).is_ok() {
            waits.push(nanos_since(start) - u64::from_ne_bytes(payload));
        }
        assert!(waits.len() > 3, "{waits:?}");
        waits.sort_unstable();
        Duration::from_nanos(waits[waits.len() / 2])
    })
}

fn nanos_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap()
}
