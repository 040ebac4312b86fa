//! What a queue counts a packet as. A size table (linux/pkt_sched.h, TCA_STAB) makes it inner IP bytes, where the device carries
//! Ethernet and tunnels too, and batches that are cut into packets with headers of their own behind the queue.
//!
//! The kernel looks at a batch's length only, before it is cut: what its packets' own headers come to is read off a table that is as
//! long as two full packets' payload and goes on by that for longer ones (`__qdisc_calculate_pkt_len`, Linux 2.6.27 and later).

use netlink_packet_core::{DefaultNla, Emitable};
use netlink_packet_route::tc::{TcAttribute, TcMessage};

use super::tc_options::{nested, word_at};

const TCA_STAB_BASE: u16 = 1;
const TCA_STAB_DATA: u16 = 2;
/// IPv4 and TCP with timestamps, which most batches are of; of IPv6 a full batch counts 1.5 % too little.
const HEADERS_BYTES: u32 = 52;
/// No table is larger than an attribute may be, so packets beyond have none; batches of them count a percent too little at most.
const TABLED_MTU_MAX: u16 = 12_000;
/// No network has smaller packets (RFC 791 §3.2); for tables that make sense.
const MTU_MIN: u16 = 128;

/// How packets are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of every packet that don't count.
    pub overhead_bytes: u16,
    /// The largest packet without them, bytes: what is longer is a batch.
    pub mtu: u16,
}

impl Sizes {
    /// One count for packets of this and that kind: of the smaller overhead, and of the larger packets.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { overhead_bytes: self.overhead_bytes.min(other.overhead_bytes), mtu: self.mtu.max(other.mtu) }
    }

    /// `struct tc_sizespec`. The kernel keeps `mpu` and `mtu` for whoever asks; it does not read them.
    fn base(self) -> Vec<u8> {
        let overhead = -i32::from(self.overhead_bytes);
        let words = [overhead as u32, 0, HEADERS_BYTES, u32::from(self.mtu), self.table_length()];
        [0; 4].into_iter().chain(words.iter().flat_map(|word| word.to_ne_bytes())).collect()
    }

    fn table_length(self) -> u32 {
        if self.mtu > TABLED_MTU_MAX { 0 } else { 2 * (u32::from(self.mtu.max(MTU_MIN)) - HEADERS_BYTES) }
    }

    /// Length without overhead → what is counted.
    fn table(self) -> Vec<u16> {
        let (mtu, length) = (u32::from(self.mtu.max(MTU_MIN)), self.table_length());
        let counted = |bytes: u32| match bytes {
            _ if bytes + 1 == length => 2 * mtu,
            _ if bytes > mtu => bytes + HEADERS_BYTES,
            _ => bytes,
        };
        (0..length).map(|bytes| counted(bytes) as u16).collect()
    }
}

/// What makes a queue count so.
pub(super) fn attribute(sizes: Sizes) -> TcAttribute {
    let data: Vec<u8> = sizes.table().into_iter().flat_map(u16::to_ne_bytes).collect();
    let mut parts = vec![DefaultNla::new(TCA_STAB_BASE, sizes.base())];
    if !data.is_empty() {
        parts.push(DefaultNla::new(TCA_STAB_DATA, data));
    }
    let mut bytes = vec![0; parts.as_slice().buffer_len()];
    parts.as_slice().emit(&mut bytes);
    TcAttribute::Stab(bytes)
}

/// How a queue counts, if it is in our way. The kernel tells what a table was made of, and not the table.
pub(super) fn read(message: &TcMessage) -> Option<Sizes> {
    let table = message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Stab(bytes) => nested(bytes, TCA_STAB_BASE),
        _ => None,
    })?;
    let overhead = -(word_at(&table, 4)? as i32);
    let overhead_bytes = u16::try_from(overhead).ok()?;
    let sizes = Sizes { overhead_bytes, mtu: u16::try_from(word_at(&table, 16)?).ok()? };
    (table == sizes.base()).then_some(sizes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes { overhead_bytes: 50, mtu: 1_400 };

    /// As the kernel does, of a length without overhead.
    fn counted(table: &[u16], length: u32) -> u32 {
        let slot = length as usize;
        let at = |slot: usize| u32::from(table[slot]);
        match table.len() {
            0 => length,
            size if slot < size => at(slot),
            size => at(size - 1) * (slot / size) as u32 + at(slot % size),
        }
    }

    #[test]
    fn a_packet_counts_as_its_inner_bytes() {
        for inner in 0..=1_400 {
            assert_eq!(counted(&SIZES.table(), inner), inner);
        }
    }

    #[test]
    fn a_batch_counts_as_what_it_is_cut_into() {
        for mtu in [1_280, 1_400, 1_450, 8_950] {
            let table = Sizes { mtu, ..SIZES }.table();
            for payload in 1..65_400_u32 {
                let packets = payload.div_ceil(u32::from(mtu) - 52);
                let (is, shall) = (counted(&table, 52 + payload), payload + packets * 52);
                assert!(is.abs_diff(shall) <= 53, "{packets} packets up to {mtu}: {is} instead of {shall}");
            }
        }
    }

    #[test]
    fn a_count_is_read_as_it_was_written() {
        for sizes in [SIZES, Sizes { overhead_bytes: 14, mtu: 65_520 }, Sizes { overhead_bytes: 0, mtu: 0 }] {
            let mut message = TcMessage::default();
            assert_eq!(read(&message), None);
            message.attributes.push(attribute(sizes));
            assert_eq!(read(&message), Some(sizes));
        }
        let mut of_others = TcMessage::default();
        let mut base = SIZES.base();
        base[0] = 3;
        let mut bytes = vec![0; 28];
        DefaultNla::new(TCA_STAB_BASE, base).emit(&mut bytes);
        of_others.attributes.push(TcAttribute::Stab(bytes));
        assert_eq!(read(&of_others), None, "lengths in steps of eight");
    }

    #[test]
    fn two_kinds_are_counted_by_what_both_have() {
        let other = Sizes { overhead_bytes: 14, mtu: 1_350 };
        assert_eq!(SIZES.and(other), Sizes { overhead_bytes: 14, mtu: 1_400 });
        assert_eq!(other.and(SIZES), SIZES.and(other));
    }
}
