//! Records of flows that have no slot: IPv6, configured leases, and connections opened towards a workload.
//!
//! A record says under which lease a flow leaves and when a packet of it last passed. Nothing is given or taken with it:
//! a record that is lost costs the choice of an old lease, never a wrong translation.

use crate::addr::Address6;
use crate::flow::{ICMP, SLOT_DNS, SLOT_REPLIED, SLOT_RESET, TCP, UDP, idle_limit_secs};

/// ICMPv6's protocol number.
pub const ICMPV6: u8 = 58;

/// A flow of a subject, of either family. Maps `RECORDS` and `TOWARDS`.
///
/// With `remote` and `remote_port` zero it is the entry that any remote may answer, kept where filtering is
/// endpoint-independent.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordKey {
    /// The subject's number.
    pub subject: u32,
    /// The subject's own address, as the workload knows it.
    pub local: Address6,
    /// The other side's address.
    pub remote: Address6,
    /// The subject's own port, or the ICMP id; 0 for protocols without ports.
    pub local_port: u16,
    /// The other side's port; 0 for ICMP and protocols without ports.
    pub remote_port: u16,
    /// The IP protocol.
    pub protocol: u32,
}

const _: () = assert!(size_of::<RecordKey>() == 44 && align_of::<RecordKey>() == 4);

impl RecordKey {
    /// Whether it is the entry that any remote may answer, not a flow.
    pub const fn is_of_any_remote(&self) -> bool {
        let [a, b, c, d] = self.remote;
        a | b | c | d == 0
    }

    /// The entry that any remote may answer.
    #[inline(always)]
    pub const fn of_any_remote(&self) -> Self {
        Self {
            subject: self.subject,
            local: self.local,
            remote: [0; 4],
            local_port: self.local_port,
            remote_port: 0,
            protocol: self.protocol,
        }
    }
}

/// [`Record::flags`]: the other side has answered.
pub const RECORD_REPLIED: u32 = SLOT_REPLIED;
/// [`Record::flags`]: one side has sent RST and the subject nothing since.
pub const RECORD_RESET: u32 = SLOT_RESET;
/// [`Record::flags`]: the other side's port is 53.
pub const RECORD_DNS: u32 = SLOT_DNS;
/// [`Record::flags`]: the subject has sent FIN or RST.
pub const RECORD_CLOSING: u32 = 8;

/// [`Record::flags`]: it is the entry that any remote may answer, which no flow's end closes.
pub const RECORD_ANY_REMOTE: u32 = 16;

/// How long a TCP connection may be idle until no stranger can open another to its local port: RFC 5382 REQ-5's time for
/// what isn't established. Longer, and each connection would hold an entry for hours after its end.
const ANY_REMOTE_TCP_SECS: u32 = 240;

/// [`Record::flags`]: the other side has sent FIN; the subject may still send.
pub const RECORD_REMOTE_CLOSING: u32 = 16;

/// [`Record::flags`]: the other side has opened it, and a firewall judged that. In `TOWARDS` that goes without saying.
pub const RECORD_OPENED_INWARD: u32 = 32;
/// [`Record::flags`], in `TOWARDS`: the subject has opened it, past its persona.
pub const RECORD_OPENED_OUTWARD: u32 = 64;

/// What is known of a flow without a slot.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Record {
    /// The lease's index in `LEASES`; means nothing in `TOWARDS`.
    pub lease_index: u32,
    /// The low half of the lease's id: a record whose cell was given to another lease is a miss.
    pub lease_id_low: u32,
    /// When a packet last passed, seconds of the coarse clock.
    pub last_seen_secs: u32,
    /// `RECORD_*` bits, and [`crate::firewall::VERDICT_MASK`].
    pub flags: u32,
}

const _: () = assert!(size_of::<Record>() == 16 && align_of::<Record>() == 4);

impl Record {
    /// Whether the flow was seen to end: FIN from both sides, or a reset. One that falls silent ends unseen.
    pub const fn is_over(&self) -> bool {
        const BOTH: u32 = RECORD_CLOSING | RECORD_REMOTE_CLOSING;
        self.flags & RECORD_RESET != 0 || self.flags & BOTH == BOTH
    }

    /// Whether the flow is still in force at `now_secs`; the same times as a slot's, protocols without ports as UDP.
    #[inline(always)]
    pub const fn is_live(&self, protocol: u32, now_secs: u32) -> bool {
        let aged_as = match protocol as u8 {
            TCP => TCP,
            ICMP | ICMPV6 => ICMP,
            _ => UDP,
        };
        let open_count = (self.flags & RECORD_CLOSING == 0) as u32;
        let limit_secs = if aged_as == TCP && self.flags & RECORD_ANY_REMOTE != 0 {
            ANY_REMOTE_TCP_SECS
        } else {
            idle_limit_secs(aged_as as u32, self.flags, open_count)
        };
        self.last_seen_secs != 0 && now_secs.saturating_sub(self.last_seen_secs) < limit_secs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_closed_flow_is_not_over() {
        for (flags, is_over) in [
            (RECORD_REPLIED, false),
            (RECORD_REPLIED | RECORD_CLOSING, false),
            (RECORD_REPLIED | RECORD_REMOTE_CLOSING, false),
            (RECORD_REPLIED | RECORD_CLOSING | RECORD_REMOTE_CLOSING, true),
            (RECORD_RESET, true),
        ] {
            assert_eq!(Record { flags, ..Record::default() }.is_over(), is_over, "{flags}");
        }
    }

    #[test]
    fn records_age_as_slots_do() {
        for (protocol, flags, limit) in [
            (TCP, 0, 120),
            (TCP, RECORD_REPLIED, 7440),
            (TCP, RECORD_REPLIED | RECORD_CLOSING, 60),
            (TCP, RECORD_REPLIED | RECORD_RESET, 10),
            (TCP, RECORD_REPLIED | RECORD_ANY_REMOTE, 240),
            (UDP, 0, 30),
            (UDP, RECORD_REPLIED, 300),
            (UDP, RECORD_REPLIED | RECORD_ANY_REMOTE, 300),
            (UDP, RECORD_REPLIED | RECORD_DNS, 10),
            (ICMPV6, RECORD_REPLIED, 60),
            (47, 0, 30),
            (47, RECORD_REPLIED, 300),
        ] {
            let record = Record { last_seen_secs: 1000, flags, ..Record::default() };
            assert!(record.is_live(protocol.into(), 1000 + limit - 1), "{protocol} {flags}");
            assert!(!record.is_live(protocol.into(), 1000 + limit), "{protocol} {flags}");
        }
        assert!(!Record::default().is_live(UDP.into(), 5), "an empty record is none");
    }
}
