//! MSS clamping: a TCP connection never asks for segments that its persona's MTU can't carry.

use aya_ebpf::helpers::bpf_skb_load_bytes;
use aya_ebpf::programs::TcContext;
use persona_common::drop::DropReason;
use persona_ebpf::header::{ETHERNET_LENGTH, TCP_SYN};
use persona_ebpf::packet::Packet;
use persona_ebpf::tc::{replace_checksum, skb};

const TCP_AT: usize = ETHERNET_LENGTH + 20;
const OPTIONS_AT: usize = TCP_AT + 20;
const CHECKSUM_AT: usize = TCP_AT + 16;

/// Bytes of IPv4 and TCP headers without options (RFC 6691 §2).
const FIXED_HEADERS_LENGTH: u32 = 40;
/// Options that are looked at before the search is given up; an MSS stands first in practice.
const OPTION_COUNT_MAX: usize = 12;

const END: u8 = 0;
const PADDING: u8 = 1;
const MSS: u8 = 2;

/// Lowers the MSS option of a SYN to what `mtu` allows.
#[inline(always)]
pub fn clamp_mss(frame: &TcContext, packet: &Packet, mtu: u32) -> Result<(), DropReason> {
    if packet.tcp_flags & TCP_SYN == 0 || packet.headers_length <= 40 {
        return Ok(());
    }
    let limit = (mtu.saturating_sub(FIXED_HEADERS_LENGTH)) as u16;
    let Some((at, mss)) = find_mss(frame, packet.headers_length - 40) else { return Ok(()) };
    if mss <= limit {
        return Ok(());
    }
    // An option may start at an odd offset; the words of the sum are then the other way round.
    let word = |value: u16| if at % 2 == 0 { value.to_be() } else { value.to_be().swap_bytes() };
    replace_checksum(frame, CHECKSUM_AT, word(mss) as u64, word(limit) as u64, 2)?;
    store(frame, OPTIONS_AT + at, limit.to_be())
}

/// Offset of the MSS value among the options, and the value.
#[inline(always)]
fn find_mss(frame: &TcContext, options_length: usize) -> Option<(usize, u16)> {
    let mut at = 0usize;
    let mut count = 0;
    while count < OPTION_COUNT_MAX {
        if at + 4 > options_length || at > 36 {
            return None;
        }
        let option: [u8; 4] = load(frame, OPTIONS_AT + at)?;
        match option[0] {
            END => return None,
            PADDING => at += 1,
            MSS if option[1] == 4 => return Some((at + 2, u16::from_be_bytes([option[2], option[3]]))),
            MSS => return None,
            _ if option[1] < 2 => return None,
            _ => at += option[1] as usize,
        }
        count += 1;
    }
    None
}

#[inline(always)]
fn load(frame: &TcContext, at: usize) -> Option<[u8; 4]> {
    let mut bytes = [0u8; 4];
    // SAFETY: the buffer has the length given; the helper checks the offset.
    match unsafe { bpf_skb_load_bytes(skb(frame).cast(), at as u32, bytes.as_mut_ptr().cast(), 4) } {
        0 => Some(bytes),
        _ => None,
    }
}

#[inline(always)]
fn store(frame: &TcContext, at: usize, value: u16) -> Result<(), DropReason> {
    frame.skb.store(at, &value, 0).map_err(|_| DropReason::Kernel)
}
