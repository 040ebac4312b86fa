//! The slow path's readers and writers, and what must hold of them for any bytes.

use std::net::IpAddr;
use std::time::{Duration, Instant};

#[path = "../../persona-ctl/src/slow_path/cut.rs"]
mod cut;
#[path = "../../persona-ctl/src/slow_path/frame.rs"]
mod frame;
#[path = "../../persona-ctl/src/slow_path/ip.rs"]
mod ip;
#[path = "../../persona-ctl/src/slow_path/queue.rs"]
mod queue;
#[path = "../../persona-ctl/src/slow_path/rewrite.rs"]
mod rewrite;

use frame::{Handed, Outer};
use ip::{Fragment, Ipv4Header};
use queue::{Queue, Way};
use rewrite::{Hops, Rewrite};

use crate::model::packet::{Packet, Part};
use crate::model::tunnel;

/// Two hardware addresses.
const ETHERNET: [u8; 12] = [2; 12];

/// A frame of the slow path's device, whatever is in it.
pub fn read_frame(frame: &[u8]) {
    match frame::parse(frame) {
        Ok(Handed::TooBig(outer, inner)) => {
            read_inner(inner);
            if outer.source.is_ipv4() == outer.destination.is_ipv4() {
                write_around(&outer, inner);
            }
        }
        Ok(Handed::Waiting(way, inner)) => wait(way, inner),
        Err(_) => {}
    }
}

/// An inner packet, in a tunnel between these.
pub fn tunnel_between(source: IpAddr, destination: IpAddr, entropy_port: u16, inner: &[u8]) {
    write_around(&Outer::new(source, destination, entropy_port), inner);
}

/// What is written is what it was made of, to our own reader and to the tests' model, which knows nothing of ours.
fn write_around(outer: &Outer, inner: &[u8]) {
    let Some(packet) = outer.around(inner) else { return };
    let kind: [u8; 2] = if outer.source.is_ipv4() { [0x08, 0] } else { [0x86, 0xdd] };
    let frame = [&ETHERNET[..], &kind, &packet].concat();
    let read = tunnel::read(&frame).expect("the model reads what was written");
    assert_eq!((read.source, read.destination, read.inner), (outer.source, outer.destination, inner));
    assert_eq!((read.vni, read.entropy_port, read.marker), (outer.vni, outer.entropy_port, outer.reserved));
    assert_eq!(tunnel::read_loosely(&frame).map(|read| read.inner), Some(inner));
    match frame::parse(&frame) {
        Ok(Handed::TooBig(again, same)) => {
            assert_eq!(same, inner);
            assert_eq!(Outer { wire_ifindex: outer.wire_ifindex, ..again }, *outer);
        }
        other => panic!("{other:?}"),
    }
}

/// An IP packet that somebody sent, as both of us read it; what is cut of it is it.
pub fn read_inner(packet: &[u8]) {
    let (fragment, seen) = (Fragment::read(packet), Packet::read(packet));
    if let (Some(fragment), Ok(seen)) = (&fragment, &seen) {
        assert_eq!((fragment.source, fragment.destination), (seen.source, seen.destination));
        assert_eq!((fragment.length, Part::Later), (seen.length, seen.part));
    }
    if let Ok(seen) = &seen {
        seen.is_icmp_error(packet);
        seen.has_right_checksums(packet);
    }
    for mtu in [0, 67, 68, 100, 576, 1_280, 1_400] {
        cut_to(packet, mtu);
    }
    let rewrite = Rewrite {
        source: Some([203, 0, 113, 9].into()),
        destination: None,
        id: Some(7),
        dscp: Some(46),
        hops: Hops::Count,
        clears_flow_label: true,
    };
    let mut changed = packet.to_vec();
    if rewrite.apply(&mut changed).is_ok() {
        assert_eq!(changed.len(), packet.len());
        rewrite::traffic_class(&changed);
    }
    wait(Way::Inward, packet);
}

fn cut_to(packet: &[u8], mtu: usize) {
    let Ok(pieces) = cut::cut(packet, mtu) else { return };
    let whole = Ipv4Header::read(packet).expect("what is cut can be read");
    let mut payload = Vec::new();
    for piece in &pieces {
        assert!(piece.len() <= mtu);
        let header = Ipv4Header::read(piece).expect("a piece can be read");
        assert_eq!(header.total_length, piece.len());
        assert_eq!(header.offset, whole.offset + payload.len(), "pieces follow each other");
        payload.extend_from_slice(&piece[header.header_length..]);
    }
    assert_eq!(payload, packet[whole.header_length..whole.total_length]);
}

/// What waits is let go whole, or after its time.
fn wait(way: Way, packet: &[u8]) {
    let (mut queue, now) = (Queue::default(), Instant::now());
    if queue.push(way, packet, now).is_ok() {
        let keys = queue.keys();
        assert_eq!(keys.len(), 1);
        let taken: Vec<_> = keys.iter().flat_map(|key| queue.take(key)).collect();
        assert!(queue.is_empty());
        assert!(taken.iter().all(|waiting| packet.starts_with(&waiting.packet)));
        queue.push(way, packet, now).expect("there is room again");
        queue.expire(now + Duration::from_secs(10));
        assert!(queue.is_empty());
    }
}
