//! Fragments of IPv4 packets to an address that is cut into port blocks: later ones have no port.
//!
//! Of the edges that are alive one is responsible for all fragments of a packet; whoever gets another's passes it on. It
//! remembers the port of first fragments; later ones whose first it hasn't seen wait in the slow path.

use persona_common::drop::DropReason;
use persona_common::edge::EdgeConfig;
use persona_common::encapsulation::WAIT_INWARD;
use persona_common::flow::flow_hash;
use persona_common::fragment::{FragmentKey, FragmentValue};
use persona_common::node::EgressAddress;
use persona_ebpf::encapsulation::Tunnel;
use persona_ebpf::frame::Frame;
use persona_ebpf::header::DONT_FRAGMENT;
use persona_ebpf::message;
use persona_ebpf::packet::{Direction, Kind, Packet, Part};

use crate::arrival::{Arrival, Way};
use crate::maps::{self, FRAGMENTS};
use crate::stage::{Next, pack_stage};
use crate::{inward, read, relay};

/// The stage of a fragment.
#[inline(never)]
pub fn run<F: Frame>(frame: &F, arrival: &Arrival<'_>, config: &EdgeConfig, address: &EgressAddress) -> u64 {
    pack_stage(forward(frame, arrival, config, address))
}

#[inline(always)]
fn forward<F: Frame>(
    frame: &F,
    arrival: &Arrival<'_>,
    config: &EdgeConfig,
    address: &EgressAddress,
) -> Result<Next, DropReason> {
    let packet = read::packet4(frame, arrival.packet_at(), Direction::Inward)?;
    let id = u16::from_be(packet.ip.id) as u32;
    let hash = flow_hash(packet.ip.destination, packet.ip.source, id, packet.ip.protocol);
    if !arrival.is_relayed() {
        let responsible = relay::pick(config, hash, config.number);
        if responsible != 0 {
            return pass_on(frame, arrival, config, packet, responsible, hash);
        }
    }
    if packet.kind == Kind::Portless {
        return Err(DropReason::ProtocolWithoutPort);
    }
    let (source, destination) = inward::addresses(packet);
    let key = FragmentKey { scope: 0, source, destination, id, protocol: packet.ip.protocol as u32 };
    let now_secs = maps::now_secs(config);
    let port = if packet.part == Part::First {
        let value = FragmentValue { seen_secs: now_secs, port: packet.local_port as u32, ..FragmentValue::default() };
        // A table that refuses makes later fragments wait, and time out.
        let _ = FRAGMENTS.insert(key, value, 0);
        packet.local_port
    } else {
        // SAFETY: values are replaced as a whole and copied here at once.
        match unsafe { FRAGMENTS.get(key) }.copied().filter(|value| value.is_fresh(now_secs)) {
            Some(value) => value.port as u16,
            None => return wait(frame, arrival, config, packet),
        }
    };
    let holder = maps::holder(*address, port)?;
    inward::carry4(frame, arrival, config, packet, &holder)
}

/// Passes a fragment on to the peer that is responsible. Whose it is isn't known here, so the smallest MTU of all leases
/// counts.
#[inline(always)]
fn pass_on<F: Frame>(
    frame: &F,
    arrival: &Arrival<'_>,
    config: &EdgeConfig,
    packet: &Packet,
    through: u32,
    hash: u32,
) -> Result<Next, DropReason> {
    let mtu = config.mtu_min;
    let way = if packet.length > mtu as usize { Way::HandOver } else { Way::Send };
    if way == Way::HandOver && packet.ip.fragment & DONT_FRAGMENT != 0 {
        return Next::too_big(message::may_answer(packet), mtu);
    }
    relay::send(frame, arrival, config, through, &packet.inner(), hash, way)
}

/// Gives the fragment, untouched, to the slow path.
#[inline(always)]
fn wait<F: Frame>(frame: &F, arrival: &Arrival<'_>, config: &EdgeConfig, packet: &Packet) -> Result<Next, DropReason> {
    let tunnel = Tunnel {
        source: config.underlay_address,
        destination: config.underlay_address,
        vni: 0,
        entropy_port: 0,
        marker: WAIT_INWARD,
        is_control: true,
    };
    arrival.emit(frame, config, &tunnel, &packet.inner(), &config.outside, Way::HandOver)
}
