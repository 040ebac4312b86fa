//! The encrypted tunnel between a node and its edges: WireGuard, by the kernel's own device or in user space on a TUN device.
//!
//! It carries the tunnel packets of encrypted personas between the ordinary underlay addresses; a far end may send from its
//! own address only, which WireGuard checks. No route leads into the device: programs redirect to it, and nothing else does.
//! The private key is made here, kept readable by its owner only, and never leaves the host.

mod choice;
mod engine;
mod inlet;
mod keeper;
mod kernel;
mod kernel_change;
mod key;
mod netlink_bytes;
mod own_keys;
mod peers;
mod reverse_path;
mod role;
mod rotation;
mod sockets;

use std::net::IpAddr;
use std::time::Duration;

pub use choice::{LISTEN_PORT, ROTATE_HOURS, WireConfig, Wireguard, remove_devices};
pub use inlet::Inlet;
pub use keeper::Keeper;
pub use key::{KeyError, PrivateKey, PublicKey};
pub use own_keys::{OwnKeys, ask_for_another_key};
pub use role::{encryption_to, far_ends, provide, report};

/// A far end of the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FarEnd {
    /// Its public key.
    pub key: PublicKey,
    /// The one that is about to take its place; both are accepted.
    pub next: Option<PublicKey>,
    /// Its address on the underlay: where datagrams go, and what its packets inside must come from.
    pub address: IpAddr,
    /// Its UDP port.
    pub port: u16,
}

/// What is known of a far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FarEndState {
    /// Its address on the underlay.
    pub address: IpAddr,
    /// How long ago keys were last agreed upon. None: not yet.
    pub since_handshake: Option<Duration>,
}

/// The tunnel cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The key is of no use.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The device cannot be made.
    #[error(
        "device {name} of the encrypted tunnel cannot be made: load the tun module, and give the process /dev/net/tun and CAP_NET_ADMIN"
    )]
    Device {
        /// Its name.
        name: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The kernel has no WireGuard, or refuses it.
    #[error(
        "device {name} of the encrypted tunnel cannot be made by the kernel: load the wireguard module, or set wireguard = \"userspace\""
    )]
    Kernel {
        /// Its name.
        name: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The port is taken, or the address is not there.
    #[error("the encrypted tunnel cannot listen on UDP {address} port {port}: another one may, set wireguard_port")]
    Listen {
        /// On which address.
        address: IpAddr,
        /// On which port.
        port: u16,
        /// Why.
        source: std::io::Error,
    },
    /// No thread.
    #[error("the thread of the encrypted tunnel cannot be started")]
    Thread(#[source] std::io::Error),
}
