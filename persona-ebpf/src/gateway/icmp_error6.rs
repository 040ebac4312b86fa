//! ICMPv6 errors about packets of a service's flows, as [`crate::icmp_error4`] has those of ICMP. Their checksum covers the
//! outer addresses as well.

use persona_common::addr::Address6;
use persona_common::checksum::{fold, replace_word};
use persona_common::drop::DropReason;
use persona_common::flow::{TCP, UDP};
use persona_common::gateway::Endpoint;
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{ETHERNET_LENGTH, IPV6_LENGTH, Ipv6};
use persona_ebpf::packet::{Direction, Kind};
use persona_ebpf::packet6::Packet6;

use crate::rewrite::{End, gained};
use crate::stage::{Next, pack_stage};
use crate::{maps, to_client, to_instance};

/// Where in an ICMPv6 header the checksum stands.
const CHECKSUM_AT: usize = 2;

/// Where in an IPv6 header the addresses stand.
const SOURCE_AT: usize = 8;
const DESTINATION_AT: usize = 24;

/// What an ICMPv6 message to a service's address is: an error of a flow, or the host's.
#[inline(never)]
pub fn enter_to_service<F: Frame>(frame: &F) -> u64 {
    pack_stage(to_service(frame))
}

#[inline(always)]
fn to_service<F: Frame>(frame: &F) -> Result<Next, DropReason> {
    let pass = Ok(Next::verdict(F::PASS));
    let packet = match Packet6::read(frame, ETHERNET_LENGTH, Direction::Inward) {
        Ok(packet) => packet,
        Err(DropReason::IcmpType) => return pass,
        Err(reason) => return Err(reason),
    };
    if packet.kind != Kind::Error {
        return pass;
    }
    let embedded = packet.read_embedded(frame, Direction::Inward)?;
    let protocol = packet.protocol as u16;
    let service = Endpoint { address: packet.ip.destination, port: packet.local_port, protocol };
    let Some(service_index) = maps::service_index(&service) else { return pass };
    // An error goes back to the sender of what it embeds.
    if embedded.source != packet.ip.destination {
        return Err(DropReason::NoMapping);
    }
    to_instance::note(frame, service_index, embedded.destination, packet.remote_port, packet.protocol, 0)?;
    Ok(Next::to_service(service_index))
}

/// What another ICMPv6 message is: an instance's error about a packet of a flow, or none of ours.
#[inline(never)]
pub fn enter_from_instance<F: Frame>(frame: &F) -> u64 {
    pack_stage(from_instance(frame))
}

#[inline(always)]
fn from_instance<F: Frame>(frame: &F) -> Result<Next, DropReason> {
    let pass = Ok(Next::verdict(F::PASS));
    let Ok(packet) = Packet6::read(frame, ETHERNET_LENGTH, Direction::Outward) else { return pass };
    if packet.kind != Kind::Error {
        return pass;
    }
    let Ok(embedded) = packet.read_embedded(frame, Direction::Outward) else { return pass };
    if embedded.destination != packet.ip.source || embedded.source != packet.ip.destination {
        return pass;
    }
    let protocol = packet.protocol as u16;
    let instance = Endpoint { address: packet.ip.source, port: packet.local_port, protocol };
    let Some(index) = maps::instance_index(&instance) else { return pass };
    to_client::note(index, packet.ip.destination, packet.remote_port, packet.protocol, 0)?;
    Ok(Next::from_instance(index))
}

/// Makes our end of what `packet`, an error that goes in `direction`, embeds `to`, and tells the checksum of the outer
/// address, which the caller changes likewise, too.
#[inline(always)]
pub fn translate<F: Frame>(frame: &F, packet: &Packet6, direction: Direction, to: End<'_>) -> Result<(), DropReason> {
    let malformed = DropReason::Malformed;
    let at = packet.embedded_at();
    let embedded: Ipv6 = frame.read(at).ok_or(malformed)?;
    let protocol = embedded.next_header;
    if protocol != TCP && protocol != UDP {
        // Behind extension headers the embedded ports stand elsewhere.
        return Err(DropReason::ExtensionHeaders);
    }
    let l4_at = at + IPV6_LENGTH;
    let (from, address_at, port_at): (Address6, usize, usize) = match direction {
        Direction::Outward => (embedded.destination, at + DESTINATION_AT, l4_at + 2),
        Direction::Inward => (embedded.source, at + SOURCE_AT, l4_at),
    };
    let outer = gained(&from, to.address);
    let mut sum: u16 = frame.read(packet.l4_at() + CHECKSUM_AT).ok_or(malformed)?;
    frame.write(address_at, *to.address)?;
    // Once for the embedded address, once for the outer one: both were the same.
    sum = !fold(!sum as u32 + outer as u32);
    sum = !fold(!sum as u32 + outer as u32);

    let (old_port, new_port) = (packet.local_port.to_be(), to.port.to_be());
    frame.write(port_at, new_port)?;
    sum = replace_word(sum, old_port, new_port);

    let checksum_at = l4_at + if protocol == TCP { 16 } else { 6 };
    if checksum_at + 2 <= packet.at() + packet.length {
        let old: u16 = frame.read(checksum_at).ok_or(malformed)?;
        let mut new = !fold(!replace_word(old, old_port, new_port) as u32 + outer as u32);
        if protocol == UDP && new == 0 {
            new = 0xffff;
        }
        frame.write(checksum_at, new)?;
        sum = replace_word(sum, old, new);
    }
    frame.write(packet.l4_at() + CHECKSUM_AT, sum)
}
