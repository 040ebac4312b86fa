//! What the slow path knows of leases: how large a packet may be, in which class it waits, and which identification its
//! pieces get.
//!
//! Pure. An edge checks a fragment's (source, identification) as it checks (source, port), so what leaves as pieces must
//! bear an identification out of the sender's own block (contract §4). The program has given one; segmentation, which
//! counts it up, may have led it out of the block again.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

use persona_common::drop::DropReason;

use super::cut::{CutError, cut};
use super::ip::{Ipv4Header, mend_checksum};

/// Protocols whose first bytes hold ports, source before destination.
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;

/// The role that the slow path serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A node: what is too big is on its way out; the leased address is the source.
    Node,
    /// An edge: what is too big is on its way in; the leased address is the destination.
    Edge,
}

/// What holds for a lease's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseFacts {
    /// Largest inner IP packet, bytes.
    pub mtu: u16,
    /// The queueing class of its tunnel packets, as in `skb->priority`; 0: none.
    pub class: u32,
    /// As [`super::Outer::wire_ifindex`].
    pub wire_ifindex: u32,
}

/// No device has this index: what needs the encrypted tunnel is not sent where there is none.
const NO_WIRE: u32 = i32::MAX as u32;

/// [`LeaseFacts::wire_ifindex`] of a lease, where the tunnel has this device.
pub fn wire_ifindex(is_encrypted: bool, device: Option<u32>) -> u32 {
    if is_encrypted { device.unwrap_or(NO_WIRE) } else { 0 }
}

/// All leases that tunnel packets may belong to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    addresses: BTreeMap<Ipv4Addr, Address>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Address {
    /// log2 of the ports in a block; 16: one block is all of it.
    block_bits: u8,
    blocks: BTreeMap<u16, LeaseFacts>,
}

/// Identifications given to packets that are cut here. They count down while the programs count up, so that the two
/// seldom meet in a block.
#[derive(Debug, Default)]
pub(super) struct Identifications(HashMap<(Ipv4Addr, u16), u16>);

/// Leased addresses whose counters are kept; past it they start anew, which costs only distance between repetitions.
const IDENTIFICATION_COUNT_MAX: usize = 65_536;

impl Facts {
    /// Adds a block of a leased address.
    pub fn insert(&mut self, address: Ipv4Addr, block_bits: u8, block: u16, facts: LeaseFacts) {
        let entry = self.addresses.entry(address).or_default();
        entry.block_bits = block_bits.min(16);
        entry.blocks.insert(block, facts);
    }

    /// Cuts a packet that is too big for its lease. What holds for the lease comes with the pieces.
    pub(super) fn cut(
        &self,
        role: Role,
        inner: &[u8],
        identifications: &mut Identifications,
    ) -> Result<(Vec<Vec<u8>>, LeaseFacts), DropReason> {
        let header = Ipv4Header::read(inner).ok_or(DropReason::Malformed)?;
        let mut packet = inner[..header.total_length].to_vec();
        let leased = match role {
            Role::Node => header.source,
            Role::Edge => header.destination,
        };
        let address = self.addresses.get(&leased).ok_or(DropReason::NoLease)?;
        let number = number(role, &header, &packet);
        let facts = match number {
            Some(number) => address.blocks.get(&block_of(number, address.block_bits)).copied(),
            // The port of a later fragment stands in its first: the smallest MTU suits whichever lease it is, and so does
            // the encrypted tunnel.
            None => {
                let wire_ifindex = address.blocks.values().map(|facts| facts.wire_ifindex).max().unwrap_or(0);
                let smallest = address.blocks.values().min_by_key(|facts| facts.mtu);
                smallest.map(|facts| LeaseFacts { wire_ifindex, ..*facts })
            }
        };
        let facts = facts.ok_or(DropReason::NoLease)?;
        let is_whole = header.offset == 0 && !header.more_fragments;
        if role == Role::Node
            && is_whole
            && let Some(port) = number
            && block_of(port, address.block_bits) != block_of(header.id, address.block_bits)
        {
            let id = identifications.next(leased, port, address.block_bits);
            packet[4..6].copy_from_slice(&id.to_be_bytes());
            mend_checksum(&mut packet, header.header_length);
        }
        let pieces = cut(&packet, facts.mtu.into()).map_err(|error| match error {
            CutError::Malformed => DropReason::Malformed,
            CutError::DontFragment | CutError::Mtu(_) => DropReason::TooBig,
        })?;
        Ok((pieces, facts))
    }
}

impl Identifications {
    fn next(&mut self, address: Ipv4Addr, port: u16, block_bits: u8) -> u16 {
        if self.0.len() >= IDENTIFICATION_COUNT_MAX {
            self.0.clear();
        }
        let mask = ((1_u32 << block_bits) - 1) as u16;
        let counter = self.0.entry((address, block_of(port, block_bits))).or_default();
        *counter = counter.wrapping_sub(1);
        (port & !mask) | (*counter & mask)
    }
}

/// A port's block; with 16 bits there is only one.
fn block_of(number: u16, block_bits: u8) -> u16 {
    (u32::from(number) >> block_bits) as u16
}

/// The number that names the block: on the way out an already cut packet's identification, else the leased side's port.
/// None: a later fragment on its way in, or a protocol without ports.
fn number(role: Role, header: &Ipv4Header, packet: &[u8]) -> Option<u16> {
    if role == Role::Node && (header.offset != 0 || header.more_fragments) {
        return Some(header.id);
    }
    if header.offset != 0 {
        return None;
    }
    let at = match (header.protocol, role) {
        (TCP | UDP, Role::Node) => 0,
        (TCP | UDP, Role::Edge) => 2,
        (ICMP, _) => 4,
        _ => return None,
    };
    let port: &[u8; 2] = packet[header.header_length..].get(at..)?.first_chunk()?;
    Some(u16::from_be_bytes(*port))
}

/// Whether an address is of the family that is cut.
pub(super) fn is_ipv4(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first >> 4 == 4)
}

#[cfg(test)]
mod tests {
    use super::super::ip::tests::ipv4_packet;
    use super::*;

    const LEASED: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
    const REMOTE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);

    fn udp(source: u16, destination: u16, length: usize) -> Vec<u8> {
        let mut payload = vec![0; length];
        payload[..2].copy_from_slice(&source.to_be_bytes());
        payload[2..4].copy_from_slice(&destination.to_be_bytes());
        payload
    }

    fn facts() -> Facts {
        let mut facts = Facts::default();
        facts.insert(LEASED, 10, 5, LeaseFacts { mtu: 1_400, class: 7, wire_ifindex: 0 });
        facts.insert(LEASED, 10, 6, LeaseFacts { mtu: 1_000, class: 8, wire_ifindex: 9 });
        facts.insert(REMOTE, 16, 0, LeaseFacts { mtu: 1_200, class: 0, wire_ifindex: 0 });
        facts
    }

    fn largest(pieces: &[Vec<u8>]) -> usize {
        pieces.iter().map(Vec::len).max().unwrap()
    }

    #[test]
    fn pieces_on_their_way_out_bear_the_senders_block() {
        let mut identifications = Identifications::default();
        let given = ipv4_packet(&[], 5 << 10 | 700, 0, &udp(5 << 10 | 3, 443, 3_000));
        let (pieces, _) = facts().cut(Role::Node, &given, &mut identifications).unwrap();
        assert!(pieces.iter().all(|piece| piece[4..6] == given[4..6]), "the program's own choice stays");
        let packet = ipv4_packet(&[], 6 << 10, 0, &udp(5 << 10 | 3, 443, 3_000));
        let (pieces, held) = facts().cut(Role::Node, &packet, &mut identifications).unwrap();
        let ids: Vec<u16> = pieces.iter().map(|piece| u16::from_be_bytes([piece[4], piece[5]])).collect();
        assert!(ids.iter().all(|id| id >> 10 == 5 && *id == ids[0]), "{ids:?}");
        assert_eq!((largest(&pieces), held.class, held.wire_ifindex), (1_396, 7, 0));
        let (again, _) = facts().cut(Role::Node, &packet, &mut identifications).unwrap();
        assert_ne!(again[0][4..6], pieces[0][4..6], "the next datagram has another one");
    }

    #[test]
    fn fragments_keep_the_identification_that_the_program_gave() {
        let mut identifications = Identifications::default();
        let packet = ipv4_packet(&[], 6 << 10 | 9, 0x2000 | 200, &udp(0, 0, 2_400));
        let (pieces, held) = facts().cut(Role::Node, &packet, &mut identifications).unwrap();
        assert!(pieces.iter().all(|piece| piece[4..6] == packet[4..6]));
        assert_eq!((largest(&pieces), held.class, held.wire_ifindex), (996, 8, 9));
    }

    #[test]
    fn on_the_way_in_the_destination_counts() {
        let mut identifications = Identifications::default();
        let mut to_leased = |flags, destination| {
            let mut packet = ipv4_packet(&[], 77, flags, &udp(443, destination, 4_000));
            packet[12..16].copy_from_slice(&REMOTE.octets());
            packet[16..20].copy_from_slice(&LEASED.octets());
            let outcome = facts().cut(Role::Edge, &packet, &mut identifications);
            outcome.map(|(pieces, held)| (largest(&pieces), pieces[0][4..6] == packet[4..6], held.wire_ifindex))
        };
        assert_eq!(to_leased(0, 5 << 10), Ok((1_396, true, 0)));
        assert_eq!(to_leased(0x2000, 6 << 10), Ok((996, true, 9)));
        assert_eq!(to_leased(0x2001, 5 << 10), Ok((996, true, 9)), "a later fragment may belong to either lease");
        assert_eq!(to_leased(0, 7 << 10), Err(DropReason::NoLease));
        assert_eq!(to_leased(0x4000, 5 << 10), Err(DropReason::TooBig));
    }

    #[test]
    fn a_whole_address_is_one_block() {
        let mut identifications = Identifications::default();
        let mut packet = ipv4_packet(&[], 1, 0, &udp(60_000, 443, 3_000));
        packet[12..16].copy_from_slice(&REMOTE.octets());
        let (pieces, _) = facts().cut(Role::Node, &packet, &mut identifications).unwrap();
        assert_eq!((pieces.len(), &pieces[0][4..6]), (3, &[0, 1][..]), "any identification lies in it");
    }
}
