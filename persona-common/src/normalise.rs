//! What packets look like outside where a persona hides what betrays a host: values that both sides of the maps use.

/// Hops that a packet has left when its edge sends it out (TTL, hop limit): what most hosts begin with.
pub const HOPS_OUTSIDE: u8 = 64;

/// Hops that it has left when its node sends it to the edge, which counts one.
pub const HOPS_TO_EDGE: u8 = HOPS_OUTSIDE + 1;

/// TCP's option for timestamps (RFC 7323 §3.2): its kind, and its bytes.
pub const TIMESTAMPS: (u8, usize) = (8, 10);

/// TCP's option that stands for nothing (RFC 9293 §3.2).
pub const NO_OPERATION: u8 = 1;

/// The largest window that a SYN or SYN-ACK shows where options are put in order: no less than what a sender begins with
/// (RFC 6928: ten segments), and windows grow with the next segment.
pub const WINDOW_SHOWN: u16 = 16_384;

/// Ranks of TCP options: options of a rank stand together, lower ones first.
pub const OPTION_RANK_COUNT: u32 = 5;

/// The rank of a TCP option among those of a SYN: by its kind for what everybody offers, behind them what else there is. None:
/// it signs the header, which must stay as it is (RFC 2385, RFC 5925).
pub const fn option_rank(kind: u8) -> Option<u32> {
    match kind {
        2 => Some(0),
        3 => Some(1),
        4 => Some(2),
        8 => Some(3),
        19 | 29 => None,
        _ => Some(4),
    }
}

const _: () = assert!(matches!(option_rank(255), Some(rank) if rank == OPTION_RANK_COUNT - 1));
