//! Cutting an IPv4 packet into fragments (RFC 791 §3.2).
//!
//! Pure. What is cut may be a fragment itself: its pieces go on where it began, and its last piece is the last one only if
//! it was.

use super::ip::{HEADER_LENGTH, Ipv4Header, PACKET_LENGTH_MAX, mend_checksum};

/// The smallest MTU that a packet is cut for (RFC 791 §3.2: "every internet module must be able to forward a datagram of
/// 68 octets"): every piece carries at least eight bytes.
pub(super) const MTU_MIN: usize = 68;

const OPTION_END: u8 = 0;
const OPTION_NO_OPERATION: u8 = 1;
const OPTION_COPIED: u8 = 0x80;
const MORE_FRAGMENTS: u16 = 0x2000;

/// Why a packet cannot be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum CutError {
    /// A header that ends early or whose lengths lie.
    #[error("no whole IPv4 packet")]
    Malformed,
    /// Its sender forbids it.
    #[error("not to be fragmented")]
    DontFragment,
    /// Fragments would not carry eight bytes each.
    #[error("MTU {0} is less than {MTU_MIN}")]
    Mtu(usize),
}

/// Cuts `packet` so that no piece is longer than `mtu` bytes, header included. Bytes after the packet's end are left out.
/// A packet that fits comes back as its only piece.
pub(super) fn cut(packet: &[u8], mtu: usize) -> Result<Vec<Vec<u8>>, CutError> {
    let header = Ipv4Header::read(packet).ok_or(CutError::Malformed)?;
    let packet = &packet[..header.total_length];
    if packet.len() <= mtu {
        return Ok(vec![packet.to_vec()]);
    }
    if mtu < MTU_MIN {
        return Err(CutError::Mtu(mtu));
    }
    if header.dont_fragment {
        return Err(CutError::DontFragment);
    }
    let (head, payload) = packet.split_at(header.header_length);
    // A fragment's end past the largest packet is nothing that its receiver could put together (the "ping of death").
    if header.offset + payload.len() > PACKET_LENGTH_MAX || (header.more_fragments && payload.len() % 8 != 0) {
        return Err(CutError::Malformed);
    }
    let later_head = later_header(head)?;
    let mut pieces = Vec::new();
    let mut rest = payload;
    while !rest.is_empty() {
        let head = if pieces.is_empty() { head } else { &later_head };
        let room = mtu - head.len();
        let length = if rest.len() <= room { rest.len() } else { room / 8 * 8 };
        let (bytes, after) = rest.split_at(length);
        let offset = header.offset + payload.len() - rest.len();
        let has_more = header.more_fragments || !after.is_empty();
        pieces.push(piece(head, offset, has_more, bytes));
        rest = after;
    }
    Ok(pieces)
}

fn piece(head: &[u8], offset: usize, has_more: bool, bytes: &[u8]) -> Vec<u8> {
    let mut piece = Vec::with_capacity(head.len() + bytes.len());
    piece.extend_from_slice(head);
    piece.extend_from_slice(bytes);
    let total_length = piece.len() as u16;
    let word = (offset / 8) as u16 | if has_more { MORE_FRAGMENTS } else { 0 };
    piece[0] = 0x40 | (head.len() / 4) as u8;
    piece[2..4].copy_from_slice(&total_length.to_be_bytes());
    piece[6..8].copy_from_slice(&word.to_be_bytes());
    mend_checksum(&mut piece, head.len());
    piece
}

/// The header of every piece but the first: only options whose copied flag is set, padded to a multiple of four.
fn later_header(head: &[u8]) -> Result<Vec<u8>, CutError> {
    let mut later = head[..HEADER_LENGTH].to_vec();
    let mut options = &head[HEADER_LENGTH..];
    while let [kind, ..] = *options {
        let length = match kind {
            OPTION_END => break,
            OPTION_NO_OPERATION => 1,
            _ => usize::from(*options.get(1).ok_or(CutError::Malformed)?),
        };
        if length == 0 || (kind != OPTION_NO_OPERATION && length < 2) {
            return Err(CutError::Malformed);
        }
        let option = options.get(..length).ok_or(CutError::Malformed)?;
        if kind & OPTION_COPIED != 0 {
            later.extend_from_slice(option);
        }
        options = &options[length..];
    }
    later.resize(later.len().next_multiple_of(4), OPTION_END);
    Ok(later)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::ip::header_checksum;
    use super::super::ip::tests::ipv4_packet;
    use super::*;

    /// Puts fragments together as a receiver would: (payload, whether the end was there), or why it cannot.
    fn reassemble(pieces: &[Vec<u8>], base: usize) -> (Vec<u8>, bool) {
        let mut payload = Vec::new();
        let mut has_end = false;
        for piece in pieces {
            let header = Ipv4Header::read(piece).unwrap();
            assert_eq!(header.total_length, piece.len());
            assert_eq!(header.offset, base + payload.len(), "pieces follow each other without a hole");
            assert_eq!(header_checksum(&piece[..header.header_length]), [0, 0], "the checksum is right");
            payload.extend_from_slice(&piece[header.header_length..]);
            has_end = !header.more_fragments;
        }
        (payload, has_end)
    }

    proptest! {
        #[test]
        fn pieces_fit_and_make_the_packet_again(
            length in 0usize..9_000, mtu in MTU_MIN..3_000, offset in 0u16..4_000, more: bool, option_words in 0usize..=10,
        ) {
            let length = if more { length / 8 * 8 } else { length };
            let payload: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let packet = ipv4_packet(&vec![OPTION_NO_OPERATION; option_words * 4], 9, offset | u16::from(more) << 13, &payload);
            let pieces = cut(&packet, mtu).unwrap();
            prop_assert!(pieces.iter().all(|piece| piece.len() <= mtu));
            let inner = pieces.iter().map(|piece| Ipv4Header::read(piece).unwrap());
            prop_assert!(inner.clone().all(|header| header.id == 9 && header.protocol == 17));
            let (again, has_end) = reassemble(&pieces, usize::from(offset) * 8);
            prop_assert_eq!(again, payload);
            prop_assert_eq!(has_end, !more);
        }

        #[test]
        fn any_bytes_are_cut_without_harm(mut bytes: Vec<u8>, mtu in 0usize..200) {
            if bytes.len() >= 4 {
                bytes[0] = 0x40 | (bytes[0] & 15);
                let length = (bytes.len() as u16).to_be_bytes();
                bytes[2..4].copy_from_slice(&length);
            }
            if let Ok(pieces) = cut(&bytes, mtu) {
                prop_assert!(pieces.iter().all(|piece| piece.len() <= mtu));
            }
        }
    }

    #[test]
    fn options_are_copied_by_their_flag() {
        // Record route (7, not copied), router alert (148, copied), no operation, end.
        let options = [7, 7, 4, 0, 0, 0, 0, 148, 4, 0, 0, 1, 0, 0, 0, 0];
        let pieces = cut(&ipv4_packet(&options, 1, 0, &[5; 200]), 100).unwrap();
        assert_eq!(pieces[0][20..36], options, "the first piece has them all");
        for piece in &pieces[1..] {
            assert_eq!((piece[0] & 15, &piece[20..24]), (6, &[148, 4, 0, 0][..]));
        }
    }

    #[test]
    fn what_cannot_be_cut_is_refused() {
        let lying_option = ipv4_packet(&[148, 9, 0, 0], 1, 0, &[0; 200]);
        let endless_option = ipv4_packet(&[148, 0, 0, 0], 1, 0, &[0; 200]);
        let cases = [
            ("a sender that forbids it", ipv4_packet(&[], 1, 0x4000, &[0; 200]), 100, CutError::DontFragment),
            ("a tiny MTU", ipv4_packet(&[], 1, 0, &[0; 200]), 67, CutError::Mtu(67)),
            ("an option past the header", lying_option, 100, CutError::Malformed),
            ("an option without length", endless_option, 100, CutError::Malformed),
            ("past the largest packet", ipv4_packet(&[], 1, 0x1fff, &[0; 200]), 100, CutError::Malformed),
            ("an uneven middle", ipv4_packet(&[], 1, 0x2001, &[0; 201]), 100, CutError::Malformed),
            ("half a packet", ipv4_packet(&[], 1, 0, &[0; 200])[..100].to_vec(), 100, CutError::Malformed),
        ];
        for (what, packet, mtu, expected) in cases {
            assert_eq!(cut(&packet, mtu), Err(expected), "{what}");
        }
    }

    #[test]
    fn what_fits_stays_as_it_is() {
        let packet = ipv4_packet(&[], 1, 0x4000, &[0; 80]);
        assert_eq!(cut(&packet, 100).unwrap(), [packet]);
    }
}
