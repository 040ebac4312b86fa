//! What programs know without asking tables: single words in arrays, believed only as long as nothing that they rest on can have
//! changed. Whoever finds none, or another's, asks the tables.

use crate::addr::AddressBe;
use crate::flow::FlowKey;
use crate::maps::{DEVICE_HINT_COUNT, FLOW_HINT_COUNT, SUBJECT_COUNT_MAX};
use crate::node::Device;

/// Bits of an interface's index that its cell stands for.
const CELL_BITS: u32 = DEVICE_HINT_COUNT.trailing_zeros();
/// Where a device's hint has the subject's index; below it, the rest of the interface's.
const SUBJECT_SHIFT: u32 = 18;

const _: () = assert!(DEVICE_HINT_COUNT.is_power_of_two() && 31 - CELL_BITS <= SUBJECT_SHIFT);
const _: () = assert!(SUBJECT_COUNT_MAX <= 1 << (32 - SUBJECT_SHIFT));

/// The cell of `DEVICE_HINTS` for an interface.
#[inline(always)]
pub const fn device_hint_cell(ifindex: u32) -> u32 {
    ifindex & (DEVICE_HINT_COUNT - 1)
}

/// The hint of a device that belongs to one subject, carries no tag and has an address: which device, whose, and that address.
/// Never 0.
#[inline(always)]
pub const fn device_hint(ifindex: u32, sender: Sender) -> u64 {
    (sender.address as u64) << 32 | (sender.subject_index << SUBJECT_SHIFT | ifindex >> CELL_BITS) as u64
}

/// What the hint in an interface's cell says, if it is about that.
#[inline(always)]
pub const fn hinted_sender(hint: u64, ifindex: u32) -> Option<Sender> {
    let (address, rest) = ((hint >> 32) as u32, hint as u32);
    if address == 0 || rest & ((1 << SUBJECT_SHIFT) - 1) != ifindex >> CELL_BITS {
        return None;
    }
    Some(Sender { subject_index: rest >> SUBJECT_SHIFT, address })
}

/// Whose device it is, and the only source that its packets may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// The index in `SUBJECTS`.
    pub subject_index: u32,
    /// The address; 0: none is usual there.
    pub address: AddressBe,
}

impl Sender {
    /// That of a device that belongs to one subject.
    #[inline(always)]
    pub const fn of(device: &Device) -> Self {
        Self { subject_index: device.subject_index, address: device.address }
    }
}

/// How a flow left a moment ago. Map `FLOW_HINTS`; its words are written one after the other, and the first is right only beside
/// the second that it was made for.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FlowHint {
    /// Made by [`Way::seal`].
    pub seal: u64,
    /// A [`Way`], in one word.
    pub way: u64,
}

const _: () = assert!(size_of::<FlowHint>() == 16 && align_of::<FlowHint>() == 8);

/// A flow in one word: two flows have different ones as good as always, and nobody who does not know the secret can choose one
/// that has another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    word: u64,
    cell: u32,
}

impl Fingerprint {
    /// Of a flow.
    #[inline(always)]
    pub const fn of(secret: u64, flow: &FlowKey) -> Self {
        let ends = (flow.subject as u64) << 32 | flow.inner_address as u64;
        let remote = (flow.remote_address as u64) << 32 | (flow.remote_port as u32 | flow.protocol << 16) as u64;
        let hash = mixed(mixed(secret, remote), ends);
        Self {
            word: mixed(hash, flow.inner_port as u64),
            cell: ((hash >> 40) as u32).wrapping_add(flow.inner_port as u32) & (FLOW_HINT_COUNT - 1),
        }
    }

    /// The cell of `FLOW_HINTS`. Flows to one remote, which differ in their own ports, have cells that follow one another: four
    /// of them share a cache line.
    #[inline(always)]
    pub const fn cell(self) -> u32 {
        self.cell
    }
}

const _: () = assert!(FLOW_HINT_COUNT.is_power_of_two());

/// A lease, a port of it and an edge: what a packet of an established flow needs to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// The lease's index in `LEASES`.
    pub lease_index: u32,
    /// The external port.
    pub port: u16,
    /// The number of the edge that its row names first.
    pub edge: u32,
}

/// What a hint rests on beside its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ground {
    /// The lease's id.
    pub lease_id: u64,
    /// Where the table of its group is, which moves whenever a row changes.
    pub row_base: u32,
    /// The generation of the subject's firewall.
    pub verdict: u32,
    /// Counts short periods of time: a hint is of its own period only, in which no mapping that has just been used can be lost.
    pub period: u32,
}

impl Way {
    /// In one word.
    #[inline(always)]
    pub const fn packed(self) -> u64 {
        (self.port as u64) << 32 | (self.edge << 16 | self.lease_index & 0xffff) as u64
    }

    /// From one word.
    #[inline(always)]
    pub const fn unpacked(word: u64) -> Self {
        let low = word as u32;
        Self { lease_index: low & 0xffff, port: (word >> 32) as u16, edge: low >> 16 }
    }

    /// What goes with the way of a flow on this ground, and as good as never with another's.
    #[inline(always)]
    pub const fn seal(self, flow: Fingerprint, ground: &Ground) -> u64 {
        let rest = (ground.period as u64) << 32 | (ground.row_base ^ ground.verdict << 16) as u64;
        mixed(mixed(mixed(flow.word, self.packed()), ground.lease_id), rest)
    }
}

/// The golden ratio's bits: an odd number without a pattern.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A word mixed into a hash: a product, whose high half is folded into the low one.
#[inline(always)]
const fn mixed(hash: u64, word: u64) -> u64 {
    let product = (hash ^ word).wrapping_mul(GOLDEN);
    product ^ product >> 32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::maps::LEASE_COUNT_MAX;

    const WAY: Way = Way { lease_index: LEASE_COUNT_MAX - 1, port: 65_535, edge: 65_535 };
    const GROUND: Ground = Ground { lease_id: 9, row_base: 65_537, verdict: 0x300, period: 77 };

    const KEY: FlowKey = FlowKey {
        subject: 7,
        inner_address: 10,
        remote_address: 0x0808_0808,
        inner_port: 1,
        remote_port: 53,
        protocol: 17,
    };

    fn print(key: FlowKey) -> Fingerprint {
        Fingerprint::of(0x0123_4567_89ab_cdef, &key)
    }

    fn flow(ports: u32) -> Fingerprint {
        print(FlowKey { inner_port: (ports >> 16) as u16, remote_port: ports as u16, ..KEY })
    }

    #[test]
    fn each_part_of_a_flow_counts() {
        let others = [
            FlowKey { subject: 8, ..KEY },
            FlowKey { inner_address: 11, ..KEY },
            FlowKey { remote_address: 0x0909_0808, ..KEY },
            FlowKey { inner_port: 2, ..KEY },
            FlowKey { remote_port: 54, ..KEY },
            FlowKey { protocol: 6, ..KEY },
        ];
        assert!(others.iter().all(|other| print(*other) != print(KEY)));
        assert_ne!(print(KEY), Fingerprint::of(1, &KEY), "nor without the secret");
    }

    #[test]
    fn a_device_is_known_by_its_own_hint_alone() {
        for ifindex in [1, 16_383, 16_384, 70_000, i32::MAX as u32] {
            let sender = Sender { subject_index: SUBJECT_COUNT_MAX - 1, address: 0x0100_000a };
            let hint = device_hint(ifindex, sender);
            assert_eq!(hinted_sender(hint, ifindex), Some(sender));
            assert_eq!(hinted_sender(hint, ifindex ^ DEVICE_HINT_COUNT), None);
            assert_eq!(hinted_sender(0, ifindex), None);
        }
        assert_eq!(device_hint_cell(DEVICE_HINT_COUNT + 1), device_hint_cell(1));
    }

    #[test]
    fn a_way_fits_into_a_word() {
        assert_eq!(Way::unpacked(WAY.packed()), WAY);
    }

    #[test]
    fn a_seal_is_of_its_flow_its_way_and_its_ground() {
        let seal = WAY.seal(flow(1), &GROUND);
        assert_ne!(seal, WAY.seal(flow(2), &GROUND));
        assert_ne!(seal, Way { port: 65_534, ..WAY }.seal(flow(1), &GROUND));
        for other in [
            Ground { lease_id: 10, ..GROUND },
            Ground { row_base: 131_074, ..GROUND },
            Ground { verdict: 0x400, ..GROUND },
            Ground { period: 78, ..GROUND },
        ] {
            assert_ne!(seal, WAY.seal(flow(1), &other), "{other:?}");
        }
    }

    #[test]
    fn flows_spread_over_the_cells() {
        let of_ports: BTreeSet<u32> =
            (0..=u16::MAX).map(|inner_port| print(FlowKey { inner_port, ..KEY }).cell()).collect();
        assert_eq!(of_ports.len(), 1 << 16, "those of one remote are in nobody's way");
        let remotes = (0..FLOW_HINT_COUNT / 4).map(|remote_address| print(FlowKey { remote_address, ..KEY }).cell());
        let of_remotes: BTreeSet<u32> = remotes.collect();
        // Of as many flows as a quarter of the cells, one in nine finds another in its cell.
        assert!(of_remotes.len() as u32 > FLOW_HINT_COUNT / 4 * 86 / 100, "{}", of_remotes.len());
        assert!(of_remotes.last() < Some(&FLOW_HINT_COUNT));
    }
}
