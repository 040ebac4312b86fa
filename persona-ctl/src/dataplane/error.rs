//! What can go wrong with the data plane, told so that somebody can act on it.

use std::path::PathBuf;

/// The data plane could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// This binary carries no kernel programs.
    #[error("this binary was built with PERSONA_SKIP_EBPF=1 and carries no kernel programs: build it without")]
    NoObject,
    /// The bpffs cannot be used.
    #[error("bpffs at {path}: {action} failed")]
    Bpffs {
        /// Where.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Pins of a newer version are there, or of one that cannot be read.
    #[error(
        "pinned maps at {path} have ABI version {found}, this binary knows versions up to {needed}: start the persona-ctl that made them, or run `persona-ctl detach` first, which ends the flows"
    )]
    AbiMismatch {
        /// Where.
        path: PathBuf,
        /// The version of the pins, or what else is different about them.
        found: String,
        /// The newest version that this binary knows.
        needed: u32,
    },
    /// The object could not be loaded.
    #[error(
        "the kernel programs cannot be loaded (Linux 6.1 or later with BTF, and CAP_BPF and CAP_NET_ADMIN, are needed)"
    )]
    Load(#[source] aya::EbpfError),
    /// The log of packets cannot be read.
    #[error("the programs' log of packets cannot be read")]
    PacketLog(#[source] aya_log::Error),
    /// A program could not be loaded or attached.
    #[error("program {program}: {action} failed")]
    Program {
        /// Which program.
        program: String,
        /// What was tried, with the device.
        action: String,
        /// Why it failed.
        source: Box<aya::programs::ProgramError>,
    },
    /// A link could not be pinned or read.
    #[error("link of {program} at {path} cannot be kept")]
    Link {
        /// Which program.
        program: String,
        /// Its pin.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Nothing of ours is pinned there.
    #[error("no data plane is pinned at {path}: start the role on this host first, or give its bpffs")]
    NotPinned {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A ring has a reader already.
    #[error("another process reads {map} already: a ring has one reader; end the other monitor first")]
    Watched {
        /// The ring.
        map: &'static str,
    },
    /// Another program is where ours would go.
    #[error("program {program} is not attached to {interface}: {occupants} is there already; {advice}")]
    Occupied {
        /// Which program of ours.
        program: String,
        /// The device.
        interface: String,
        /// Who is there: program ids, names, how they are attached.
        occupants: String,
        /// What to do.
        advice: &'static str,
    },
    /// A device's hooks could not be looked at or changed.
    #[error("hooks of {interface} cannot be used")]
    Hook {
        /// The device.
        interface: String,
        /// Why.
        source: std::io::Error,
    },
    /// A map could not be read or written.
    #[error("map {map} cannot be {action}")]
    Map {
        /// Which map.
        map: &'static str,
        /// Read or written.
        action: &'static str,
        /// Why.
        source: aya::maps::MapError,
    },
    /// A device is not there.
    #[error("no device has interface index {ifindex}: it may have vanished")]
    NoDevice {
        /// Which index.
        ifindex: u32,
    },
    /// The tables contradict themselves or do not fit. Nothing was written.
    #[error("the tables were refused: {0}")]
    Invalid(String),
}
