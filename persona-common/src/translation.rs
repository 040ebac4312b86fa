//! IPv6 prefix translation (RFC 6296) between /64s: pure arithmetic, checksum-neutral, undone by its own inverse.
//!
//! The sum of an address's words stays what it was, so no checksum over it changes. What the prefixes differ by is added
//! to the first word of the interface identifier that isn't 0xffff (§3.5). Words are taken as they stand in memory:
//! one's complement sums are the same in either byte order.

use crate::addr::Address6;
use crate::checksum::fold;

/// The word in which zero has its second form in one's complement; it is never made, so that nothing is ambiguous.
const NEGATIVE_ZERO: u16 = 0xffff;

/// The two words' halves added up.
#[inline(always)]
const fn sum(prefix: [u32; 2]) -> u32 {
    (prefix[0] & 0xffff) + (prefix[0] >> 16) + (prefix[1] & 0xffff) + (prefix[1] >> 16)
}

/// What an address gains on its way from one /64 to another; the complement is what it gains on the way back.
#[inline(always)]
pub const fn adjustment(from: [u32; 2], to: [u32; 2]) -> u16 {
    // One's complement subtraction: add the complement of the folded sum.
    fold(sum(from) + !fold(sum(to)) as u32)
}

/// The address under another /64. None: its interface identifier, or the one that it would get, is all zeros (the
/// anycast address of routers, RFC 6296 §3.7, RFC 4291 §2.6.1), or is all ones and has no word to adjust.
#[inline(always)]
pub const fn translate(address: Address6, to: [u32; 2], adjustment: u16) -> Option<Address6> {
    match adjusted(address, to, adjustment) {
        Some(translated) if address[2] | address[3] != 0 && translated[2] | translated[3] != 0 => Some(translated),
        _ => None,
    }
}

#[inline(always)]
const fn adjusted(address: Address6, to: [u32; 2], adjustment: u16) -> Option<Address6> {
    let [_, _, high, low] = address;
    if high as u16 != NEGATIVE_ZERO {
        return Some([to[0], to[1], adjust_first(high, adjustment), low]);
    }
    if (high >> 16) as u16 != NEGATIVE_ZERO {
        return Some([to[0], to[1], adjust_second(high, adjustment), low]);
    }
    if low as u16 != NEGATIVE_ZERO {
        return Some([to[0], to[1], high, adjust_first(low, adjustment)]);
    }
    if (low >> 16) as u16 != NEGATIVE_ZERO {
        return Some([to[0], to[1], high, adjust_second(low, adjustment)]);
    }
    None
}

/// On a little-endian machine the first word in the packet is the lower half.
#[inline(always)]
const fn adjust_first(long: u32, adjustment: u16) -> u32 {
    (long & 0xffff_0000) | add(long as u16, adjustment) as u32
}

#[inline(always)]
const fn adjust_second(long: u32, adjustment: u16) -> u32 {
    (long & 0xffff) | (add((long >> 16) as u16, adjustment) as u32) << 16
}

#[inline(always)]
const fn add(word: u16, adjustment: u16) -> u16 {
    let word = fold(word as u32 + adjustment as u32);
    if word == NEGATIVE_ZERO { 0 } else { word }
}

const _: () = assert!(cfg!(target_endian = "little"), "words within a u32 are taken from its lower half first");

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::addr::{address6, octets6};

    fn words(text: &str) -> Address6 {
        address6(text.parse::<Ipv6Addr>().unwrap().octets())
    }

    fn prefix(address: Address6) -> [u32; 2] {
        [address[0], address[1]]
    }

    /// The one's complement sum of an address as RFC 1071 computes it over big-endian words, 0xffff taken as zero.
    fn neutral_sum(address: Address6) -> u32 {
        let bytes = octets6(address);
        let mut sum = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum::<u32>();
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum % 0xffff
    }

    #[test]
    fn the_first_word_that_is_not_all_ones_takes_the_difference() {
        // From fd01:203:405:1::/64 to 2001:db8:1:2::/64. Sums: 0xfd01 + 0x203 + 0x405 + 1 = 0x1_030a, folded 0x030b;
        // 0x2001 + 0xdb8 + 1 + 2 = 0x2dbc; 0x030b - 0x2dbc = 0xd54e in one's complement.
        for (from, to) in [
            ("fd01:203:405:1::1234", "2001:db8:1:2:d54e::1234"),
            ("fd01:203:405:1:ffff::1234", "2001:db8:1:2:ffff:d54e:0:1234"),
            ("fd01:203:405:1:ffff:ffff::", "2001:db8:1:2:ffff:ffff:d54e:0"),
            ("fd01:203:405:1:ffff:ffff:ffff:1", "2001:db8:1:2:ffff:ffff:ffff:d54f"),
            ("fd01:203:405:1:2ab1::1", "2001:db8:1:2::1"),
        ] {
            let (from, to) = (words(from), words(to));
            let there = adjustment(prefix(from), prefix(to));
            assert_eq!(translate(from, prefix(to), there), Some(to));
            assert_eq!(translate(to, prefix(from), !there), Some(from));
        }
        assert_eq!(translate(words("fd01::ffff:ffff:ffff:ffff"), [0; 2], 7), None);
    }

    #[test]
    fn an_identifier_of_all_zeros_is_not_translated_and_not_made() {
        let there = adjustment(prefix(words("fd01:203:405:1::")), prefix(words("2001:db8:1:2::")));
        for (identifier, to) in [("fd01:203:405:1::", "2001:db8:1:2::"), ("fd01:203:405:1:2ab1::", "2001:db8:1:2::")] {
            assert_eq!(translate(words(identifier), prefix(words(to)), there), None, "{identifier}");
        }
        // Seen from outside it is the other way around.
        assert_eq!(translate(words("2001:db8:1:2::"), prefix(words("fd01:203:405:1::")), !there), None);
        assert_eq!(translate(words("2001:db8:1:2:d54e::"), prefix(words("fd01:203:405:1::")), !there), None);
    }

    proptest! {
        #[test]
        fn translation_is_neutral_and_undone_by_its_inverse(inner: [u32; 4], outer: [u32; 2], ones in 0u32..16) {
            // Some identifiers with words of all ones.
            let mut inner = inner;
            inner[2] |= if ones & 1 != 0 { 0xffff } else { 0 } | if ones & 2 != 0 { 0xffff_0000 } else { 0 };
            inner[3] |= if ones & 4 != 0 { 0xffff } else { 0 } | if ones & 8 != 0 { 0xffff_0000 } else { 0 };
            let there = adjustment(prefix(inner), outer);
            match translate(inner, outer, there) {
                None => {
                    let is_zero = [inner[2], inner[3]] == [0; 2]
                        || adjusted(inner, outer, there).is_some_and(|made| [made[2], made[3]] == [0; 2]);
                    prop_assert!(is_zero || [inner[2], inner[3]] == [u32::MAX; 2]);
                }
                Some(translated) => {
                    prop_assert_eq!(prefix(translated), outer);
                    prop_assert_eq!(neutral_sum(translated), neutral_sum(inner));
                    prop_assert_eq!(translate(translated, prefix(inner), !there), Some(inner));
                }
            }
        }
    }
}
