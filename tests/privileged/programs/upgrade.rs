//! From the previous release's pins: its object is loaded, attached and used, then this release opens what it left.

use std::net::Ipv4Addr;
use std::path::Path;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap};
use aya::programs::links::{FdLink, LinkOrder};
use aya::programs::tc::TcAttachOptions;
use aya::programs::{SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader, Pod};
use persona_common::addr::address_be;
use persona_ctl::dataplane::{DataplaneError, KernelFeatures};

use super::frames::{Ip, ethernet, geneve};
use super::namespace::Namespace;
use super::node_packets::{EDGE, EGRESS, NODE, SERVER, VNI, WORKLOAD, tables};
use super::run::{Facts, TC_DROP, TC_REDIRECT, run_tc};
use super::world::{LOOPBACK, World, is_privileged};

/// Objects of ABI version 1, without debug sections.
static NODE_V1: &[u8] = include_bytes!("../../fixtures/v1/node.o");
static EDGE_V1: &[u8] = include_bytes!("../../fixtures/v1/edge.o");

const SYN: u8 = 2;
const ACK: u8 = 16;
/// Two inner ports with the same low bits: the second cannot have the external port that it would like.
const FIRST_PORT: u16 = 40_000;
const SECOND_PORT: u16 = 41_024;
/// Where an IPv4 packet's source port stands in a tunnel's frame: outer headers, inner header.
const SOURCE_PORT_AT: usize = 14 + 36 + 20;

fn cell<V: Pod>(ebpf: &mut Ebpf, map: &str, index: u32, value: V) {
    let mut cells: Array<_, V> = ebpf.map_mut(map).unwrap().try_into().unwrap();
    cells.set(index, value, 0).unwrap();
}

fn entry<K: Pod, V: Pod>(ebpf: &mut Ebpf, map: &str, key: K, value: V) {
    let mut entries: HashMap<_, K, V> = ebpf.map_mut(map).unwrap().try_into().unwrap();
    entries.insert(key, value, 0).unwrap();
}

fn trie(ebpf: &mut Ebpf, map: &str, address: Ipv4Addr, length: u32) {
    let mut entries: LpmTrie<_, u32, u32> = ebpf.map_mut(map).unwrap().try_into().unwrap();
    entries.insert(&Key::new(length, be(address)), 1, 0).unwrap();
}

fn be(address: Ipv4Addr) -> u32 {
    address_be(address.octets())
}

/// FNV-1a, under which version 1 kept the names of groups.
fn name_hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

fn prepare(bpffs: &Path, role: &str) {
    if !bpffs.exists() {
        std::fs::create_dir_all(bpffs).unwrap();
        persona_tests::netns::run("mount", &["-t", "bpf", "bpf", &bpffs.display().to_string()]).unwrap();
        std::fs::create_dir(bpffs.join("mounted-by-persona")).unwrap();
    }
    for folder in ["maps", "links"] {
        std::fs::create_dir_all(bpffs.join(role).join(folder)).unwrap();
    }
}

/// What version 1 left when it had applied the tables of `node_packets` and was ended.
fn old_node(bpffs: &Path, version: u32) -> Ebpf {
    prepare(bpffs, "node");
    let mut ebpf = EbpfLoader::new().default_map_pin_directory(bpffs.join("node/maps")).load(NODE_V1).unwrap();
    // abi_version, underlay_address, adopt_until_secs, guard_all_forwarded
    cell(&mut ebpf, "NODE_CONFIG", 0, [version, be(NODE), 0, 0]);
    // subject_index, address
    entry(&mut ebpf, "DEVICES", LOOPBACK, [0, be(WORKLOAD)]);
    // number, flags (present, network, TCP, UDP, ICMP), lease plus one, class, ifindex, DSCP
    cell(&mut ebpf, "SUBJECTS", 0, [7u32, 31, 1, 0, LOOPBACK, 0]);
    // id, generation, address, subject, vni, persona, group, mtu, block_bits, block_count, first port, first slot
    let mut lease = [0u32; 140];
    lease[..14].copy_from_slice(&[9, 0, 3, 0, be(EGRESS), 0, VNI, 0, 0, 1400, 10, 1, 5 << 10, 0]);
    cell(&mut ebpf, "LEASES", 0, lease);
    entry(&mut ebpf, "ADDRESSES", be(EGRESS), [0u32, 10]);
    cell(&mut ebpf, "BLOCKS", 5, [1u32, 0]);
    // address, ifindex, next_hop
    cell(&mut ebpf, "EDGES", 1, [be(EDGE), LOOPBACK, be(EDGE)]);
    entry(&mut ebpf, "EDGE_ADDRESSES", be(EDGE), 1u32);
    // generation, alive, known
    cell(&mut ebpf, "LIVENESS", 1, [3u64, 1 << 32 | 1]);
    cell(&mut ebpf, "GROUPS", 0, [name_hash("frankfurt"), 0]);
    for row in 0..65_537 {
        cell(&mut ebpf, "MAGLEV", row, 1u32 << 16);
    }
    cell(&mut ebpf, "PERSONAS", 0, VNI);
    trie(&mut ebpf, "BYPASS", Ipv4Addr::new(10, 1, 0, 0), 24);
    trie(&mut ebpf, "MANAGED", Ipv4Addr::new(10, 1, 0, 0), 24);
    for program in ["from_workload", "from_edge", "guard"] {
        tc(&mut ebpf, program).load().unwrap();
    }
    ebpf
}

/// Version 1 knew TCX only. Its link is pinned under the name that it gave.
fn attach_old(ebpf: &mut Ebpf, bpffs: &Path) -> u32 {
    let program = tc(ebpf, "from_workload");
    let order = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = program.attach_with_options("lo", TcAttachType::Ingress, order).unwrap();
    let link = FdLink::try_from(program.take_link(id).unwrap()).unwrap();
    drop(link.pin(bpffs.join("node/links/from_workload-1")).unwrap());
    program.info().unwrap().id()
}

fn tc<'a>(ebpf: &'a mut Ebpf, program: &str) -> &'a mut SchedClassifier {
    ebpf.program_mut(program).unwrap().try_into().unwrap()
}

/// The external port under which a packet of the workload leaves.
fn leaves(ebpf: &Ebpf, port: u16, flags: u8) -> u16 {
    let packet = Ip::new(WORKLOAD, SERVER, 6).tcp(port, 443, flags, b"", b"");
    let outcome = run_tc(ebpf, "from_workload", &ethernet(0x0800, &packet), Facts::default());
    assert_eq!(outcome.verdict, TC_REDIRECT, "a packet from port {port} with flags {flags}");
    u16::from_be_bytes(outcome.bytes[SOURCE_PORT_AT..SOURCE_PORT_AT + 2].try_into().unwrap())
}

/// An answer of the server, in its edge's tunnel.
fn reply(external: u16) -> Vec<u8> {
    let inner = Ip::new(SERVER, EGRESS, 6).tcp(443, external, SYN | ACK, b"", b"");
    ethernet(0x0800, &geneve(EDGE, NODE, 50_000, VNI, &inner))
}

/// The inner port at which an answer to an external one arrives.
fn comes_in(ebpf: &Ebpf, external: u16) -> u16 {
    let outcome = run_tc(ebpf, "from_edge", &reply(external), Facts::default());
    assert_eq!(outcome.verdict, TC_REDIRECT, "an answer to port {external}");
    let inner = &outcome.bytes[14..];
    assert_eq!(inner[16..20], WORKLOAD.octets());
    u16::from_be_bytes([inner[22], inner[23]])
}

#[test]
fn flows_of_the_previous_release_go_on_under_their_ports() {
    if !is_privileged() {
        return;
    }
    let (world, namespace) = (World::new(), Namespace::new("upgrade"));
    namespace.enter(|| {
        let mut old = old_node(&world.bpffs(), 1);
        let ports = [FIRST_PORT, SECOND_PORT].map(|port| leaves(&old, port, SYN));
        assert_ne!(ports[0], ports[1]);
        assert_ne!(ports[1] & 1023, SECOND_PORT & 1023, "only its record says which port the second has");
        let attached = KernelFeatures::has_tcx().then(|| attach_old(&mut old, &world.bpffs()));
        drop(old);
        let mut node = world.node();
        if let Some(program) = attached {
            let (_, at_hook) = SchedClassifier::query_tcx("lo", TcAttachType::Ingress).unwrap();
            assert_eq!(at_hook.len(), 1, "the program was replaced, not doubled");
            assert_ne!(at_hook[0].id(), program);
        }
        let go_on = |node: &persona_ctl::dataplane::NodeDataplane| {
            [FIRST_PORT, SECOND_PORT].map(|port| leaves(node.programs(), port, ACK))
        };
        assert_eq!(go_on(&node), ports, "at once, before any tables are applied");
        node.apply(&tables()).unwrap();
        assert_eq!(go_on(&node), ports, "with the tables of this release");
        for (inner, external) in [FIRST_PORT, SECOND_PORT].into_iter().zip(ports) {
            assert_eq!(comes_in(node.programs(), external), inner, "answers find the workload");
        }
        let stranger = reply(ports[0].wrapping_add(1));
        let verdict = run_tc(node.programs(), "from_edge", &stranger, Facts::default()).verdict;
        assert_eq!(verdict, TC_DROP, "a port that no flow has");
        drop(node);
        assert_eq!(go_on(&world.node()), ports, "and when it is opened again");
        let unknown = ethernet(0x0800, &Ip::new(WORKLOAD, SERVER, 6).tcp(4242, 443, ACK, b"", b""));
        let verdict = run_tc(world.node().programs(), "from_workload", &unknown, Facts::default()).verdict;
        assert_eq!(verdict, TC_DROP, "a flow without a record is not let through");
        assert!(!world.bpffs().join("node/maps-next").exists());
    });
}

#[test]
fn an_edge_of_the_previous_release_starts_anew() {
    if !is_privileged() {
        return;
    }
    let (world, namespace) = (World::new(), Namespace::new("upgrade"));
    namespace.enter(|| {
        prepare(&world.bpffs(), "edge");
        let maps = world.bpffs().join("edge/maps");
        let mut old = EbpfLoader::new().default_map_pin_directory(maps).load(EDGE_V1).unwrap();
        // generation, abi_version
        let mut config = [0u32; 10];
        config[..3].copy_from_slice(&[77, 0, 1]);
        let mut cells: Array<_, [u32; 10]> = old.map_mut("EDGE_CONFIG").unwrap().try_into().unwrap();
        cells.set(0, config, 0).unwrap();
        entry(&mut old, "ADDRESSES", be(EGRESS), [0u32, 10]);
        cell(&mut old, "BLOCKS", 5, [1u32, VNI, 0, 1400]);
        cell(&mut old, "PERSONAS", 3, VNI);
        drop(old);
        let edge = world.edge();
        assert!(edge.owned().unwrap().is_empty());
        assert!(edge.counters().unwrap().personas.contains_key(&persona_core::ids::Vni(VNI)), "counters go on");
        drop(edge);
        drop(world.edge());
    });
}

#[test]
fn pins_of_a_newer_release_are_refused_with_what_to_do() {
    if !is_privileged() {
        return;
    }
    let (world, namespace) = (World::new(), Namespace::new("upgrade"));
    namespace.enter(|| {
        drop(old_node(&world.bpffs(), 999));
        let options = world.node_options();
        let error = persona_ctl::dataplane::NodeDataplane::open(&options).map(drop).unwrap_err();
        assert!(matches!(error, DataplaneError::AbiMismatch { .. }), "{error}");
        let told = error.to_string();
        assert!(told.contains("version 999") && told.contains("persona-ctl detach"), "{told}");
        assert!(world.bpffs().join("node/maps/FLOWS").exists(), "nothing was touched");
    });
}
