//! A tunnel's key changes under traffic: nothing is lost where WireGuard is in user space, and afterwards the key before is
//! worth nothing.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use persona_ctl::wire::{LISTEN_PORT, PublicKey, Wireguard, ask_for_another_key};

use super::path::Family;
use super::wire_live::{Capture, Encrypted, is_emulated};
use super::world::is_privileged;
use crate::peers::interop::{self, WIREGUARD};

/// Echoes a second.
const ECHOES_PER_SEC: u32 = 200;
/// How often a role's pass would come.
const PASS_INTERVAL: Duration = Duration::from_millis(200);
/// How long a change may take: the kernel's device waits thirty seconds.
const CHANGE_TIME: Duration = Duration::from_secs(60);
/// How long the last echoes may be under way.
const TRAIL_TIME: Duration = Duration::from_secs(2);
/// Where the server echoes.
const ECHO_PORT: u16 = 7_300;
/// Echoes that may be lost where an end is the kernel's, on a machine that is emulated: a second's.
const KERNEL_LOSS_MAX: u64 = 200;

/// Who changes its key.
#[derive(Debug, Clone, Copy)]
enum Who {
    Node,
    Edge,
}

/// Numbered datagrams from the workload to the server and back.
struct Echo {
    stop: Arc<AtomicBool>,
    threads: [JoinHandle<u64>; 2],
    server: JoinHandle<()>,
}

impl Echo {
    fn start(encrypted: &Encrypted) -> Self {
        let chain = &encrypted.chain;
        let place = (chain.family.server(), ECHO_PORT);
        let server = chain.server.enter(|| UdpSocket::bind(place).unwrap());
        let client = chain.workload.enter(|| UdpSocket::bind((chain.client, 0)).unwrap());
        client.connect(place).unwrap();
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        }
        let stop = Arc::new(AtomicBool::new(false));
        let sender = std::thread::spawn({
            let (socket, stop) = (client.try_clone().unwrap(), Arc::clone(&stop));
            move || send(&socket, &stop)
        });
        let receiver = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || count(&client, &stop)
        });
        let answering = Arc::clone(&stop);
        Self { stop, threads: [sender, receiver], server: std::thread::spawn(move || answer(&server, &answering)) }
    }

    /// How many were sent, and how many of them did not come back.
    fn finish(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let [sent, returned] = self.threads.map(|thread| thread.join().unwrap());
        self.server.join().unwrap();
        (sent, sent - returned)
    }
}

fn send(socket: &UdpSocket, stop: &AtomicBool) -> u64 {
    let start = Instant::now();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let due = start + Duration::from_secs(1) / ECHOES_PER_SEC * number as u32;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        socket.send(&u64::to_be_bytes(number)).unwrap();
        number += 1;
    }
    number
}

/// Goes on for a while after the end, for what is still under way.
fn until_trail(stop: &AtomicBool, mut receive: impl FnMut()) {
    let mut ended = None;
    while ended.is_none_or(|ended: Instant| ended.elapsed() < TRAIL_TIME) {
        receive();
        if stop.load(Ordering::Relaxed) {
            ended.get_or_insert_with(Instant::now);
        }
    }
}

fn count(socket: &UdpSocket, stop: &AtomicBool) -> u64 {
    let mut seen = std::collections::HashSet::new();
    until_trail(stop, || {
        let mut buffer = [0; 8];
        if socket.recv(&mut buffer).is_ok() {
            seen.insert(buffer);
        }
    });
    seen.len() as u64
}

fn answer(socket: &UdpSocket, stop: &AtomicBool) {
    until_trail(stop, || {
        let mut buffer = [0; 8];
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            // A lost answer is what the client counts.
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
}

/// Has one end change its key, and tells the other what the manager would; the new key.
fn change_key(encrypted: &mut Encrypted, who: Who) -> PublicKey {
    let Encrypted { chain, node_end, edge_end, .. } = encrypted;
    let (own, other, own_place, other_place) = match who {
        Who::Node => (node_end, edge_end, &chain.node, &chain.edge),
        Who::Edge => (edge_end, node_end, &chain.edge, &chain.node),
    };
    let before = ask_for_another_key(own.directory.path()).unwrap();
    let deadline = Instant::now() + CHANGE_TIME;
    loop {
        own_place.enter(|| own.keeper.turn_keys());
        let far_end = own.far_end();
        other_place.enter(|| other.keeper.set_far_ends(&[far_end]));
        if far_end.key != before {
            assert_eq!(far_end.next, None);
            return far_end.key;
        }
        assert!(Instant::now() < deadline, "{who:?}: the key is the same after {CHANGE_TIME:?}: {far_end:?}");
        std::thread::sleep(PASS_INTERVAL);
    }
}

/// WireGuard's first messages: who begins a handshake.
fn greeting_count(frames: &[Vec<u8>]) -> usize {
    let payload = |frame: &[u8]| {
        let l4_at = match [frame[12], frame[13]] {
            [0x08, 0x00] if frame[23] == 17 => 34,
            [0x86, 0xdd] if frame[20] == 17 => 54,
            _ => return None,
        };
        let port = u16::from_be_bytes([frame[l4_at + 2], frame[l4_at + 3]]);
        (port == LISTEN_PORT).then(|| frame[l4_at + 8..].to_vec())
    };
    frames.iter().filter_map(|frame| payload(frame)).filter(|payload| payload[..4] == [1, 0, 0, 0]).count()
}

fn changes_lose_nothing(family: Family, (at_node, at_edge): (Wireguard, Wireguard), loss_max: u64) {
    let mut encrypted = Encrypted::start(family, at_node, at_edge);
    assert!(encrypted.gets_through(), "{}", encrypted.drops());
    for who in [Who::Node, Who::Edge] {
        let capture = Capture::start(&encrypted.chain.node, "u0");
        let echo = Echo::start(&encrypted);
        change_key(&mut encrypted, who);
        std::thread::sleep(PASS_INTERVAL);
        let (sent, lost) = echo.finish();
        assert!(sent >= u64::from(ECHOES_PER_SEC), "{sent} sent");
        assert!(lost <= loss_max, "{family:?}, {who:?}: {lost} of {sent} lost; {}", encrypted.drops());
        assert!(greeting_count(&capture.frames()) > 0, "{who:?}: nobody began a handshake under the new key");
    }
}

#[test]
fn a_key_changes_under_traffic_and_nothing_is_lost() {
    if !is_privileged() || is_emulated() {
        return;
    }
    changes_lose_nothing(Family::V4, (Wireguard::Userspace, Wireguard::Userspace), 0);
}

#[test]
fn a_key_changes_with_the_kernels_wireguard_too() {
    if interop::lacks(WIREGUARD) {
        return;
    }
    changes_lose_nothing(Family::V4, (Wireguard::Kernel, Wireguard::Userspace), KERNEL_LOSS_MAX);
}

#[test]
fn after_a_change_the_key_before_is_worth_nothing() {
    if !is_privileged() || is_emulated() {
        return;
    }
    let mut encrypted = Encrypted::start(Family::V6, Wireguard::Userspace, Wireguard::Userspace);
    assert!(encrypted.gets_through(), "{}", encrypted.drops());
    let key_file = encrypted.node_end.directory.path().join("wireguard.key");
    let stolen = std::fs::read(&key_file).unwrap();
    change_key(&mut encrypted, Who::Node);
    let kept = std::fs::read(&key_file).unwrap();
    assert_ne!(stolen, kept);
    for (key, works) in [(&stolen, false), (&kept, true)] {
        std::fs::write(&key_file, key).unwrap();
        let far_end = encrypted.edge_end.far_end();
        encrypted.node_end.restart(&encrypted.chain.node, far_end);
        encrypted.apply();
        assert_eq!(encrypted.gets_through(), works, "{}", encrypted.drops());
    }
}

#[test]
fn a_role_that_is_killed_while_its_key_changes_goes_on_with_the_change() {
    if !is_privileged() || is_emulated() {
        return;
    }
    let mut encrypted = Encrypted::start(Family::V4, Wireguard::Userspace, Wireguard::Userspace);
    assert!(encrypted.gets_through(), "{}", encrypted.drops());
    let before = ask_for_another_key(encrypted.node_end.directory.path()).unwrap();
    encrypted.node_end.keeper.turn_keys();
    let announced = encrypted.node_end.far_end();
    assert!(announced.key == before && announced.next.is_some());
    encrypted.chain.edge.enter(|| encrypted.edge_end.keeper.set_far_ends(&[announced]));
    let far_end = encrypted.edge_end.far_end();
    encrypted.node_end.restart(&encrypted.chain.node, far_end);
    encrypted.apply();
    assert_eq!(encrypted.node_end.far_end(), announced, "both keys are on disk");
    assert!(encrypted.gets_through(), "{}", encrypted.drops());
    assert_eq!(Some(change_key(&mut encrypted, Who::Node)), announced.next);
    assert!(encrypted.gets_through(), "{}", encrypted.drops());
}
