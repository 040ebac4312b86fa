//! Answers to neighbour solicitations (RFC 4861 §7.2.4) for addresses that no interface of the host has.

use persona_common::addr::Address6;
use persona_common::checksum::fold;
use persona_common::drop::DropReason;
use persona_common::record::ICMPV6;

use crate::frame::Frame;
use crate::header::{ETHERNET_LENGTH, ETHERTYPE_IPV6, Ethernet, IPV6_LENGTH, Ipv6};
use crate::message::halves;

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

/// Only neighbours send and believe it (RFC 4861 §7.1.1).
const HOP_LIMIT: u8 = 255;

/// Solicited and override.
const FLAG_SOLICITED: u8 = 0x40;
const FLAG_OVERRIDE: u8 = 0x20;

/// The option with the target's hardware address, and its length in units of eight bytes.
const TARGET_ADDRESS: [u8; 2] = [2, 1];

/// `ff02::1` and the hardware address of all nodes.
const ALL_NODES: Address6 = [0xff02_0000u32.to_be(), 0, 0, 1u32.to_be()];
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

/// A solicitation up to its options.
#[repr(C)]
#[derive(Clone, Copy)]
struct Solicitation {
    kind: u8,
    code: u8,
    checksum: u16,
    reserved: u32,
    target: Address6,
}

/// An advertisement with the target's hardware address.
#[repr(C)]
#[derive(Clone, Copy)]
struct Advertisement {
    kind: u8,
    code: u8,
    checksum: u16,
    flags: [u8; 4],
    target: Address6,
    option: [u8; 2],
    mac: [u8; 6],
}

const _: () = assert!(size_of::<Solicitation>() == 24 && size_of::<Advertisement>() == 32);

/// The address that a frame asks for, if it is a neighbour solicitation.
#[inline(always)]
pub fn solicited<F: Frame>(frame: &F) -> Option<Address6> {
    let ip: Ipv6 = frame.read(ETHERNET_LENGTH)?;
    if ip.next_header != ICMPV6 || ip.hop_limit != HOP_LIMIT || !ip.is_version_6() {
        return None;
    }
    let solicitation: Solicitation = frame.read(ETHERNET_LENGTH + IPV6_LENGTH)?;
    let is_whole = u16::from_be(ip.payload_length) as usize >= size_of::<Solicitation>();
    (solicitation.kind == SOLICITATION && solicitation.code == 0 && is_whole).then_some(solicitation.target)
}

/// Turns a solicitation of `target` into the advertisement that it is at `mac`, and sends it back.
#[inline(always)]
pub fn advertise<F: Frame>(frame: &F, target: &Address6, mac: [u8; 6]) -> Result<i32, DropReason> {
    let ethernet: Ethernet = frame.read(0).ok_or(DropReason::Malformed)?;
    let asked: Ipv6 = frame.read(ETHERNET_LENGTH).ok_or(DropReason::Malformed)?;
    // Without a source somebody looks whether the address is free: all are told, nobody in particular.
    let is_anonymous = asked.source == [0; 4];
    let destination = if is_anonymous { ALL_NODES } else { asked.source };
    let to_mac = if is_anonymous { ALL_NODES_MAC } else { ethernet.source };
    let ip = Ipv6 {
        version_class_label: (6u32 << 28).to_be(),
        payload_length: (size_of::<Advertisement>() as u16).to_be(),
        next_header: ICMPV6,
        hop_limit: HOP_LIMIT,
        source: *target,
        destination,
    };
    let flags = if is_anonymous { FLAG_OVERRIDE } else { FLAG_SOLICITED | FLAG_OVERRIDE };
    let mut advertisement = Advertisement {
        kind: ADVERTISEMENT,
        code: 0,
        checksum: 0,
        flags: [flags, 0, 0, 0],
        target: *target,
        option: TARGET_ADDRESS,
        mac,
    };
    advertisement.checksum = checksum(&ip, &advertisement);
    frame.set_length(ETHERNET_LENGTH + IPV6_LENGTH + size_of::<Advertisement>())?;
    frame.write(0, Ethernet { destination: to_mac, source: mac, kind: ETHERTYPE_IPV6 })?;
    frame.write(ETHERNET_LENGTH, ip)?;
    frame.write(ETHERNET_LENGTH + IPV6_LENGTH, advertisement)?;
    Ok(frame.send_back())
}

#[inline(always)]
fn checksum(ip: &Ipv6, advertisement: &Advertisement) -> u16 {
    let pair = |high: u8, low: u8| u16::from_ne_bytes([high, low]) as u32;
    let mac = &advertisement.mac;
    let mut sum = ip.payload_length as u32
        + pair(0, ICMPV6)
        + pair(advertisement.kind, advertisement.code)
        + pair(advertisement.flags[0], 0)
        + pair(TARGET_ADDRESS[0], TARGET_ADDRESS[1])
        + pair(mac[0], mac[1])
        + pair(mac[2], mac[3])
        + pair(mac[4], mac[5]);
    for at in 0..4 {
        sum += halves(ip.source[at]) + halves(ip.destination[at]) + halves(advertisement.target[at]);
    }
    !fold(sum)
}
