//! Encrypted leases over the chain: WireGuard at both ends, real sockets, and a look at what the underlay carries. In user space
//! everywhere; with the kernel's own device where there is one, at either end.

use std::net::IpAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use persona_core::ids::{EdgeNumber, Generation};
use persona_core::liveness::Verdict;
use persona_core::wire::desired::ProbeItem;
use persona_ctl::dataplane::tables::{EdgeTables, NodeTables, WireTable};
use persona_ctl::dataplane::{EdgeDataplane, Hook, NodeDataplane, number_by_wire};
use persona_ctl::probe::{Prober, Target};
use persona_ctl::wire::{FarEnd, Keeper, LISTEN_PORT, WireConfig, Wireguard};

use super::namespace::Namespace;
use super::nat_live::{assert_right_sums, content, exchange, transfer};
use super::path::{Chain, Family};
use super::world::{chain as error_chain, is_privileged};
use crate::peers::interop::{self, WIREGUARD};

/// Room for IPv6 in Geneve in WireGuard over IPv6, all of a persona's MTU of 1,400.
const UNDERLAY_MTU: u32 = 1_600;

/// Datagrams that may be lost before one gets through.
const TRY_COUNT_MAX: u32 = 10;

/// How long probes may take to find out.
const VERDICT_TIME: Duration = Duration::from_secs(20);

/// How long a datagram may be under way, each way, on a busy machine.
fn answer_time() -> Duration {
    Duration::from_millis(if is_emulated() { 3_000 } else { 700 })
}

/// A chain whose lease is encrypted.
pub(super) struct Encrypted {
    pub(super) chain: Chain,
    node: NodeDataplane,
    edge: EdgeDataplane,
    pub(super) node_end: End,
    pub(super) edge_end: End,
}

/// One end of the tunnel.
pub(super) struct End {
    pub(super) keeper: Keeper,
    address: IpAddr,
    ifindex: u32,
    /// Where its key is.
    pub(super) directory: tempfile::TempDir,
    wireguard: Wireguard,
}

impl End {
    fn start(namespace: &Namespace, address: IpAddr, wireguard: Wireguard) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (keeper, ifindex) = open(namespace, address, wireguard, &directory);
        Self { keeper, address, ifindex, directory, wireguard }
    }

    /// As a process that was killed and started again: the device of user space is another one, the key is the same.
    pub(super) fn restart(&mut self, namespace: &Namespace, other: FarEnd) {
        self.keeper = Keeper::new(WireConfig::edge(Wireguard::Off, None, self.directory.path().to_owned()));
        (self.keeper, self.ifindex) = open(namespace, self.address, self.wireguard, &self.directory);
        namespace.enter(|| self.keeper.set_far_ends(&[other]));
    }

    pub(super) fn far_end(&mut self) -> FarEnd {
        let (key, port) = self.keeper.offer().unwrap();
        FarEnd { key, next: self.keeper.next_key(), address: self.address, port }
    }
}

fn open(namespace: &Namespace, address: IpAddr, wireguard: Wireguard, directory: &tempfile::TempDir) -> (Keeper, u32) {
    let mut keeper = Keeper::new(WireConfig::node(wireguard, None, directory.path().to_owned()));
    let ifindex = namespace.enter(|| keeper.ensure(address, UNDERLAY_MTU - 80));
    let ifindex = ifindex.unwrap_or_else(|| panic!("{:?}", keeper.trouble()));
    (keeper, ifindex)
}

impl Encrypted {
    pub(super) fn start(family: Family, at_node: Wireguard, at_edge: Wireguard) -> Self {
        let chain = Chain::of(family);
        chain.node.ip(&format!("link set u0 mtu {UNDERLAY_MTU}"));
        chain.edge.ip(&format!("link set i0 mtu {UNDERLAY_MTU}"));
        let mut node_end = End::start(&chain.node, family.node(), at_node);
        let mut edge_end = End::start(&chain.edge, family.edge(), at_edge);
        let (of_node, of_edge) = (node_end.far_end(), edge_end.far_end());
        chain.node.enter(|| node_end.keeper.set_far_ends(&[of_edge]));
        chain.edge.enter(|| edge_end.keeper.set_far_ends(&[of_node]));
        let (node, edge) = (chain.open_node(), chain.open_edge(Hook::Tc));
        let mut encrypted = Self { chain, node, edge, node_end, edge_end };
        encrypted.apply();
        let number = number_by_wire(EdgeNumber(1)).unwrap();
        encrypted.node.set_edge_liveness(number, true, Generation(1)).unwrap();
        encrypted
    }

    fn node_tables(&self) -> NodeTables {
        let plain = self.chain.node_tables();
        let encrypted = plain.leases.iter().map(|lease| lease.space.clone()).collect();
        let edges = [self.chain.family.edge()].into();
        NodeTables { wire: WireTable { ifindex: Some(self.node_end.ifindex), encrypted, edges }, ..plain }
    }

    fn edge_tables(&self) -> EdgeTables {
        let plain = self.chain.edge_tables();
        let encrypted = plain.leases.iter().map(|lease| lease.space.clone()).collect();
        let wire = WireTable { ifindex: Some(self.edge_end.ifindex), encrypted, ..WireTable::default() };
        EdgeTables { wire, ..plain }
    }

    pub(super) fn apply(&mut self) {
        let (node_tables, edge_tables) = (self.node_tables(), self.edge_tables());
        let outcome = self.chain.node.enter(|| self.node.apply(&node_tables));
        outcome.unwrap_or_else(|error| panic!("{}", error_chain(&error)));
        let outcome = self.chain.edge.enter(|| self.edge.apply(&edge_tables));
        outcome.unwrap_or_else(|error| panic!("{}", error_chain(&error)));
        self.chain.node.enter(|| self.node_end.keeper.open());
        self.chain.edge.enter(|| self.edge_end.keeper.open());
    }

    pub(super) fn drops(&self) -> String {
        format!("node {:?}, edge {:?}", self.node.counters().unwrap().drops, self.edge.counters().unwrap().drops)
    }

    /// Whether datagrams get through: the first ones may wait for a handshake.
    pub(super) fn gets_through(&self) -> bool {
        (0..TRY_COUNT_MAX).any(|_| self.is_answered())
    }

    /// Whether one datagram to the server comes back.
    fn is_answered(&self) -> bool {
        let server =
            self.chain.server.enter(|| std::net::UdpSocket::bind((self.chain.family.server(), 7_200)).unwrap());
        let client = self.chain.workload.enter(|| std::net::UdpSocket::bind((self.chain.client, 0)).unwrap());
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(answer_time())).unwrap();
        }
        client.send_to(b"there", server.local_addr().unwrap()).unwrap();
        let mut buffer = [0; 16];
        let Ok((_, from)) = server.recv_from(&mut buffer) else { return false };
        server.send_to(b"back", from).unwrap();
        client.recv_from(&mut buffer).is_ok()
    }
}

/// What passes on a device: a file that tcpdump writes.
pub(super) struct Capture {
    process: Option<super::namespace::Process>,
    file: tempfile::NamedTempFile,
}

impl Capture {
    pub(super) fn start(namespace: &Namespace, device: &str) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        let line = format!("tcpdump -Z root -U -s 0 -B 16384 -i {device} -w {}", file.path().display());
        let process = Some(namespace.start(&line));
        let deadline = Instant::now() + Duration::from_secs(10);
        while file.as_file().metadata().unwrap().len() < 24 {
            assert!(Instant::now() < deadline, "tcpdump does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { process, file }
    }

    /// The frames, once nothing more comes.
    pub(super) fn frames(mut self) -> Vec<Vec<u8>> {
        let mut length = 0;
        loop {
            std::thread::sleep(answer_time());
            let now = self.file.as_file().metadata().unwrap().len();
            if now == length {
                break;
            }
            length = now;
        }
        drop(self.process.take());
        let bytes = std::fs::read(self.file.path()).unwrap();
        let mut rest = &bytes[24..];
        let mut frames = Vec::new();
        while let Some(header) = rest.first_chunk::<16>() {
            let length = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]) as usize;
            let Some(frame) = rest.get(16..16 + length) else { break };
            frames.push(frame.to_vec());
            rest = &rest[16 + length..];
        }
        frames
    }
}

/// Some of what is transferred, at a place that no packet's end is likely to cut.
fn some_content() -> Vec<u8> {
    (100_000..100_024_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn holds(frames: &[Vec<u8>], needle: &[u8]) -> bool {
    frames.iter().any(|frame| frame.windows(needle.len()).any(|window| window == needle))
}

/// Neither address resolution nor WireGuard.
fn is_foreign(frame: &&Vec<u8>) -> bool {
    const ICMPV6: u8 = 58;
    let port_at = match (u16::from_be_bytes([frame[12], frame[13]]), frame[14 + 9], frame[14 + 6]) {
        (0x0806, ..) | (0x86dd, _, ICMPV6) => return false,
        (0x0800, 17, _) => 14 + 20,
        (0x86dd, _, 17) => 14 + 40,
        // MLD and the like of the kernels have a hop-by-hop header.
        (0x86dd, _, 0) => return false,
        _ => return true,
    };
    let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    port(port_at) != LISTEN_PORT || port(port_at + 2) != LISTEN_PORT
}

fn carries_everything_and_shows_nothing(family: Family, at_node: Wireguard, at_edge: Wireguard) {
    let encrypted = Encrypted::start(family, at_node, at_edge);
    let underlay = Capture::start(&encrypted.chain.node, "u0");
    let outside = Capture::start(&encrypted.chain.server, "s0");
    exchange(&encrypted.chain);
    transfer(&encrypted.chain, &content());
    assert_right_sums(&encrypted.chain, "encrypted");
    let (underlay, outside) = (underlay.frames(), outside.frames());
    let foreign: Vec<_> = underlay.iter().filter(is_foreign).collect();
    assert!(foreign.is_empty(), "{family:?}: {} frames beside WireGuard: {:02x?}", foreign.len(), foreign[0]);
    assert!(underlay.len() > 100, "{family:?}: {} frames", underlay.len());
    assert!(holds(&outside, &some_content()), "{family:?}: the capture outside lacks what was carried");
    assert!(!holds(&underlay, &some_content()), "{family:?}: the underlay shows what is carried");
    let handshakes = encrypted.chain.edge.enter(|| encrypted.edge_end.keeper.states());
    assert!(handshakes[0].since_handshake.is_some(), "{handshakes:?}");
    let drops = encrypted.drops();
    assert_eq!(drops, "node {}, edge {}", "{family:?}");
}

/// Where the processor is emulated (xtask says so) what the host has shown needn't be shown again: each byte takes its time.
pub(super) fn is_emulated() -> bool {
    std::env::var_os("PERSONA_TEST_EMULATED").is_some()
}

#[test]
fn user_space_wireguard_carries_everything_and_shows_nothing() {
    if !is_privileged() || is_emulated() {
        return;
    }
    for family in Family::BOTH {
        carries_everything_and_shows_nothing(family, Wireguard::Userspace, Wireguard::Userspace);
    }
}

#[test]
fn the_kernels_wireguard_and_ours_understand_each_other() {
    if interop::lacks(WIREGUARD) {
        return;
    }
    use Wireguard::{Kernel, Userspace};
    for (family, at_node, at_edge) in [(Family::V4, Kernel, Userspace), (Family::V6, Userspace, Kernel)] {
        carries_everything_and_shows_nothing(family, at_node, at_edge);
    }
}

#[test]
fn an_encrypted_lease_goes_nowhere_in_clear() {
    if !is_privileged() {
        return;
    }
    for family in Family::BOTH.into_iter().take(if is_emulated() { 1 } else { 2 }) {
        let mut encrypted = Encrypted::start(family, Wireguard::Userspace, Wireguard::Userspace);
        assert!(encrypted.gets_through(), "{}", encrypted.drops());
        // A node that knows nothing of encryption is refused by the edge …
        let plain = encrypted.chain.node_tables();
        encrypted.chain.node.enter(|| encrypted.node.apply(&plain)).unwrap();
        assert!(!encrypted.is_answered());
        let drops = encrypted.edge.counters().unwrap().drops;
        assert_eq!(drops.get("unencrypted"), Some(&1), "{family:?}: {drops:?}");
        // … and an edge that doesn't is refused by the node.
        encrypted.apply();
        let number = number_by_wire(EdgeNumber(1)).unwrap();
        encrypted.node.set_edge_liveness(number, true, Generation(1)).unwrap();
        let tables = encrypted.edge_tables();
        let plain = EdgeTables { wire: WireTable { encrypted: Default::default(), ..tables.wire.clone() }, ..tables };
        encrypted.chain.edge.enter(|| encrypted.edge.apply(&plain)).unwrap();
        assert!(!encrypted.is_answered());
        assert_eq!(encrypted.node.counters().unwrap().drops.get("unencrypted"), Some(&1), "{}", encrypted.drops());
        // Without a tunnel nothing leaves at all.
        let tables = encrypted.node_tables();
        let none = NodeTables { wire: WireTable { ifindex: None, ..tables.wire.clone() }, ..tables };
        encrypted.chain.node.enter(|| encrypted.node.apply(&none)).unwrap();
        let underlay = Capture::start(&encrypted.chain.node, "u0");
        assert!(!encrypted.is_answered());
        assert_eq!(encrypted.node.counters().unwrap().drops.get("no-edge"), Some(&1), "{}", encrypted.drops());
        let foreign = underlay.frames();
        assert_eq!(foreign.iter().filter(is_foreign).count(), 0, "{family:?}");
    }
}

#[test]
fn a_restarted_edge_is_heard_again_and_its_death_is_seen_through_the_tunnel() {
    if !is_privileged() || is_emulated() {
        return;
    }
    for family in Family::BOTH {
        let mut encrypted = Encrypted::start(family, Wireguard::Userspace, Wireguard::Userspace);
        let (sender, verdicts) = mpsc::channel();
        // Whoever waits for verdicts may have given up.
        let tell = Box::new(move |_, verdict: Verdict| sender.send(verdict.alive).unwrap_or_default());
        let (source, ifindex) = (family.node(), encrypted.node_end.ifindex);
        let prober = encrypted.chain.node.enter(|| Prober::start_through(source, ifindex, tell)).unwrap();
        let target = Target { edge: EdgeNumber(1), address: family.edge(), believed: None };
        prober.set_targets(ProbeItem::default(), &[target]);
        // On a busy machine probes may be late, and a verdict more comes.
        let becomes = |is_alive| while verdicts.recv_timeout(VERDICT_TIME).expect("a verdict") != is_alive {};
        becomes(true);
        assert!(encrypted.gets_through(), "{}", encrypted.drops());
        let of_node = encrypted.node_end.far_end();
        let edge = Keeper::new(WireConfig::edge(Wireguard::Off, None, encrypted.edge_end.directory.path().to_owned()));
        drop(std::mem::replace(&mut encrypted.edge_end.keeper, edge));
        // An edge without its tunnel is dead to encrypted personas.
        becomes(false);
        encrypted.edge_end.restart(&encrypted.chain.edge, of_node);
        encrypted.apply();
        becomes(true);
        assert!(encrypted.gets_through(), "{}", encrypted.drops());
        transfer(&encrypted.chain, &content());
    }
}
