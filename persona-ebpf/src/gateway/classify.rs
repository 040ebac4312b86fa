//! What a packet is to the gateway, told by as few bytes as possible: most packets on a device are none of its own.

use persona_common::addr::{Address6, mapped};
use persona_common::drop::DropReason;
use persona_common::flow::{ICMP, TCP, UDP};
use persona_common::gateway::Endpoint;
use persona_common::record::ICMPV6;
use persona_ebpf::extension::walk;
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{
    ETHERNET_LENGTH, FRAGMENT_MASK, FRAGMENT_OFFSET_MASK, IPV4_LENGTH, IPV6_LENGTH, Ipv4, Ipv6,
};
use persona_ebpf::packet::Part;
use persona_ebpf::packet6::READ_LENGTH_MAX6;

use crate::maps;
use crate::stage::{Next, pack_stage, whole};

/// What an IPv4 packet is.
#[inline(never)]
pub fn run4<F: Frame>(frame: &F) -> u64 {
    pack_stage(classify4(whole(frame)))
}

#[inline(always)]
fn classify4<F: Frame>(frame: &F) -> Result<Next, DropReason> {
    let pass = Ok(Next::verdict(F::PASS));
    let Some(ip) = frame.read::<Ipv4>(ETHERNET_LENGTH) else { return pass };
    let header_length = (ip.version_length & 15) as usize * 4;
    if ip.version_length >> 4 != 4 || header_length < IPV4_LENGTH {
        return pass;
    }
    let (source, destination) = (mapped(ip.source), mapped(ip.destination));
    let part = match ip.fragment {
        fragment if fragment & FRAGMENT_MASK == 0 => Part::Whole,
        fragment if fragment & FRAGMENT_OFFSET_MASK == 0 => Part::First,
        _ => Part::Later,
    };
    classify(frame, &source, &destination, ip.protocol, part, ETHERNET_LENGTH + header_length)
}

/// What an IPv6 packet is.
#[inline(never)]
pub fn run6<F: Frame>(frame: &F) -> u64 {
    pack_stage(classify6(whole(frame)))
}

#[inline(always)]
fn classify6<F: Frame>(frame: &F) -> Result<Next, DropReason> {
    let pass = Ok(Next::verdict(F::PASS));
    let Some(ip) = frame.read::<Ipv6>(ETHERNET_LENGTH) else { return pass };
    if !ip.is_version_6() {
        return pass;
    }
    if ip.next_header == TCP || ip.next_header == UDP || ip.next_header == ICMPV6 {
        let l4_at = ETHERNET_LENGTH + IPV6_LENGTH;
        return classify(frame, &ip.source, &ip.destination, ip.next_header, Part::Whole, l4_at);
    }
    frame.linearise(ETHERNET_LENGTH + READ_LENGTH_MAX6);
    let length = IPV6_LENGTH + u16::from_be(ip.payload_length) as usize;
    let headers = match walk(frame, ETHERNET_LENGTH, ip.next_header, length) {
        Ok(headers) => headers,
        // Refused only where it is ours.
        Err(reason) => return if maps::vip(&ip.destination).is_some() { Err(reason) } else { pass },
    };
    let l4_at = ETHERNET_LENGTH + headers.length();
    classify(frame, &ip.source, &ip.destination, headers.protocol(), headers.part(), l4_at)
}

#[inline(always)]
fn classify<F: Frame>(
    frame: &F,
    source: &Address6,
    destination: &Address6,
    protocol: u8,
    part: Part,
    l4_at: usize,
) -> Result<Next, DropReason> {
    let pass = Ok(Next::verdict(F::PASS));
    if part == Part::Later {
        // It has no ports: whose it is can't be told.
        return if maps::vip(destination).is_some() { Err(DropReason::Fragment) } else { pass };
    }
    if protocol == ICMP || protocol == ICMPV6 {
        let is_to_service = maps::vip(destination).is_some();
        return Ok(if is_to_service { Next::ICMP_TO_SERVICE } else { Next::ICMP_FROM_INSTANCE });
    }
    if protocol != TCP && protocol != UDP {
        return pass;
    }
    let Some(ports) = frame.read::<[u16; 2]>(l4_at) else { return pass };
    let protocol = protocol as u16;
    let service = Endpoint { address: *destination, port: u16::from_be(ports[1]), protocol };
    if let Some(index) = maps::service_index(&service) {
        return if part == Part::Whole { Ok(Next::to_service(index)) } else { Err(DropReason::Fragment) };
    }
    let instance = Endpoint { address: *source, port: u16::from_be(ports[0]), protocol };
    match maps::instance_index(&instance) {
        Some(index) => Ok(Next::from_instance(index)),
        None => pass,
    }
}
