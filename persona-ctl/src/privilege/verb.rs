//! The verbs, and what is answered. Nothing is done that is not one of these.

use std::net::Ipv6Addr;
use std::path::PathBuf;

use persona_core::limit::Knob;
use serde::{Deserialize, Serialize};

use crate::limits::Container;

/// Longest request or answer, bytes.
pub(super) const FRAME_BYTES_MAX: usize = 16 << 10;

/// Something that is done with root's rights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Verb {
    /// Writes one of a control group's limits.
    WriteKnob {
        /// The group's folder.
        folder: PathBuf,
        /// The file's name.
        file: String,
        /// One line.
        text: String,
    },
    /// Has systemd set a limit of a unit of the configuration, until the machine boots.
    SetUnitLimit {
        /// The unit's name.
        unit: String,
        /// Which limit.
        knob: Knob,
        /// What it shall be, as the kernel writes it.
        value: String,
    },
    /// Opens a network namespace. A descriptor comes back, with which the agent can ask for its number.
    OpenNamespace {
        /// `/proc/PID/ns/net`, a named one, or one of the configuration.
        path: PathBuf,
    },
    /// Finds and opens the namespace that links of the host call by a number.
    NamespaceBehind {
        /// The number (IFLA_LINK_NETNSID).
        id: i32,
        /// Where it was last time.
        hint: Option<PathBuf>,
    },
    /// Makes a socket inside the namespace whose descriptor comes along.
    SocketInside {
        /// Which.
        kind: SocketKind,
    },
    /// Switches IPv6 on for an interface inside the namespace whose descriptor comes along.
    AllowIpv6 {
        /// The interface's name.
        interface: String,
    },
    /// Reads a kernel parameter of the network inside the namespace whose descriptor comes along, or sets it first.
    NetParameter {
        /// Its name, below `net`.
        name: String,
        /// What it shall be.
        value: Option<String>,
    },
    /// Connects to a guest's monitor of the configuration.
    ConnectMonitor {
        /// Its socket.
        path: PathBuf,
    },
    /// Connects to the port of the agent inside a guest of the configuration.
    ConnectGuest {
        /// Its socket on this host.
        path: PathBuf,
    },
    /// Asks an engine of the configuration for a container of the configuration.
    InspectContainer {
        /// The engine's socket.
        socket: PathBuf,
        /// The container's name.
        name: String,
    },
    /// Reads the first process from a runtime's state file of the configuration.
    FirstProcess {
        /// The file.
        state: PathBuf,
    },
    /// Opens a process's root folder by its path alone: reading in it takes the agent's own rights.
    OpenRoot {
        /// Which process.
        pid: u32,
    },
    /// Keeps our block in a policy file of getaddrinfo of the configuration.
    KeepAddressPolicy {
        /// The file.
        path: PathBuf,
        /// Address and prefix length.
        prefixes: Vec<(Ipv6Addr, u8)>,
    },
    /// Reads the join token's file of the configuration.
    ReadJoinToken {
        /// The file.
        path: PathBuf,
    },
    /// Says how a program of anybody's is called.
    DescribeProgram {
        /// The kernel's number for it.
        id: u32,
    },
    /// Takes a link off a network device.
    DetachLink {
        /// The kernel's number for it.
        id: u32,
    },
    /// Takes a program off a TCX hook to which it was attached without a link.
    DetachProgram {
        /// The device.
        ifindex: u32,
        /// Whether it is the hook behind the queues.
        is_egress: bool,
        /// The kernel's number for it.
        id: u32,
    },
}

/// What is made inside a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SocketKind {
    /// Speaks to the kernel of links, addresses and routes.
    Route,
    /// TCP over IPv4, not connected.
    Tcp4,
    /// TCP over IPv6, not connected.
    Tcp6,
}

/// What came of a verb.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Answer {
    /// It is done; what was asked for comes along as a descriptor, if it was for one.
    Done,
    /// Where the namespace is that comes along.
    Found(PathBuf),
    /// Whether the file was changed.
    Changed(bool),
    /// What the engine says.
    Container(Container),
    /// A process.
    Process(u32),
    /// A name, or what a file says.
    Text(String),
    /// It could not be done.
    Failed {
        /// The kernel's reason, by number.
        errno: Option<i32>,
        /// The reason in words.
        reason: String,
    },
}

impl Verb {
    /// Whether it changes something, and does not only look or open.
    pub(super) fn is_change(&self) -> bool {
        matches!(
            self,
            Self::WriteKnob { .. }
                | Self::SetUnitLimit { .. }
                | Self::AllowIpv6 { .. }
                | Self::NetParameter { value: Some(_), .. }
                | Self::KeepAddressPolicy { .. }
                | Self::DetachLink { .. }
                | Self::DetachProgram { .. }
        )
    }
}
