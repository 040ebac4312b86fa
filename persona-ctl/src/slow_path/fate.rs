//! What becomes of a fragment once its first has been seen: the programs' own table says so.

use std::net::IpAddr;

use persona_common::drop::DropReason;

use super::frame::Outer;
use super::queue::Key;
use super::rewrite::Rewrite;

/// What becomes of a fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It goes into a tunnel; its traffic class is copied outside.
    Tunnel {
        /// What changes in it.
        rewrite: Rewrite,
        /// The tunnel's headers.
        outer: Outer,
        /// Largest inner packet, bytes.
        mtu: u16,
        /// The queueing class.
        class: u32,
    },
    /// It goes to a workload.
    Deliver {
        /// What changes in it.
        rewrite: Rewrite,
        /// The workload's address.
        destination: IpAddr,
        /// The workload's device; 0: the host itself.
        ifindex: u32,
    },
    /// It goes nowhere.
    Drop(DropReason),
}

/// Reads the programs' table of fragments.
pub trait Fates: Send {
    /// What becomes of the fragments of a datagram; None: its first has not been seen yet.
    fn find(&mut self, key: &Key) -> Option<Fate>;
}
