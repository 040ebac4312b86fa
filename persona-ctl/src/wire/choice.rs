//! Which WireGuard, and where it listens: what the configuration files of agent and edge say.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The UDP port that WireGuard is known by.
pub const LISTEN_PORT: u16 = 51_820;

/// How long a key is used where the configuration says nothing, hours.
pub const ROTATE_HOURS: u32 = 24;

/// The devices of nodes and edges.
const DEVICES: [&str; 2] = ["persona-wire", "persona-wire-e"];

/// Which WireGuard encrypts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wireguard {
    /// The kernel's where it has it, else one in user space.
    #[default]
    Auto,
    /// The kernel's.
    Kernel,
    /// One in user space, on a TUN device.
    Userspace,
    /// None: encrypted personas aren't carried here.
    Off,
}

/// Takes away the devices that roles of this host have left; their names. Those of user space go with their process.
pub fn remove_devices() -> std::io::Result<Vec<String>> {
    super::kernel::remove_all(&DEVICES)
}

/// What a tunnel needs to know.
#[derive(Debug, Clone)]
pub struct WireConfig {
    /// Which WireGuard.
    pub wireguard: Wireguard,
    /// The UDP port to listen on.
    pub port: u16,
    /// Where the key is kept.
    pub state_dir: PathBuf,
    /// The device's name.
    pub device: &'static str,
    /// How long a key is used, hours. 0: for good.
    pub rotate_hours: u32,
}

impl WireConfig {
    /// A node's. Keys stay until a command says otherwise.
    pub fn node(wireguard: Wireguard, port: Option<u16>, state_dir: PathBuf) -> Self {
        Self { wireguard, port: port.unwrap_or(LISTEN_PORT), state_dir, device: DEVICES[0], rotate_hours: 0 }
    }

    /// An edge's, likewise. A host may be node and edge at once.
    pub fn edge(wireguard: Wireguard, port: Option<u16>, state_dir: PathBuf) -> Self {
        Self { device: DEVICES[1], ..Self::node(wireguard, port, state_dir) }
    }
}
