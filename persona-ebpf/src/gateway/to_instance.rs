//! Packets of clients: read, given an instance ([`crate::choose`]), and delivered to it by one of three ways: with the
//! destination rewritten, as they are to the instance's hardware address, or as they are in a tunnel to its node.

use persona_common::addr::{Address6, mapped};
use persona_common::drop::DropReason;
use persona_common::encapsulation::GATEWAY;
use persona_common::flow::entropy_port;
use persona_common::gateway::*;
use persona_common::{BYPASS_MARK, PERSONA_MARK};
use persona_ebpf::encapsulation::{Inner, Tunnel};
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{DONT_FRAGMENT, ETHERNET_LENGTH, Ethernet, Ipv4, Ipv6};
use persona_ebpf::packet::{Direction, Kind, Packet};
use persona_ebpf::packet6::{Packet6, sum_difference};
use persona_ebpf::{message, message6};

use crate::maps;
use crate::read;
use crate::rewrite::{End, Family, Rewrite, Transport, rewrite_transport};
use crate::stage::{Next, pack_stage};
use crate::visit::visit;
use crate::{icmp_error4, icmp_error6};

/// Bytes from the start of a transport header to its destination port.
const DESTINATION_PORT_AT: usize = 2;

/// Reads an IPv4 packet to a service and says whose it is.
#[inline(never)]
pub fn enter4<F: Frame>(frame: &F, service_index: u32) -> u64 {
    pack_stage(try_enter4(frame, service_index).map(|()| Next::to_service(service_index)))
}

#[inline(always)]
fn try_enter4<F: Frame>(frame: &F, service_index: u32) -> Result<(), DropReason> {
    let packet = read::packet4(frame, Direction::Inward)?;
    note(frame, service_index, mapped(packet.ip.source), packet.remote_port, packet.protocol, packet.tcp_flags)
}

/// Reads an IPv6 packet to a service and says whose it is.
#[inline(never)]
pub fn enter6<F: Frame>(frame: &F, service_index: u32) -> u64 {
    pack_stage(try_enter6(frame, service_index).map(|()| Next::to_service(service_index)))
}

#[inline(always)]
fn try_enter6<F: Frame>(frame: &F, service_index: u32) -> Result<(), DropReason> {
    let packet = Packet6::read(frame, ETHERNET_LENGTH, Direction::Inward)?;
    note(frame, service_index, packet.ip.source, packet.remote_port, packet.protocol, packet.tcp_flags)
}

/// Notes a packet's flow and where it comes from.
#[inline(always)]
pub fn note<F: Frame>(
    frame: &F,
    service_index: u32,
    client: Address6,
    client_port: u16,
    protocol: u8,
    tcp_flags: u8,
) -> Result<(), DropReason> {
    let service = maps::service(service_index)?;
    let ethernet: Ethernet = frame.read(0).ok_or(DropReason::Malformed)?;
    let endpoint = Endpoint { address: service.address, port: service.port, protocol: service.protocol };
    let hashed_port = if service.flags & SERVICE_HAS_CLIENT_AFFINITY != 0 { 0 } else { client_port };
    let visit = visit()?;
    visit.key = GatewayFlowKey { client, service_index, client_port, reserved: 0 };
    visit.hash = gateway_hash(client, hashed_port, &endpoint);
    visit.protocol = protocol as u32;
    visit.tcp_flags = tcp_flags as u32;
    visit.ifindex = frame.ifindex();
    visit.client_mac = ethernet.source;
    Ok(())
}

/// Delivers the IPv4 packet that was read to an instance.
#[inline(never)]
pub fn deliver4<F: Rewrite>(frame: &F, instance_index: u32) -> u64 {
    pack_stage(try_deliver4(frame, instance_index))
}

#[inline(always)]
fn try_deliver4<F: Rewrite>(frame: &F, instance_index: u32) -> Result<Next, DropReason> {
    let packet = read::kept4()?;
    let instance = maps::instance(instance_index)?;
    if packet.length_on_wire(frame) > instance.mtu as usize {
        if packet.ip.fragment & DONT_FRAGMENT == 0 {
            return Err(DropReason::TooBigFragmentable);
        }
        return Next::too_big(message::may_answer(packet), instance.mtu);
    }
    if packet.ip.ttl <= 1 {
        return Next::expired(message::may_answer(packet));
    }
    let packets = packet.packet_count(frame);
    maps::count_traffic(instance.service_index, instance_index, Direction::Inward, packets, packet.byte_count(packets));
    if instance.delivery == DELIVERY_NAT {
        rewrite_destination4(frame, packet, instance)?;
    }
    packet.count_hop()?;
    frame.write::<Ipv4>(ETHERNET_LENGTH, packet.ip)?;
    emit(frame, instance, &packet.inner())
}

#[inline(always)]
fn rewrite_destination4<F: Rewrite>(frame: &F, packet: &mut Packet, instance: &Instance) -> Result<(), DropReason> {
    let from = mapped(packet.ip.destination);
    let to = End { address: &instance.address, port: instance.port as u16 };
    if packet.kind == Kind::Error {
        icmp_error4::translate(frame, packet, Direction::Inward, to)?;
    } else {
        let transport = Transport {
            l4_at: packet.l4_at(),
            port_offset: DESTINATION_PORT_AT,
            protocol: packet.protocol,
            has_checksum: packet.has_checksum,
            family: Family::V4,
        };
        rewrite_transport(frame, &transport, End { address: &from, port: packet.local_port }, to)?;
    }
    packet.set_destination(instance.address[3]);
    Ok(())
}

/// Delivers the IPv6 packet that was read to an instance.
#[inline(never)]
pub fn deliver6<F: Rewrite>(frame: &F, instance_index: u32) -> u64 {
    pack_stage(try_deliver6(frame, instance_index))
}

#[inline(always)]
fn try_deliver6<F: Rewrite>(frame: &F, instance_index: u32) -> Result<Next, DropReason> {
    let packet = Packet6::kept()?;
    let instance = maps::instance(instance_index)?;
    if packet.length_on_wire(frame) > instance.mtu as usize {
        return Next::too_big(message6::may_answer(packet), instance.mtu);
    }
    if packet.ip.hop_limit <= 1 {
        return Next::expired(message6::may_answer(packet));
    }
    let packets = packet.packet_count(frame);
    maps::count_traffic(instance.service_index, instance_index, Direction::Inward, packets, packet.byte_count(packets));
    let before = packet.ip;
    if instance.delivery == DELIVERY_NAT {
        rewrite_destination6(frame, packet, instance)?;
    }
    packet.count_hop()?;
    frame.write::<Ipv6>(ETHERNET_LENGTH, packet.ip)?;
    frame.note_sum(sum_difference(&before, &packet.ip));
    emit(frame, instance, &Inner { length: packet.length, tos: packet.ip.traffic_class(), is_ipv6: true })
}

#[inline(always)]
fn rewrite_destination6<F: Rewrite>(frame: &F, packet: &mut Packet6, instance: &Instance) -> Result<(), DropReason> {
    let from = packet.ip.destination;
    let to = End { address: &instance.address, port: instance.port as u16 };
    if packet.kind == Kind::Error {
        icmp_error6::translate(frame, packet, Direction::Inward, to)?;
    } else {
        let transport = Transport {
            l4_at: packet.l4_at(),
            port_offset: DESTINATION_PORT_AT,
            protocol: packet.protocol,
            has_checksum: true,
            family: Family::V6,
        };
        rewrite_transport(frame, &transport, End { address: &from, port: packet.local_port }, to)?;
    }
    packet.ip.destination = instance.address;
    Ok(())
}

/// Sends a packet on its way to an instance.
#[inline(always)]
fn emit<F: Rewrite>(frame: &F, instance: &Instance, inner: &Inner) -> Result<Next, DropReason> {
    if instance.delivery != DELIVERY_TUNNEL {
        frame.set_mark(BYPASS_MARK);
        return frame.send(&instance.next_hop, &instance.address).map(Next::verdict);
    }
    let config = maps::config()?;
    let hash = visit()?.hash;
    let mut tunnel = Tunnel {
        source: config.underlay6,
        destination: instance.node,
        vni: instance.tunnel_id,
        entropy_port: entropy_port(hash),
        marker: GATEWAY,
        is_control: false,
    };
    if !tunnel.is_ipv6() {
        tunnel.source = config.underlay4;
    }
    frame.encapsulate(&tunnel, inner)?;
    frame.set_mark(PERSONA_MARK);
    frame.send(&instance.next_hop, &instance.node).map(Next::verdict)
}
