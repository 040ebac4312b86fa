//! Why a limit cannot be read, written or kept.

use std::io::ErrorKind;
use std::path::PathBuf;

use persona_core::limit::Knob;

/// What went wrong with an instance's limits.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// The instance cannot be found.
    #[error("{what}: {advice}")]
    NoInstance {
        /// What was looked for, and what was found.
        what: String,
        /// What would be valid.
        advice: String,
    },
    /// A file of the kernel cannot be read.
    #[error("{path} cannot be read")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The kernel does not take a value.
    #[error("{path} does not take {value}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// What was written.
        value: String,
        /// Why.
        source: std::io::Error,
    },
    /// The kernel cannot reclaim so much.
    #[error(
        "{path} cannot be {value}: more is in use, and the kernel found nothing to take back; free memory in the instance, or set a higher memory.max"
    )]
    Busy {
        /// Which file.
        path: PathBuf,
        /// What was written.
        value: String,
    },
    /// A value was taken, but another one is in force.
    #[error("{knob} is {found} after {written} was written")]
    ReadBack {
        /// Which knob.
        knob: Knob,
        /// What was written.
        written: String,
        /// What it reads.
        found: String,
    },
    /// A knob is not there.
    #[error("the instance has no {0}")]
    NoKnob(Knob),
    /// Memory in use does not fit.
    #[error(
        "{used} bytes are in use and {wanted} are wanted: memory did not shrink within {waited_ms} ms; free memory in the instance, or set a higher memory.max"
    )]
    DoesNotFit {
        /// Bytes in use.
        used: u64,
        /// Bytes into which they had to fit.
        wanted: u64,
        /// How long it was waited, milliseconds.
        waited_ms: u128,
    },
    /// Processes ask for more than they would have.
    #[error("the instance asks for more than {wanted} bytes: nobody is killed for it; set a higher memory.max")]
    AsksForMore {
        /// Bytes that it would have.
        wanted: u64,
    },
    /// Nobody knows what its processes need.
    #[error(
        "its processes hardly got to run within {waited_ms} ms, so that it is not known whether they need more memory: give it more processor time, or the machine less to do"
    )]
    HardlyRan {
        /// How long that was looked at.
        waited_ms: u128,
    },
    /// systemd does not do as asked.
    #[error("unit {unit} does not take {knob} = {value}: {what}")]
    Unit {
        /// Its name.
        unit: String,
        /// Which limit.
        knob: Knob,
        /// What it was to be.
        value: String,
        /// Why not.
        what: String,
    },
    /// systemd does not answer.
    #[error("systemd does not answer over D-Bus")]
    NoSystemd(#[source] std::io::Error),
    /// The monitor of QEMU does not do as asked.
    #[error("monitor {path}: {what}")]
    Monitor {
        /// Its socket.
        path: PathBuf,
        /// What happened.
        what: String,
    },
    /// Nobody listens at a monitor's socket, or nobody may connect.
    #[error("monitor {path} cannot be reached; start QEMU with -qmp unix:{path},server=on,wait=off")]
    NoMonitor {
        /// Its socket.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The Docker Engine does not answer.
    #[error("docker engine {path}: {what}")]
    Engine {
        /// Its socket.
        path: PathBuf,
        /// What happened.
        what: String,
    },
    /// The record cannot be kept; nothing is changed without one.
    #[error("record {path} cannot be {verb}")]
    Record {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        verb: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// A step of a transaction failed, and all before it was put back.
    #[error("step {step} failed and nothing is changed")]
    Step {
        /// Which step.
        step: String,
        /// Why.
        source: Box<LimitError>,
    },
    /// A step of a transaction failed, and so did putting back what came before it.
    #[error("step {step} failed ({why}), and what was written before it could not be put back yet; it is tried again")]
    Stuck {
        /// Which step.
        step: String,
        /// Why it failed.
        why: String,
        /// Why putting back failed.
        source: Box<LimitError>,
    },
}

impl LimitError {
    /// Whether it means that the instance is gone, and not that it cannot be asked just now.
    pub fn is_gone(&self) -> bool {
        match self {
            // A control group that is removed while its file is open answers ENODEV.
            Self::Read { source, .. } => {
                source.kind() == ErrorKind::NotFound || source.raw_os_error() == Some(libc::ENODEV)
            }
            Self::NoMonitor { source, .. } => {
                matches!(source.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
            }
            _ => false,
        }
    }
}
