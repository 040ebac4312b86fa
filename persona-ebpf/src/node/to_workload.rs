//! `to_workload`, leaving the host-side device towards the workload: notes connections that others open to it, and asks the
//! firewall of those that have one.
//!
//! It lets everything else pass. Packets with our mark belong to flows of the persona and are not noted; those of the slow path,
//! which sends by a socket, get the device's VLAN tag here.

use aya_ebpf::programs::TcContext;
use persona_common::PERSONA_MARK;
use persona_common::addr::{Address6, mapped};
use persona_common::drop::DropReason;
use persona_common::flow::{TCP, UDP};
use persona_common::node::{DEVICE_SHARED, Device};
use persona_common::record::RecordKey;
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{
    ETHERNET_LENGTH, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, FRAGMENT_OFFSET_MASK, IPV6_LENGTH, Ipv4, Ipv6,
    TCP_LENGTH, Tcp,
};
use persona_ebpf::tc::skb;

use crate::maps::{self, SOURCES};
use crate::neighbours::{self, Receiver};
use crate::subject_counts::{count_dropped, count_dropped_at, count_opened};
use crate::{classify, firewall, towards, vlan};

/// Who sends to whom.
struct Header {
    source: Address6,
    destination: Address6,
    protocol: u8,
    l4_at: usize,
}

#[inline(always)]
pub fn run(frame: &TcContext) -> Result<i32, DropReason> {
    // SAFETY: fields of the context.
    let (mark, ingress_ifindex) = unsafe { ((*skb(frame)).mark, (*skb(frame)).ingress_ifindex) };
    if mark != PERSONA_MARK {
        judge(frame)?;
    } else if ingress_ifindex == 0 {
        tag(frame)?;
    }
    Ok(TcContext::PASS)
}

/// What comes from a socket of ours has no tag yet.
#[inline(always)]
fn tag(frame: &TcContext) -> Result<(), DropReason> {
    match classify::device(frame) {
        Ok(device) => vlan::push_missing(frame, device.vlan).inspect_err(|_| count_dropped_at(device)),
        // Taken out of the tables a moment ago.
        Err(_) => Ok(()),
    }
}

/// Asks the receiver's firewall; where there is none, connections are noted all the same.
#[inline(always)]
fn judge(frame: &TcContext) -> Result<(), DropReason> {
    let Ok(device) = classify::device(frame) else { return Ok(()) };
    frame.linearise(ETHERNET_LENGTH + IPV6_LENGTH);
    let Some(kind) = frame.read::<Ethernet>(0).map(|ethernet| ethernet.kind) else { return Ok(()) };
    let Some(receiver) = receiver(frame, kind, device) else { return Ok(()) };
    if firewall::judges(receiver.subject) {
        frame.linearise_headers();
        return neighbours::check(frame, kind, &receiver).inspect_err(|_| count_dropped(receiver.subject_index));
    }
    note(frame, &receiver);
    Ok(())
}

#[inline(always)]
fn note(frame: &TcContext, receiver: &Receiver) -> Option<()> {
    // Extension headers are not stepped over: nothing opens a flow with them.
    let header = read(frame)?;
    if header.protocol != TCP && header.protocol != UDP {
        return None;
    }
    frame.linearise(header.l4_at + TCP_LENGTH);
    let ports: [u16; 2] = frame.read(header.l4_at)?;
    let tcp_flags = if header.protocol == TCP { frame.read::<Tcp>(header.l4_at)?.flags } else { 0 };
    let key = RecordKey {
        subject: receiver.subject.number,
        local: header.destination,
        remote: header.source,
        local_port: u16::from_be(ports[1]),
        remote_port: u16::from_be(ports[0]),
        protocol: header.protocol as u32,
    };
    if towards::note(&key, tcp_flags, receiver.subject.verdict(), maps::now_secs()) {
        count_opened(receiver.subject_index);
    }
    Some(())
}

#[inline(always)]
fn read(frame: &TcContext) -> Option<Header> {
    match frame.read::<Ethernet>(0)?.kind {
        ETHERTYPE_IPV4 => {
            let ip: Ipv4 = frame.read(ETHERNET_LENGTH)?;
            if ip.fragment & FRAGMENT_OFFSET_MASK != 0 {
                return None;
            }
            Some(Header {
                source: mapped(ip.source),
                destination: mapped(ip.destination),
                protocol: ip.protocol,
                l4_at: ETHERNET_LENGTH + (ip.version_length & 15) as usize * 4,
            })
        }
        ETHERTYPE_IPV6 => {
            let ip: Ipv6 = frame.read(ETHERNET_LENGTH)?;
            Some(Header {
                source: ip.source,
                destination: ip.destination,
                protocol: ip.next_header,
                l4_at: ETHERNET_LENGTH + size_of::<Ipv6>(),
            })
        }
        _ => None,
    }
}

/// Who is behind the device; a shared one is asked for the destination.
#[inline(always)]
fn receiver(frame: &TcContext, kind: u16, device: &Device) -> Option<Receiver> {
    let subject_index = if device.flags & DEVICE_SHARED == 0 {
        device.subject_index
    } else {
        maps::find(&SOURCES, frame.ifindex(), destination(frame, kind)?)?
    };
    Some(Receiver { subject: maps::subject(subject_index)?, subject_index })
}

#[inline(always)]
fn destination(frame: &TcContext, kind: u16) -> Option<Address6> {
    match kind {
        ETHERTYPE_IPV4 => frame.read::<Ipv4>(ETHERNET_LENGTH).map(|ip| mapped(ip.destination)),
        ETHERTYPE_IPV6 => frame.read::<Ipv6>(ETHERNET_LENGTH).map(|ip| ip.destination),
        _ => None,
    }
}
