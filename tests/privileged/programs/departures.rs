//! Departure times that `depart` gives to built packets: exact, where the cell says from when on, whatever the clock says.

use std::net::Ipv6Addr;
use std::time::Duration;

use aya::maps::{Array, Map, MapData};
use persona_common::departure::Departure;
use persona_ctl::dataplane::departures::class_of;
use persona_ctl::dataplane::{Departures, HeldRate, NodeDataplane, monotonic_now};

use super::frames::{Ip, ethernet, geneve};
use super::frames6::{self, Ip6};
use super::namespace::Namespace;
use super::nat_world::pinned;
use super::node_packets::{EDGE, NODE, SERVER, VNI, WORKLOAD, open_node};
use super::run::{Facts, Outcome, TC_DROP, TC_NEXT, new_drops, run_tc};
use super::world::{LOOPBACK, World, is_privileged};

/// The cells of the tests.
const UP: u16 = 1;
const DOWN: u16 = 2;
/// A byte takes a microsecond; times are long for the sake of emulated processors.
const RATE: HeldRate = HeldRate { rate_bps: 8_000_000, burst_bytes: 2_000_000, queue_bytes: 4_000_000 };
const NS_PER_BYTE: u64 = 1_000;

/// A node with a cell for each direction.
struct Held<'a> {
    node: &'a mut NodeDataplane,
    cells: Array<MapData, Departure>,
}

/// What is tried on cells that nothing has gone through yet.
type Step = fn(&mut Held<'_>);

/// One node for all: making one takes an emulated processor longer than everything here.
#[test]
fn departure_times_are_exact() {
    if !is_privileged() {
        return;
    }
    let namespace = Namespace::new("departures");
    let world = World::new();
    namespace.enter(|| {
        let mut node = open_node(&world);
        let cells = || Map::Array(pinned(&world.bpffs(), "DEPARTURES")).try_into().unwrap();
        let steps: [(u16, Step); 6] = [
            (0, packets_of_a_line_leave_when_those_before_them_have_left),
            (DOWN, all_that_leaves_by_a_subjects_device_is_one_line),
            (0, a_line_that_was_empty_begins_a_burst_ago),
            (0, who_would_wait_too_long_is_a_counted_drop),
            (0, what_has_no_cell_passes_as_it_is),
            (0, cells_keep_what_is_due_until_they_are_free),
        ];
        for (device_cell, step) in steps {
            let wanted = wanted(device_cell);
            node.trim_departures(&Departures::default()).unwrap();
            node.raise_departures(&wanted).unwrap();
            node.trim_departures(&wanted).unwrap();
            step(&mut Held { node: &mut node, cells: cells() });
        }
    });
}

fn wanted(device_cell: u16) -> Departures {
    Departures { cells: [(UP, RATE), (DOWN, RATE)].into(), devices: [(LOOPBACK, device_cell)].into() }
}

impl Held<'_> {
    fn run(&self, frame: &[u8], facts: Facts) -> Outcome {
        run_tc(self.node.programs(), "depart", frame, facts)
    }

    fn due_ns(&self, cell: u16) -> u64 {
        self.cells.get(&cell.into(), 0).unwrap().due_ns
    }

    fn set_due(&mut self, cell: u16, due_ns: u64) {
        let known = self.cells.get(&cell.into(), 0).unwrap();
        self.cells.set(cell.into(), Departure { due_ns, ..known }, 0).unwrap();
    }
}

fn now_ns() -> u64 {
    monotonic_now().as_nanos() as u64
}

/// So far ahead that the clock does not matter.
fn soon_ns() -> u64 {
    now_ns() + Duration::from_secs(2).as_nanos() as u64
}

fn inner4() -> Ip {
    Ip::new(WORKLOAD, SERVER, 17)
}

fn tunnel(inner: &[u8]) -> Vec<u8> {
    ethernet(0x0800, &geneve(NODE, EDGE, 50_000, VNI, inner))
}

fn named(cell: u16) -> Facts {
    Facts { priority: class_of(cell), ..Facts::default() }
}

fn packets_of_a_line_leave_when_those_before_them_have_left(held: &mut Held<'_>) {
    let mut due_ns = soon_ns();
    held.set_due(UP, due_ns);
    let (near, far) = (Ipv6Addr::LOCALHOST.into(), Ipv6Addr::UNSPECIFIED.into());
    let over6 = |inner: &[u8]| ethernet(0x86dd, &frames6::tunnel(near, far, 50_000, VNI, inner));
    let tcp = Ip { protocol: 6, ..inner4() }.tcp(4000, 80, 16, &[1; 12], &[7; 3_000]);
    let inner6 = Ip6::new("fd00:1::2".parse().unwrap(), "2001:db8::5".parse().unwrap());
    let udp6 = inner6.udp(4000, 53, &[7; 2_500]);
    let batch = |gso_size, gso_segs| Facts { gso_size, gso_segs, ..named(UP) };
    let small = inner4().udp(4000, 53, b"x");
    for (what, frame, facts, bytes) in [
        ("a small packet", tunnel(&small), named(UP), 29),
        ("a large one", tunnel(&inner4().udp(4000, 53, &[7; 1_372])), named(UP), 1_400),
        ("over IPv6", over6(&small), named(UP), 29),
        ("three segments of TCP have their headers thrice", tunnel(&tcp), batch(1_000, 3), 3_000 + 3 * 52),
        ("a batch that does not say how many", tunnel(&tcp), batch(1_000, 0), 3_000 + 3 * 52),
        ("two datagrams of IPv6", tunnel(&udp6), batch(1_250, 2), 2_500 + 2 * 48),
        ("IPv6 over IPv6", over6(&udp6), batch(1_250, 2), 2_500 + 2 * 48),
    ] {
        let outcome = held.run(&frame, facts);
        assert_eq!((outcome.verdict, outcome.tstamp, outcome.priority), (TC_NEXT, due_ns, 0), "{what}");
        assert_eq!(outcome.bytes, frame, "{what}: nothing is rewritten");
        due_ns += bytes * NS_PER_BYTE;
        assert_eq!(held.due_ns(UP), due_ns, "{what}");
    }
    assert_eq!(held.due_ns(DOWN), 0, "the other cell is another line");
}

fn all_that_leaves_by_a_subjects_device_is_one_line(held: &mut Held<'_>) {
    let due_ns = soon_ns();
    held.set_due(DOWN, due_ns);
    let inward = ethernet(0x0800, &Ip::new(SERVER, WORKLOAD, 17).udp(53, 4000, &[7; 972]));
    assert_eq!(held.run(&inward, Facts::default()).tstamp, due_ns);
    assert_eq!(held.run(&inward, named(UP)).tstamp, due_ns + 1_000 * NS_PER_BYTE, "whatever class it names");
}

fn a_line_that_was_empty_begins_a_burst_ago(held: &mut Held<'_>) {
    let packet = tunnel(&inner4().udp(4000, 53, &[7; 972]));
    let burst_ns = RATE.burst_bytes * NS_PER_BYTE;
    let before_ns = now_ns();
    let first = held.run(&packet, named(UP)).tstamp;
    assert!((before_ns - burst_ns..=now_ns() - burst_ns).contains(&first), "{before_ns} {first}");
    assert_eq!(held.run(&packet, named(UP)).tstamp, first + 1_000 * NS_PER_BYTE, "within the burst");
}

fn who_would_wait_too_long_is_a_counted_drop(held: &mut Held<'_>) {
    let packet = tunnel(&inner4().udp(4000, 53, b"x"));
    let late_ns = now_ns() + RATE.queue_bytes * NS_PER_BYTE + Duration::from_secs(60).as_nanos() as u64;
    held.set_due(UP, late_ns);
    let before = held.node.counters().unwrap().drops;
    assert_eq!(held.run(&packet, named(UP)).verdict, TC_DROP);
    assert_eq!(new_drops(&before, &held.node.counters().unwrap().drops), [("queue-full".to_owned(), 1)]);
    assert_eq!(held.due_ns(UP), late_ns, "it takes nothing from others");
}

fn what_has_no_cell_passes_as_it_is(held: &mut Held<'_>) {
    let packet = tunnel(&inner4().udp(4000, 53, b"x"));
    // Nobody's, a class of HTB, a cell that is free, one beyond the last.
    for priority in [0, 0x7e50_0001, class_of(3), class_of(u16::MAX)] {
        let outcome = held.run(&packet, Facts { priority, ..Facts::default() });
        assert_eq!((outcome.verdict, outcome.tstamp, outcome.priority), (TC_NEXT, 0, priority), "{priority:x}");
    }
}

fn cells_keep_what_is_due_until_they_are_free(held: &mut Held<'_>) {
    let due_ns = soon_ns();
    held.set_due(UP, due_ns);
    let faster = HeldRate { rate_bps: 2 * RATE.rate_bps, ..RATE };
    let wanted = Departures { cells: [(UP, faster)].into(), devices: [(LOOPBACK, 0)].into() };
    held.node.raise_departures(&wanted).unwrap();
    held.node.trim_departures(&wanted).unwrap();
    let packet = tunnel(&inner4().udp(4000, 53, &[7; 972]));
    assert_eq!(held.run(&packet, named(UP)).tstamp, due_ns);
    assert_eq!(held.due_ns(UP), due_ns + 1_000 * NS_PER_BYTE / 2);
    assert_eq!(held.run(&packet, named(DOWN)).tstamp, 0, "that one is free");
    held.node.trim_departures(&Departures::default()).unwrap();
    assert_eq!((held.due_ns(UP), held.run(&packet, named(UP)).tstamp), (0, 0), "and now all is");
}
