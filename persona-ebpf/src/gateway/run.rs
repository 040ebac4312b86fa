//! The way of a packet through the stages.

use persona_common::drop::DropReason;
use persona_common::gateway::GatewayDevice;
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet};
use persona_ebpf::outcome::unpack;

use crate::rewrite::Rewrite;
use crate::stage::*;
use crate::{announce, answer, choose, classify, icmp_error4, icmp_error6, maps, to_client, to_instance};

/// The group bit of a hardware address.
const GROUP_BIT: u8 = 1;

#[inline(always)]
pub fn run<F: Rewrite>(frame: &F) -> Result<i32, DropReason> {
    frame.linearise_headers();
    let Some(ethernet) = frame.read::<Ethernet>(0) else { return Ok(F::PASS) };
    let Some(device) = maps::device(frame.ifindex()) else { return Ok(F::PASS) };
    // A tagged packet is for the VLAN's own device.
    if frame.has_vlan_tag() {
        return Ok(F::PASS);
    }
    let is_ours = ethernet.destination == device.mac;
    match ethernet.kind {
        ETHERTYPE_IPV4 if is_ours => run4(frame),
        ETHERTYPE_IPV6 if is_ours => run6(frame, &device),
        ETHERTYPE_IPV6 if ethernet.destination[0] & GROUP_BIT != 0 => {
            unpack(announce::answer_solicitation(frame, &device))
        }
        ETHERTYPE_ARP => unpack(announce::answer_arp(frame, &device)),
        _ => Ok(F::PASS),
    }
}

#[inline(always)]
fn run4<F: Rewrite>(frame: &F) -> Result<i32, DropReason> {
    let mut packed = classify::run4(frame);
    let is_error = is_icmp_to_service(packed);
    if is_error {
        packed = icmp_error4::enter_to_service(frame);
    } else if is_icmp_from_instance(packed) {
        packed = icmp_error4::enter_from_instance(frame);
    } else if let Some(index) = service_of(packed) {
        packed = to_instance::enter4(frame, index);
    } else if let Some(index) = sender_of(packed) {
        packed = to_client::enter4(frame, index);
    }
    if service_of(packed).is_some() {
        packed = choose::run(is_error as u32 ^ choose::OPEN);
        if let Some(index) = instance_of(packed) {
            packed = to_instance::deliver4(frame, index);
        }
    } else if let Some(index) = sender_of(packed) {
        packed = choose::run_reply(index);
        if let Some(index) = instance_of(packed) {
            packed = to_client::send4(frame, index);
        }
    }
    if is_answered(packed) {
        packed = answer::run4(frame, packed);
    }
    verdict::<F>(packed)
}

#[inline(always)]
fn run6<F: Rewrite>(frame: &F, device: &GatewayDevice) -> Result<i32, DropReason> {
    let mut packed = classify::run6(frame);
    let is_error = is_icmp_to_service(packed);
    if is_error || is_icmp_from_instance(packed) {
        // A neighbour that asks again asks us alone (RFC 4861 §7.3.3).
        let answered = announce::answer_solicitation(frame, device);
        if unpack(answered) != Ok(F::PASS) {
            return unpack(answered);
        }
    }
    if is_error {
        packed = icmp_error6::enter_to_service(frame);
    } else if is_icmp_from_instance(packed) {
        packed = icmp_error6::enter_from_instance(frame);
    } else if let Some(index) = service_of(packed) {
        packed = to_instance::enter6(frame, index);
    } else if let Some(index) = sender_of(packed) {
        packed = to_client::enter6(frame, index);
    }
    if service_of(packed).is_some() {
        packed = choose::run(is_error as u32 ^ choose::OPEN);
        if let Some(index) = instance_of(packed) {
            packed = to_instance::deliver6(frame, index);
        }
    } else if let Some(index) = sender_of(packed) {
        packed = choose::run_reply(index);
        if let Some(index) = instance_of(packed) {
            packed = to_client::send6(frame, index);
        }
    }
    if is_answered(packed) {
        packed = answer::run6(frame, packed);
    }
    verdict::<F>(packed)
}

/// What the last stage gave; a packet of no flow passes.
#[inline(always)]
fn verdict<F: Frame>(packed: u64) -> Result<i32, DropReason> {
    if is_without_flow(packed) { Ok(F::PASS) } else { unpack(packed) }
}
