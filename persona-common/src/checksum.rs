//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! Words are taken as they stand in memory: the sum is the same in either byte order.

/// Folds a sum of 16-bit words into a checksum's complement.
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// A checksum after one 16-bit word under it has changed (RFC 1624 §3, equation 3).
pub const fn replace_word(checksum: u16, from: u16, to: u16) -> u16 {
    !fold(!checksum as u32 + !from as u32 + to as u32)
}

/// A checksum after one 32-bit word under it has changed.
pub const fn replace_long(checksum: u16, from: u32, to: u32) -> u16 {
    let checksum = replace_word(checksum, from as u16, to as u16);
    replace_word(checksum, (from >> 16) as u16, (to >> 16) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checksum(words: &[u16]) -> u16 {
        !fold(words.iter().map(|word| u32::from(*word)).sum())
    }

    #[test]
    fn an_update_equals_a_new_sum() {
        for (from, to) in [(0u32, 1u32), (0xffff_ffff, 0), (0x1234_5678, 0x9abc_def0), (7, 7)] {
            let words = |long: u32| [0x4500, 0x1234, long as u16, (long >> 16) as u16, 0xbeef];
            assert_eq!(replace_long(checksum(&words(from)), from, to), checksum(&words(to)), "{from:x} to {to:x}");
        }
    }
}
