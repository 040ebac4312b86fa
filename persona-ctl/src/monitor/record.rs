//! Records of the rings, from the bytes that the programs wrote.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use persona_common::drop::DropReason;
use persona_common::event::{
    Hook, KIND_AFTER, KIND_BEFORE, KIND_DROP, KIND_FLOW_CLOSED, KIND_FLOW_OPENED, RecordHeader,
};

use super::flow::FlowView;

const HEADER_LENGTH: usize = size_of::<RecordHeader>();

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A dropped packet.
    Drop {
        /// Why.
        reason: DropReason,
        /// Where, and its first bytes.
        frame: FrameRecord,
    },
    /// A packet that passed a program.
    Packet {
        /// Before or after it.
        moment: Moment,
        /// Where, and its first bytes.
        frame: FrameRecord,
    },
    /// A flow opened.
    Opened(FlowView),
    /// A flow's end was seen.
    Closed(FlowView),
}

/// Before or after a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// As it came.
    Before,
    /// As it left, with the program's verdict.
    After {
        /// The verdict's number at that hook.
        verdict: i32,
    },
}

/// A frame as far as a record holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameRecord {
    /// Which program.
    pub hook: Hook,
    /// The device.
    pub ifindex: u32,
    /// Monotonic time.
    pub time: Duration,
    /// Bytes on the wire.
    pub length: u32,
    /// Its first bytes, from the Ethernet header on.
    pub bytes: Vec<u8>,
}

impl Record {
    /// Reads a record. None: one of a kind that this release doesn't know.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let long = |at: usize| bytes.get(at..at + 4).map(|four| u32::from_ne_bytes(four.try_into().expect("four")));
        let (kind, hook, detail) = (long(0)?, long(4)?, long(16)?);
        let hook = Hook::ALL.into_iter().find(|candidate| *candidate as u32 == hook)?;
        let time = Duration::from_nanos(u64::from_ne_bytes(bytes.get(8..16)?.try_into().ok()?));
        if kind == KIND_FLOW_OPENED || kind == KIND_FLOW_CLOSED {
            let flow = read_flow(bytes.get(HEADER_LENGTH..)?, time)?;
            return Some(if kind == KIND_FLOW_OPENED { Self::Opened(flow) } else { Self::Closed(flow) });
        }
        let captured = long(28)? as usize;
        let frame = FrameRecord {
            hook,
            ifindex: long(20)?,
            time,
            length: long(24)?,
            bytes: bytes.get(HEADER_LENGTH..HEADER_LENGTH + captured)?.to_vec(),
        };
        match kind {
            KIND_DROP => Some(Self::Drop { reason: DropReason::of_number(detail)?, frame }),
            KIND_BEFORE => Some(Self::Packet { moment: Moment::Before, frame }),
            KIND_AFTER => Some(Self::Packet { moment: Moment::After { verdict: detail as i32 }, frame }),
            _ => None,
        }
    }
}

fn read_flow(bytes: &[u8], time: Duration) -> Option<FlowView> {
    let long = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let short = |at: usize| Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let address = |at: usize| -> Option<IpAddr> {
        let octets: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
        Some(Ipv6Addr::from(octets).to_canonical())
    };
    Some(FlowView {
        time,
        lease: u64::from_ne_bytes(bytes.get(0..8)?.try_into().ok()?),
        subject: long(8)?,
        vni: long(12)?,
        inner: address(16)?,
        remote: address(32)?,
        outer: address(48)?,
        inner_port: short(64)?,
        remote_port: short(66)?,
        outer_port: short(68)?,
        protocol: short(70)? as u8,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: u32, detail: u32, captured: u32) -> Vec<u8> {
        let mut bytes = [kind, Hook::FromWorkload as u32].map(u32::to_ne_bytes).concat();
        bytes.extend(7_000_000_001u64.to_ne_bytes());
        bytes.extend([detail, 3, 1_500, captured].map(u32::to_ne_bytes).concat());
        bytes
    }

    #[test]
    fn a_drop_is_read_with_its_reason_and_bytes() {
        let bytes = [header(KIND_DROP, DropReason::NoEdge as u32, 3), vec![1, 2, 3, 9, 9]].concat();
        let Some(Record::Drop { reason, frame }) = Record::read(&bytes) else { panic!() };
        assert_eq!((reason, frame.ifindex, frame.length, frame.bytes), (DropReason::NoEdge, 3, 1_500, vec![1, 2, 3]));
    }

    #[test]
    fn records_that_lie_are_not_read() {
        let cut = [header(KIND_DROP, 0, 3), vec![1]].concat();
        let unknown_reason = [header(KIND_DROP, 999, 0), vec![]].concat();
        let unknown_kind = header(77, 0, 0);
        for bytes in [cut, unknown_reason, unknown_kind, vec![], vec![1; 31]] {
            assert_eq!(Record::read(&bytes), None, "{bytes:?}");
        }
    }
}
