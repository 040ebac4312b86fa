//! Who has a service's address? Where the configuration says that it is on-link, the program answers, and no interface of
//! the host needs the address.

use persona_common::addr::{Address6, mapped};
use persona_common::drop::DropReason;
use persona_common::gateway::{GatewayDevice, VIP_IS_ANSWERED};
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{Arp, ETHERNET_LENGTH, ETHERTYPE_IPV4, Ethernet};
use persona_ebpf::neighbour;
use persona_ebpf::outcome::pack;

use crate::maps;
use crate::stage::whole;

/// ARP's hardware type Ethernet, its request and its reply, as they stand in a packet.
const ETHERNET: u16 = 1u16.to_be();
const REQUEST: u16 = 1u16.to_be();
const REPLY: u16 = 2u16.to_be();

/// Answers an ARP request for a service's address with the device's hardware address.
#[inline(never)]
pub fn answer_arp<F: Frame>(frame: &F, device: &GatewayDevice) -> u64 {
    pack(try_answer_arp(whole(frame), device))
}

#[inline(always)]
fn try_answer_arp<F: Frame>(frame: &F, device: &GatewayDevice) -> Result<i32, DropReason> {
    let Some(ethernet) = frame.read::<Ethernet>(0) else { return Ok(F::PASS) };
    let Some(request) = frame.read::<Arp>(ETHERNET_LENGTH) else { return Ok(F::PASS) };
    let is_request = request.hardware == ETHERNET
        && request.protocol == ETHERTYPE_IPV4
        && request.hardware_length == 6
        && request.protocol_length == 4
        && request.operation == REQUEST;
    if !is_request || !is_answered(&mapped(u32::from_ne_bytes(request.target_address))) {
        return Ok(F::PASS);
    }
    let reply = Arp {
        operation: REPLY,
        sender_mac: device.mac,
        sender_address: request.target_address,
        target_mac: request.sender_mac,
        target_address: request.sender_address,
        ..request
    };
    frame.write(0, Ethernet { destination: ethernet.source, source: device.mac, kind: ethernet.kind })?;
    frame.write(ETHERNET_LENGTH, reply)?;
    Ok(frame.send_back())
}

/// Answers a neighbour solicitation for a service's address; None: it is none.
#[inline(never)]
pub fn answer_solicitation<F: Frame>(frame: &F, device: &GatewayDevice) -> u64 {
    pack(try_answer_solicitation(whole(frame), device))
}

#[inline(always)]
fn try_answer_solicitation<F: Frame>(frame: &F, device: &GatewayDevice) -> Result<i32, DropReason> {
    match neighbour::solicited(frame) {
        Some(target) if is_answered(&target) => neighbour::advertise(frame, &target, device.mac),
        _ => Ok(F::PASS),
    }
}

#[inline(always)]
fn is_answered(address: &Address6) -> bool {
    maps::vip(address).is_some_and(|flags| flags & VIP_IS_ANSWERED != 0)
}
