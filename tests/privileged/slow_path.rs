//! The slow path with its real device and raw sockets: frames are put on the device as a program's redirect would, and
//! what leaves is received where the tunnel ends.
#![expect(unsafe_code, reason = "AF_PACKET sockets and UDP_NO_CHECK6_RX have no safe form in the standard library")]

use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use persona_common::drop::DropReason;
use persona_common::probe::GENEVE_PORT;
use persona_ctl::slow_path::{
    Facts, Fate, Fates, Hops, Key, LeaseFacts, Outer, Rewrite, Role, SlowPath, SlowPathCounters, Way,
};
use persona_tests::ctl::patient;

use crate::netlink::{in_namespace, ip};

const LEASED: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const REMOTE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
/// linux/udp.h.
const UDP_NO_CHECK6_RX: libc::c_int = 102;
const WAIT: u8 = 2;
const VNI: u32 = 0x0a_0b0c;

/// How long what a test waits for may take.
const STEP_TIME: Duration = Duration::from_secs(20);

/// Everything goes to one tunnel end, once it is told so.
struct Scripted {
    is_known: Arc<AtomicBool>,
    fate: Fate,
}

impl Fates for Scripted {
    fn find(&mut self, key: &Key) -> Option<Fate> {
        assert_eq!(key.way, Way::Outward(300));
        self.is_known.load(Ordering::Relaxed).then(|| self.fate.clone())
    }
}

fn tunnel(local: IpAddr) -> Fate {
    let rewrite =
        Rewrite { source: Some(LEASED.into()), id: Some(5 << 10 | 1), hops: Hops::Count, ..Rewrite::default() };
    let outer = Outer { vni: VNI, ..Outer::new(local, local, 0xc001) };
    Fate::Tunnel { rewrite, outer, mtu: 1_400, class: 0 }
}

/// Says that it was asked, and keeps the slow path's thread until it may go on. Knows no first fragment.
struct Held {
    is_asked: Sender<()>,
    goes_on: Receiver<()>,
}

impl Fates for Held {
    fn find(&mut self, _key: &Key) -> Option<Fate> {
        // Once the test's ends are gone there is nobody to tell, and nothing to wait for.
        let _ = self.is_asked.send(());
        let _ = self.goes_on.recv();
        None
    }
}

fn slow_path(is_known: &Arc<AtomicBool>, fate: Fate) -> (SlowPath, u32) {
    start(Box::new(Scripted { is_known: Arc::clone(is_known), fate }))
}

fn start(fates: Box<dyn Fates>) -> (SlowPath, u32) {
    let facts = LeaseFacts { mtu: 1_400, class: 0, wire_ifindex: 0 };
    let mut slow_path = SlowPath::new(Role::Node, fates);
    let mut all = Facts::default();
    all.insert(LEASED, 10, 5, facts);
    slow_path.set_facts(all);
    let ifindex = slow_path.ensure(|_| true).unwrap();
    (slow_path, ifindex)
}

/// Puts a frame on a device, as a redirect does.
fn put(ifindex: u32, frame: &[u8]) {
    put_all(ifindex, &[frame.to_vec()]);
}

/// Puts frames on a device one after the other, by one socket: the end of each would wait for the kernel's readers, and
/// a hundred of them take longer than a fragment may wait.
fn put_all(ifindex: u32, frames: &[Vec<u8>]) {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0,
        sll_ifindex: ifindex as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0; 8],
    };
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: socket takes three integers.
    let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    assert!(socket >= 0, "{}", io::Error::last_os_error());
    // SAFETY: a descriptor that was just made and that nobody else has.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    for frame in frames {
        let (bytes, fd) = (frame.as_ptr().cast(), socket.as_raw_fd());
        // SAFETY: frame and address live through the call, with their lengths.
        let sent = unsafe { libc::sendto(fd, bytes, frame.len(), 0, (&raw const address).cast(), length) };
        assert_eq!(sent, frame.len() as isize, "{}", io::Error::last_os_error());
    }
}

/// The end of tunnels, which takes zero checksums.
fn tunnel_end(local: IpAddr) -> UdpSocket {
    let socket = UdpSocket::bind((local, GENEVE_PORT)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    if local.is_ipv6() {
        let on: libc::c_int = 1;
        let length = size_of_val(&on) as libc::socklen_t;
        // SAFETY: an open descriptor, and a value of the length given.
        let outcome = unsafe {
            libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_UDP, UDP_NO_CHECK6_RX, (&raw const on).cast(), length)
        };
        assert_eq!(outcome, 0, "{}", io::Error::last_os_error());
    }
    socket
}

/// An IPv4 packet from the leased address; the checksum is the slow path's business.
fn inner(id: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    packet.extend_from_slice(&id.to_be_bytes());
    packet.extend_from_slice(&flags.to_be_bytes());
    packet.extend_from_slice(&[64, 17, 0, 0]);
    packet.extend_from_slice(&LEASED.octets());
    packet.extend_from_slice(&REMOTE.octets());
    packet.extend_from_slice(payload);
    packet
}

/// A frame of the slow path's device, lengths and checksums of the outer headers left out: they do not count there.
fn frame(source: IpAddr, destination: IpAddr, [control, reserved]: [u8; 2], vni: u32, inner: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 12];
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            frame.extend_from_slice(&[8, 0, 0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0]);
            frame.extend_from_slice(&source.octets());
            frame.extend_from_slice(&destination.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            frame.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 17, 64]);
            frame.extend_from_slice(&source.octets());
            frame.extend_from_slice(&destination.octets());
        }
        _ => panic!("two families"),
    }
    frame.extend_from_slice(&0xc001_u16.to_be_bytes());
    frame.extend_from_slice(&GENEVE_PORT.to_be_bytes());
    frame.extend_from_slice(&[0, 0, 0, 0, 0, control, 8, 0]);
    frame.extend_from_slice(&vni.to_be_bytes()[1..]);
    frame.push(reserved);
    frame.extend_from_slice(inner);
    frame
}

/// What arrives in tunnels, until every byte of `length` is there: (offset, payload) in order of arrival.
fn receive(socket: &UdpSocket, length: usize) -> Vec<(usize, Vec<u8>)> {
    let mut pieces = Vec::new();
    let mut buffer = [0; 65_535];
    while pieces.iter().map(|(_, payload): &(usize, Vec<u8>)| payload.len()).sum::<usize>() < length {
        let (count, from) = socket.recv_from(&mut buffer).unwrap();
        let (geneve, packet) = buffer[..count].split_at(8);
        assert_eq!((from.port(), &geneve[4..7]), (0xc001, &VNI.to_be_bytes()[1..]));
        assert!(packet.len() <= 1_400 && packet[12..16] == LEASED.octets());
        let sum: u32 = packet[..20].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "the header's checksum is right");
        let id = u16::from_be_bytes([packet[4], packet[5]]);
        assert_eq!(id >> 10, 5, "the identification lies in the block");
        let offset = usize::from(u16::from_be_bytes([packet[6], packet[7]]) & 0x1fff) * 8;
        pieces.push((offset, packet[20..].to_vec()));
    }
    pieces
}

fn wait_for(slow_path: &SlowPath, is_there: impl Fn(&SlowPathCounters) -> bool) -> SlowPathCounters {
    let deadline = Instant::now() + patient(STEP_TIME);
    loop {
        let counters = slow_path.counters();
        if is_there(&counters) {
            return counters;
        }
        assert!(Instant::now() < deadline, "{counters:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn locals() -> [IpAddr; 2] {
    ip("address add 2001:db8::1/128 dev lo nodad");
    ["127.0.0.1", "2001:db8::1"].map(|text| text.parse().unwrap())
}

#[test]
fn packets_that_are_too_big_arrive_in_pieces_over_both_underlays() {
    in_namespace(async |_| {
        for local in locals() {
            let (slow_path, ifindex) = slow_path(&Arc::default(), tunnel(local));
            let socket = tunnel_end(local);
            let mut payload: Vec<u8> = (0..60_000_u32).map(|at| (at % 251) as u8).collect();
            payload[..2].copy_from_slice(&(5_u16 << 10 | 77).to_be_bytes());
            put(ifindex, &frame(local, local, [0, 0], VNI, &inner(5 << 10 | 9, 0, &payload)));
            let pieces = receive(&socket, payload.len());
            let again: Vec<u8> = pieces.iter().flat_map(|(_, payload)| payload.clone()).collect();
            assert!(again == payload, "the pieces are the packet");
            let counters = wait_for(&slow_path, |counters| counters.cut == 1);
            assert_eq!((counters.pieces as usize, counters.drops.len()), (pieces.len(), 0));
        }
    });
}

#[test]
fn fragments_wait_for_their_first_and_leave_in_order() {
    in_namespace(async |_| {
        for (local, subject) in locals().into_iter().zip(["0.0.1.44", "::ffff:0.0.1.44"]) {
            let is_known = Arc::default();
            let (slow_path, ifindex) = slow_path(&is_known, tunnel(local));
            let socket = tunnel_end(local);
            let subject: IpAddr = subject.parse().unwrap();
            let packets = [300_u16, 100, 200].map(|offset| inner(1, 0x2000 | offset, &[offset as u8; 800]));
            put_all(ifindex, &packets.map(|packet| frame(subject, local, [0x80, WAIT], 0, &packet)));
            wait_for(&slow_path, |counters| counters.waited == 3);
            is_known.store(true, Ordering::Relaxed);
            let offsets: Vec<usize> = receive(&socket, 2_400).iter().map(|(offset, _)| *offset).collect();
            assert_eq!(offsets, [2_400, 800, 1_600], "in order of arrival");
            assert_eq!(wait_for(&slow_path, |counters| counters.released == 3).drops.len(), 0);
        }
    });
}

#[test]
fn what_waits_in_vain_and_what_is_absurd_is_counted() {
    in_namespace(async |_| {
        let [local, _] = locals();
        let (slow_path, ifindex) = slow_path(&Arc::default(), tunnel(local));
        let subject: IpAddr = "0.0.1.44".parse().unwrap();
        let packets = [
            inner(1, 0x2000 | 100, &[0; 800]),
            inner(1, 0x2000 | 150, &[0; 800]),
            inner(1, 0x2000 | 300, &[0; 801]),
            inner(1, 0x1fff, &[0; 800]),
        ];
        put_all(ifindex, &packets.map(|packet| frame(subject, local, [0x80, WAIT], 0, &packet)));
        let counters = wait_for(&slow_path, |counters| counters.expired == 1);
        let count = |reason: DropReason| counters.drops.get(reason.name()).copied();
        assert_eq!(count(DropReason::FragmentTimeout), Some(1));
        assert_eq!(count(DropReason::Fragment), Some(1), "it overlaps the one that waits");
        assert_eq!(count(DropReason::Malformed), Some(2));
    });
}

/// What comes while the thread is held waits in the device, and is taken off at once when it goes on: however long the
/// frames took to come, none of them has waited too long before the last is there.
#[test]
fn what_the_queue_has_no_room_for_is_counted() {
    in_namespace(async |_| {
        let [local, _] = locals();
        let (asked, is_asked) = channel();
        let (go_on, goes_on) = channel::<()>();
        let (slow_path, ifindex) = start(Box::new(Held { is_asked: asked, goes_on }));
        // Gone before the slow path is, also when an assertion fails: its end waits for its thread.
        let held = (is_asked, go_on);
        let subject: IpAddr = "0.0.1.44".parse().unwrap();
        let large = |id| frame(subject, local, [0x80, WAIT], 0, &inner(id, 0x2000 | 100, &[7; 32_000]));
        put(ifindex, &large(0));
        held.0.recv().unwrap();
        // Together they are more than 4 MiB.
        put_all(ifindex, &(1..=140).map(large).collect::<Vec<_>>());
        drop(held);
        let full = DropReason::FragmentQueueFull.name();
        let counters = wait_for(&slow_path, |counters| counters.drops.get(full).is_some_and(|count| *count >= 5));
        assert!(counters.waited <= (4 << 20) / 32_000, "{counters:?}");
        wait_for(&slow_path, |counters| counters.expired == counters.waited);
        put(ifindex, &frame(subject, local, [0x80, WAIT], 0, &inner(200, 0x2000 | 100, &[7; 800])));
        wait_for(&slow_path, |after| after.waited == counters.waited + 1);
    });
}

#[test]
fn a_device_that_is_taken_away_is_made_again_and_goes_with_its_owner() {
    in_namespace(async |netlink| {
        let (mut slow_path, before) = slow_path(&Arc::default(), tunnel("127.0.0.1".parse().unwrap()));
        ip("link del persona-slow");
        let deadline = Instant::now() + patient(STEP_TIME);
        while slow_path.ifindex().is_some() {
            assert!(Instant::now() < deadline, "the thread notices");
            std::thread::sleep(Duration::from_millis(10));
        }
        let after = slow_path.ensure(|_| true).unwrap();
        assert_ne!(after, before);
        let again = slow_path.ensure(|ifindex| ifindex != after).unwrap();
        assert_ne!(again, after, "one that somebody has set down is made again too");
        drop(slow_path);
        let links = netlink.links().await.unwrap();
        assert!(links.iter().all(|link| link.name != "persona-slow"), "{links:?}");
    });
}
