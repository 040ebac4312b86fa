//! ICMP errors about packets of a service's flows: they go where the flow goes, and what they embed is translated as the
//! flow's packets are (RFC 5508 REQ-3 to REQ-5).
//!
//! Each checksum is changed by as much as what it covers, never made anew: one that was wrong stays wrong.

use persona_common::addr::mapped;
use persona_common::checksum::{replace_long, replace_word};
use persona_common::drop::DropReason;
use persona_common::flow::{TCP, UDP};
use persona_common::gateway::Endpoint;
use persona_ebpf::embedded::Embedded;
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{ICMP_LENGTH, Ipv4};
use persona_ebpf::packet::{Direction, Kind, Packet};

use crate::rewrite::End;
use crate::stage::{Next, pack_stage};
use crate::{maps, read, to_client, to_instance};

/// Where in an ICMP header the checksum stands.
const CHECKSUM_AT: usize = 2;

/// What an ICMP message to a service's address is: an error of a flow, or the host's.
#[inline(never)]
pub fn enter_to_service<F: Frame>(frame: &F) -> u64 {
    pack_stage(to_service(frame))
}

#[inline(always)]
fn to_service<F: Frame>(frame: &F) -> Result<Next, DropReason> {
    let packet = match read::packet4(frame, Direction::Inward) {
        Ok(packet) => packet,
        Err(DropReason::IcmpType) => return Ok(Next::verdict(F::PASS)),
        Err(reason) => return Err(reason),
    };
    let protocol = packet.protocol as u16;
    let service = Endpoint { address: mapped(packet.ip.destination), port: packet.local_port, protocol };
    let Some(service_index) = maps::service_index(&service) else { return Ok(Next::verdict(F::PASS)) };
    if packet.kind != Kind::Error {
        return Ok(Next::verdict(F::PASS));
    }
    let embedded: Ipv4 = frame.read(packet.l4_at() + ICMP_LENGTH).ok_or(DropReason::Malformed)?;
    to_instance::note(frame, service_index, mapped(embedded.destination), packet.remote_port, packet.protocol, 0)?;
    Ok(Next::to_service(service_index))
}

/// What another ICMP message is: an instance's error about a packet of a flow, or none of ours.
#[inline(never)]
pub fn enter_from_instance<F: Frame>(frame: &F) -> u64 {
    pack_stage(from_instance(frame))
}

#[inline(always)]
fn from_instance<F: Frame>(frame: &F) -> Result<Next, DropReason> {
    let pass = Ok(Next::verdict(F::PASS));
    let Ok(packet) = read::packet4(frame, Direction::Outward) else { return pass };
    if packet.kind != Kind::Error {
        return pass;
    }
    let protocol = packet.protocol as u16;
    let instance = Endpoint { address: mapped(packet.ip.source), port: packet.local_port, protocol };
    let Some(index) = maps::instance_index(&instance) else { return pass };
    to_client::note(index, mapped(packet.ip.destination), packet.remote_port, packet.protocol, 0)?;
    Ok(Next::from_instance(index))
}

/// Makes our end of what `packet`, an error that goes in `direction`, embeds `to`. The outer header is the caller's, and
/// must not be changed yet.
#[inline(always)]
pub fn translate<F: Frame>(frame: &F, packet: &Packet, direction: Direction, to: End<'_>) -> Result<(), DropReason> {
    let embedded = Embedded::read(frame, packet, direction)?;
    if embedded.ip.protocol != TCP && embedded.ip.protocol != UDP {
        return Err(DropReason::NoMapping);
    }
    let malformed = DropReason::Malformed;
    let mut sum: u16 = frame.read(packet.l4_at() + CHECKSUM_AT).ok_or(malformed)?;
    let address = to.address[3];
    let mut ip = embedded.ip;
    let from = match direction {
        Direction::Outward => core::mem::replace(&mut ip.destination, address),
        Direction::Inward => core::mem::replace(&mut ip.source, address),
    };
    ip.checksum = replace_long(ip.checksum, from, address);
    frame.write(embedded.at, ip)?;
    sum = replace_word(replace_long(sum, from, address), embedded.ip.checksum, ip.checksum);

    let (old_port, new_port) = (embedded.local_port.to_be(), to.port.to_be());
    frame.write(embedded.local_port_at(direction), new_port)?;
    sum = replace_word(sum, old_port, new_port);

    let at = embedded.checksum_at();
    if at + 2 <= packet.at + packet.length {
        let old: u16 = frame.read(at).ok_or(malformed)?;
        if embedded.ip.protocol != UDP || old != 0 {
            let mut new = replace_long(replace_word(old, old_port, new_port), from, address);
            if embedded.ip.protocol == UDP && new == 0 {
                new = 0xffff;
            }
            frame.write(at, new)?;
            sum = replace_word(sum, old, new);
        }
    }
    frame.write(packet.l4_at() + CHECKSUM_AT, sum)
}
