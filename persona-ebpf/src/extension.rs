//! IPv6 extension headers (RFC 8200 §4): stepped over, within bounds, to whatever stands behind them.

use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use persona_common::drop::DropReason;

use crate::frame::Frame;
use crate::header::IPV6_LENGTH;
use crate::packet::Part;
use crate::packet6::EXTENSION_LENGTH_MAX;

/// Headers that are stepped over.
const HEADER_COUNT_MAX: u32 = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// The routing header that lets a sender choose the way (RFC 5095).
const ROUTING_TYPE_SOURCE: u8 = 0;

/// Fragment offset and the more-fragments flag, as they stand in a fragment header.
const OFFSET_MASK: u16 = 0xfff8u16.to_be();
const MORE: u16 = 1u16.to_be();

/// The most bytes of a reassembled payload (RFC 8200 §4.5).
const PAYLOAD_LENGTH_MAX: usize = 65_535;

/// What stands behind the extension headers, in one register: the protocol in bits 0-7, the bytes up to it in 8-19, the
/// part in 20-21, the protocol that the fragment header names in 24-31, the fragment's id in 32-63. Bit 22 is set in an
/// error, whose reason then stands in bits 0-7.
#[derive(Clone, Copy)]
pub struct Headers(u64);

const IS_ERROR: u64 = 1 << 22;
const WHOLE: u64 = 0;
const FIRST: u64 = 1;
const LATER: u64 = 2;

#[inline(always)]
fn part_of(packed: u64) -> u64 {
    packed >> 20 & 3
}

impl Headers {
    /// The protocol behind them.
    #[inline(always)]
    pub fn protocol(self) -> u8 {
        self.0 as u8
    }

    /// Bytes from the start of the IP header to what is behind them.
    #[inline(always)]
    pub fn length(self) -> usize {
        (self.0 >> 8 & 0xfff) as usize
    }

    /// How much of a packet follows.
    #[inline(always)]
    pub fn part(self) -> Part {
        match part_of(self.0) {
            WHOLE => Part::Whole,
            FIRST => Part::First,
            _ => Part::Later,
        }
    }

    /// The protocol that the fragment header names; without one, the IP header's.
    #[inline(always)]
    pub fn fragment_protocol(self) -> u8 {
        (self.0 >> 24) as u8
    }

    /// The fragment's id, host order.
    #[inline(always)]
    pub fn fragment_id(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Steps over the extension headers of the packet of `length` bytes whose IP header stands at `at` and names `first`.
#[inline(always)]
pub fn walk<F: Frame>(frame: &F, at: usize, first: u8, length: usize) -> Result<Headers, DropReason> {
    let packed = walk_apart(frame, at, first, length);
    if packed & IS_ERROR == 0 {
        return Ok(Headers(packed));
    }
    Err(match packed as u8 {
        reason if reason == DropReason::ExtensionHeaders as u8 => DropReason::ExtensionHeaders,
        reason if reason == DropReason::Fragment as u8 => DropReason::Fragment,
        _ => DropReason::Malformed,
    })
}

#[inline(never)]
fn walk_apart<F: Frame>(frame: &F, at: usize, first: u8, length: usize) -> u64 {
    match step(frame, at, first, length) {
        Ok(packed) => packed,
        Err(reason) => IS_ERROR | reason as u64,
    }
}

/// Where the walk stands. Kept in a map between steps: what comes out of one has no history for the verifier, so that
/// paths meet again after every header.
#[repr(C)]
#[derive(Clone, Copy)]
struct Place {
    fragment: u64,
    offset: u32,
    protocol: u32,
}

#[map]
static WALK: PerCpuArray<Place> = PerCpuArray::with_max_entries(1, 0);

#[inline(always)]
fn step<F: Frame>(frame: &F, at: usize, first: u8, length: usize) -> Result<u64, DropReason> {
    let place = WALK.get_ptr_mut(0).ok_or(DropReason::Kernel)?;
    let begin = Place { fragment: (first as u64) << 24, offset: IPV6_LENGTH as u32, protocol: first as u32 };
    // SAFETY: a cell of this CPU, whose programs don't interrupt each other here.
    unsafe { place.write_volatile(begin) };
    let mut count = 0;
    while count <= HEADER_COUNT_MAX {
        // SAFETY: as above.
        let here = unsafe { place.read_volatile() };
        if !is_extension(here.protocol as u8) || part_of(here.fragment) == LATER {
            // Whatever the first bytes of a later fragment's data say is no header.
            return Ok(here.protocol as u64 & 0xff | (here.offset as u64 & 0xfff) << 8 | here.fragment);
        }
        let next = step_over(frame, at, here, length)?;
        // SAFETY: as above.
        unsafe { place.write_volatile(next) };
        count += 1;
    }
    Err(DropReason::ExtensionHeaders)
}

#[inline(always)]
fn is_extension(protocol: u8) -> bool {
    matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS)
}

/// The place behind the header at a place.
#[inline(always)]
fn step_over<F: Frame>(frame: &F, at: usize, here: Place, length: usize) -> Result<Place, DropReason> {
    let offset = (here.offset & 0xfff) as usize;
    if offset + 8 > length {
        return Err(DropReason::Malformed);
    }
    let head: [u8; 8] = frame.read(at + offset).ok_or(DropReason::Malformed)?;
    let header_length = match here.protocol as u8 {
        FRAGMENT => 8,
        AUTHENTICATION => (head[1] as usize + 2) * 4,
        _ => (head[1] as usize + 1) * 8,
    };
    if here.protocol as u8 == ROUTING && head[2] == ROUTING_TYPE_SOURCE {
        return Err(DropReason::ExtensionHeaders);
    }
    let behind = offset + header_length;
    if behind > IPV6_LENGTH + EXTENSION_LENGTH_MAX {
        return Err(DropReason::ExtensionHeaders);
    }
    if behind > length {
        return Err(DropReason::Malformed);
    }
    let is_fragment = here.protocol as u8 == FRAGMENT;
    if is_fragment && part_of(here.fragment) == FIRST {
        // A fragment within a fragment would pass for a whole packet.
        return Err(DropReason::ExtensionHeaders);
    }
    let fragment = if is_fragment { read_fragment(head, length - behind)? } else { here.fragment };
    Ok(Place { fragment, offset: behind as u32, protocol: head[0] as u32 })
}

/// Part, protocol and id of a fragment header with `data_length` bytes behind it, where [`Headers`] has them.
#[inline(always)]
fn read_fragment(head: [u8; 8], data_length: usize) -> Result<u64, DropReason> {
    let place = u16::from_ne_bytes([head[2], head[3]]);
    let offset = u16::from_be(place & OFFSET_MASK) as usize;
    let has_more = place & MORE != 0;
    let lies =
        (has_more && !data_length.is_multiple_of(8)) || data_length == 0 || offset + data_length > PAYLOAD_LENGTH_MAX;
    if lies {
        return Err(DropReason::Malformed);
    }
    let part = match (offset, has_more) {
        // A fragment that is all of it is an ordinary packet (RFC 6946).
        (0, false) => WHOLE,
        (0, true) => FIRST,
        _ => LATER,
    };
    let id = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    Ok(part << 20 | (head[0] as u64) << 24 | (id as u64) << 32)
}
