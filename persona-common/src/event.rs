//! What the programs tell whoever watches: drops, packets before and after rewriting, flows opened and closed.
//!
//! Records stand in two ring buffers: `EVENTS` for a person's monitor and `FLOW_LOG` for the flow export, because a ring
//! has one reader. Nothing is written unless [`EventConfig`] asks for it, and not after its time is over: a watcher that
//! dies is forgotten by itself.

use crate::addr::Address6;

/// Bytes of the ring for a monitor; a power of two.
pub const EVENTS_LENGTH: u32 = 4 << 20;

/// Bytes of the ring for the flow export; a power of two.
pub const FLOW_LOG_LENGTH: u32 = 1 << 20;

/// [`EventConfig::wanted`]: drops go to `EVENTS`.
pub const WANT_DROPS: u32 = 1;
/// [`EventConfig::wanted`]: flows go to `EVENTS`.
pub const WANT_FLOWS: u32 = 2;
/// [`EventConfig::wanted`]: every packet, before and after, goes to `EVENTS`.
pub const WANT_PACKETS: u32 = 4;

/// Who watches. Map `EVENT_CONFIG`, one cell.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventConfig {
    /// `WANT_*` bits of the monitor.
    pub wanted: u32,
    /// The monitor watches until then, seconds of the coarse clock (`CLOCK_MONOTONIC_COARSE` + 1).
    pub until_secs: u32,
    /// 1: flows go to `FLOW_LOG`.
    pub flow_log: u32,
    /// The export watches until then, seconds likewise.
    pub flow_log_until_secs: u32,
}

const _: () = assert!(size_of::<EventConfig>() == 16 && align_of::<EventConfig>() == 4);

/// Records that no ring had room for. Map `EVENTS_LOST`, per CPU, by `LOST_*`.
pub const LOST_EVENTS: u32 = 0;
/// As [`LOST_EVENTS`], of `FLOW_LOG`.
pub const LOST_FLOW_LOG: u32 = 1;

/// Which program, as events name it.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// `from_workload`.
    FromWorkload = 1,
    /// `from_host`.
    FromHost = 2,
    /// `to_workload`.
    ToWorkload = 3,
    /// `from_edge`.
    FromEdge = 4,
    /// `guard`.
    Guard = 5,
    /// `edge_inside`.
    EdgeInside = 6,
    /// `edge_outside`.
    EdgeOutside = 7,
    /// `gateway`.
    Gateway = 8,
    /// `deliver`.
    Deliver = 9,
}

impl Hook {
    /// Every hook.
    pub const ALL: [Self; 9] = [
        Self::FromWorkload,
        Self::FromHost,
        Self::ToWorkload,
        Self::FromEdge,
        Self::Guard,
        Self::EdgeInside,
        Self::EdgeOutside,
        Self::Gateway,
        Self::Deliver,
    ];

    /// Its name, as people see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FromWorkload => "from_workload",
            Self::FromHost => "from_host",
            Self::ToWorkload => "to_workload",
            Self::FromEdge => "from_edge",
            Self::Guard => "guard",
            Self::EdgeInside => "edge_inside",
            Self::EdgeOutside => "edge_outside",
            Self::Gateway => "gateway",
            Self::Deliver => "deliver",
        }
    }
}

/// [`RecordHeader::kind`]: a drop, with the packet's first bytes.
pub const KIND_DROP: u32 = 1;
/// [`RecordHeader::kind`]: a packet as it came.
pub const KIND_BEFORE: u32 = 2;
/// [`RecordHeader::kind`]: a packet as it leaves the program.
pub const KIND_AFTER: u32 = 3;
/// [`RecordHeader::kind`]: a flow opened.
pub const KIND_FLOW_OPENED: u32 = 4;
/// [`RecordHeader::kind`]: a flow's end was seen (FIN or RST); one that falls silent ends without a record.
pub const KIND_FLOW_CLOSED: u32 = 5;

/// What every record starts with.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecordHeader {
    /// `KIND_*`.
    pub kind: u32,
    /// A [`Hook`].
    pub hook: u32,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time_ns: u64,
    /// Drops: the [`crate::drop::DropReason`]. Packets afterwards: the verdict. Else 0.
    pub detail: u32,
    /// The device that it came in on; at an egress hook, that it leaves by.
    pub ifindex: u32,
    /// Bytes of the frame.
    pub length: u32,
    /// Bytes of it in the record.
    pub captured: u32,
}

const _: () = assert!(size_of::<RecordHeader>() == 32 && align_of::<RecordHeader>() == 8);

/// Bytes of a dropped packet that its record holds; a power of two.
pub const DROP_BYTES: usize = 256;

/// Bytes of a captured packet that its record holds; a power of two.
pub const PACKET_BYTES: usize = 2_048;

/// A drop.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct DropRecord {
    /// Kind, reason, lengths.
    pub header: RecordHeader,
    /// The frame's first bytes.
    pub bytes: [u8; DROP_BYTES],
}

const _: () = assert!(size_of::<DropRecord>() == 288);

/// A packet, before or after.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PacketRecord {
    /// Kind, verdict, lengths.
    pub header: RecordHeader,
    /// The frame's first bytes.
    pub bytes: [u8; PACKET_BYTES],
}

const _: () = assert!(size_of::<PacketRecord>() == 2_080);

/// A flow, with its addresses before and after. IPv4 addresses are mapped (`::ffff:a.b.c.d`).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FlowRecord {
    /// Kind; no bytes.
    pub header: RecordHeader,
    /// The lease it leaves under.
    pub lease_id: u64,
    /// The subject's number.
    pub subject: u32,
    /// The persona's unique id.
    pub vni: u32,
    /// The subject's own address.
    pub inner: Address6,
    /// The other side's address.
    pub remote: Address6,
    /// The egress address.
    pub outer: Address6,
    /// The subject's own port, or the ICMP id.
    pub inner_port: u16,
    /// The other side's port; 0 for ICMP.
    pub remote_port: u16,
    /// The egress port, or the ICMP id outside.
    pub outer_port: u16,
    /// The IP protocol.
    pub protocol: u16,
}

const _: () = assert!(size_of::<FlowRecord>() == 104 && align_of::<FlowRecord>() == 8);
