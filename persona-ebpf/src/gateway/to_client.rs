//! Replies of instances that are reached by address translation: in the service's name, and back the way that the client's
//! packets came. What belongs to no flow of a service passes: an instance may talk for itself, and be talked to.

use persona_common::BYPASS_MARK;
use persona_common::addr::{Address6, mapped};
use persona_common::drop::DropReason;
use persona_common::gateway::{GatewayFlowKey, Instance, Service};
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{ETHERNET_LENGTH, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, Ipv4, Ipv6};
use persona_ebpf::packet::{Direction, Kind, Packet, Part};
use persona_ebpf::packet6::{Packet6, sum_difference};
use persona_ebpf::{message, message6};

use crate::maps;
use crate::read;
use crate::rewrite::{End, Family, Rewrite, Transport, rewrite_transport};
use crate::stage::{Next, pack_stage};
use crate::visit::visit;
use crate::{icmp_error4, icmp_error6};

/// Bytes from the start of a transport header to its source port.
const SOURCE_PORT_AT: usize = 0;

/// Reads an IPv4 packet from an instance and says which flow it would be of.
#[inline(never)]
pub fn enter4<F: Frame>(frame: &F, instance_index: u32) -> u64 {
    pack_stage(try_enter4(frame, instance_index).map(|()| Next::from_instance(instance_index)))
}

#[inline(always)]
fn try_enter4<F: Frame>(frame: &F, instance_index: u32) -> Result<(), DropReason> {
    let packet = read::packet4(frame, Direction::Outward)?;
    note(instance_index, mapped(packet.ip.destination), packet.remote_port, packet.protocol, packet.tcp_flags)
}

/// Reads an IPv6 packet from an instance and says which flow it would be of.
#[inline(never)]
pub fn enter6<F: Frame>(frame: &F, instance_index: u32) -> u64 {
    pack_stage(try_enter6(frame, instance_index).map(|()| Next::from_instance(instance_index)))
}

#[inline(always)]
fn try_enter6<F: Frame>(frame: &F, instance_index: u32) -> Result<(), DropReason> {
    let packet = Packet6::read(frame, ETHERNET_LENGTH, Direction::Outward)?;
    note(instance_index, packet.ip.destination, packet.remote_port, packet.protocol, packet.tcp_flags)
}

/// Notes which flow a packet of an instance would be of.
#[inline(always)]
pub fn note(
    instance_index: u32,
    client: Address6,
    client_port: u16,
    protocol: u8,
    tcp_flags: u8,
) -> Result<(), DropReason> {
    let service_index = maps::instance(instance_index)?.service_index;
    let visit = visit()?;
    visit.key = GatewayFlowKey { client, service_index, client_port, reserved: 0 };
    visit.protocol = protocol as u32;
    visit.tcp_flags = tcp_flags as u32;
    Ok(())
}

/// Sends the IPv4 packet that was read to its client.
#[inline(never)]
pub fn send4<F: Rewrite>(frame: &F, instance_index: u32) -> u64 {
    pack_stage(try_send4(frame, instance_index))
}

#[inline(always)]
fn try_send4<F: Rewrite>(frame: &F, instance_index: u32) -> Result<Next, DropReason> {
    let packet = read::kept4()?;
    if packet.part != Part::Whole {
        return Err(DropReason::Fragment);
    }
    let instance = maps::instance(instance_index)?;
    let service = maps::service(instance.service_index)?;
    let device = maps::device(visit()?.ifindex).ok_or(DropReason::UnknownDevice)?;
    if packet.length_on_wire(frame) > device.mtu as usize {
        return Next::too_big(message::may_answer(packet), device.mtu);
    }
    if packet.ip.ttl <= 1 {
        return Next::expired(message::may_answer(packet));
    }
    let packets = packet.packet_count(frame);
    let bytes = packet.byte_count(packets);
    maps::count_traffic(instance.service_index, instance_index, Direction::Outward, packets, bytes);
    rewrite_source4(frame, packet, instance, service)?;
    packet.count_hop()?;
    frame.write::<Ipv4>(ETHERNET_LENGTH, packet.ip)?;
    send(frame, device.mac, ETHERTYPE_IPV4)
}

#[inline(always)]
fn rewrite_source4<F: Rewrite>(
    frame: &F,
    packet: &mut Packet,
    instance: &Instance,
    service: &Service,
) -> Result<(), DropReason> {
    let to = End { address: &service.address, port: service.port };
    if packet.kind == Kind::Error {
        icmp_error4::translate(frame, packet, Direction::Outward, to)?;
    } else {
        let transport = Transport {
            l4_at: packet.l4_at(),
            port_offset: SOURCE_PORT_AT,
            protocol: packet.protocol,
            has_checksum: packet.has_checksum,
            family: Family::V4,
        };
        rewrite_transport(frame, &transport, End { address: &instance.address, port: packet.local_port }, to)?;
    }
    packet.set_source(service.address[3]);
    Ok(())
}

/// Sends the IPv6 packet that was read to its client.
#[inline(never)]
pub fn send6<F: Rewrite>(frame: &F, instance_index: u32) -> u64 {
    pack_stage(try_send6(frame, instance_index))
}

#[inline(always)]
fn try_send6<F: Rewrite>(frame: &F, instance_index: u32) -> Result<Next, DropReason> {
    let packet = Packet6::kept()?;
    if packet.part != Part::Whole {
        return Err(DropReason::Fragment);
    }
    let instance = maps::instance(instance_index)?;
    let service = maps::service(instance.service_index)?;
    let device = maps::device(visit()?.ifindex).ok_or(DropReason::UnknownDevice)?;
    if packet.length_on_wire(frame) > device.mtu as usize {
        return Next::too_big(message6::may_answer(packet), device.mtu);
    }
    if packet.ip.hop_limit <= 1 {
        return Next::expired(message6::may_answer(packet));
    }
    let packets = packet.packet_count(frame);
    let bytes = packet.byte_count(packets);
    maps::count_traffic(instance.service_index, instance_index, Direction::Outward, packets, bytes);
    let before = packet.ip;
    rewrite_source6(frame, packet, instance, service)?;
    packet.count_hop()?;
    frame.write::<Ipv6>(ETHERNET_LENGTH, packet.ip)?;
    frame.note_sum(sum_difference(&before, &packet.ip));
    send(frame, device.mac, ETHERTYPE_IPV6)
}

#[inline(always)]
fn rewrite_source6<F: Rewrite>(
    frame: &F,
    packet: &mut Packet6,
    instance: &Instance,
    service: &Service,
) -> Result<(), DropReason> {
    let to = End { address: &service.address, port: service.port };
    if packet.kind == Kind::Error {
        icmp_error6::translate(frame, packet, Direction::Outward, to)?;
    } else {
        let transport = Transport {
            l4_at: packet.l4_at(),
            port_offset: SOURCE_PORT_AT,
            protocol: packet.protocol,
            has_checksum: true,
            family: Family::V6,
        };
        rewrite_transport(frame, &transport, End { address: &instance.address, port: packet.local_port }, to)?;
    }
    packet.ip.source = service.address;
    Ok(())
}

/// Sends a frame back the way that the client's packets come.
#[inline(always)]
fn send<F: Rewrite>(frame: &F, mac: [u8; 6], kind: u16) -> Result<Next, DropReason> {
    let visit = visit()?;
    frame.set_mark(BYPASS_MARK);
    frame.write(0, Ethernet { destination: visit.client_mac, source: mac, kind })?;
    Ok(Next::verdict(frame.send_to_device(visit.ifindex)))
}
