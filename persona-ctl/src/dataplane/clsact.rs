//! Attaching without TCX: a program as a filter of a device's clsact queue (Linux before 6.6).
//!
//! A filter cannot be pinned. In its place a directory stands where the link's pin would be, and its one entry says
//! which filter is meant: `links/from_workload-7/ingress-4026531840-from_workload`, with the number of the network
//! namespace in the middle. `queues/7-4026531840` says that the queue of device 7 was made by us.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};

use super::coexist::{self, Coexistence};
use super::error::DataplaneError;
use super::{sys, tc_filters};

/// What a directory in a pin's place stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FilterNote {
    /// Which side of the device.
    direction: TcAttachType,
    /// The network namespace of the device, by inode.
    namespace: u64,
    /// The program's name in its object.
    program: String,
}

impl FilterNote {
    /// Reads what stands in a pin's place. None: no filter, but a link or nothing.
    pub(super) fn read(pin: &Path) -> Option<Self> {
        let entry = std::fs::read_dir(pin).ok()?.next()?.ok()?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let (direction, rest) = name.split_once('-')?;
        let (namespace, program) = rest.split_once('-')?;
        let direction = if direction == "egress" { TcAttachType::Egress } else { TcAttachType::Ingress };
        Some(Self { direction, namespace: namespace.parse().ok()?, program: program.to_owned() })
    }

    /// Whether the filter is in the network namespace of this thread.
    pub(super) fn is_here(&self) -> bool {
        network_namespace().is_ok_and(|namespace| namespace == self.namespace)
    }

    fn write(&self, pin: &Path) -> io::Result<()> {
        let direction = if self.direction == TcAttachType::Egress { "egress" } else { "ingress" };
        std::fs::create_dir_all(pin.join(format!("{direction}-{}-{}", self.namespace, self.program)))
    }
}

/// Attaches a program as a filter, or puts it in the place of the one that is there already.
pub(super) fn attach(
    classifier: &mut SchedClassifier,
    program: &str,
    ifindex: u32,
    direction: TcAttachType,
    pin: &Path,
    choice: Coexistence,
) -> Result<(), DataplaneError> {
    let interface = sys::interface_name(ifindex).ok_or(DataplaneError::NoDevice { ifindex })?;
    let hook_error = |source| coexist::hook_error(ifindex, source);
    let refused = |source: ProgramError| DataplaneError::Program {
        program: program.to_owned(),
        action: format!("attaching a filter to {interface} ({ifindex})"),
        source: source.into(),
    };
    let namespace = network_namespace().map_err(hook_error)?;
    let note = FilterNote { direction, namespace, program: program.to_owned() };
    prepare_queue(ifindex, direction, namespace, pin).map_err(hook_error)?;
    let present = tc_filters::list(ifindex, direction).map_err(hook_error)?;
    let mut earlier = present.iter().filter(|filter| filter.is_of(program));
    let link = if let Some(filter) = earlier.next() {
        let handle = tc_filters::handle_of(program);
        let link = SchedClassifierLink::attached(&interface, direction, filter.priority, handle, None);
        classifier.attach_to_link(link.map_err(hook_error)?).map_err(refused)?
    } else {
        let occupants = coexist::tc_occupants(ifindex, direction, &[], false)?;
        coexist::settle_tc(program, ifindex, direction, occupants, choice)?;
        let handle = tc_filters::handle_of(program);
        let options = NlOptions { priority: tc_filters::PRIORITY, handle, classid: None };
        let present = tc_filters::list(ifindex, direction).map_err(hook_error)?;
        if let Some(filter) = present.iter().find(|it| it.priority == tc_filters::PRIORITY && !it.shares_with_ours()) {
            let taken =
                format!("a {} filter holds priority 1, where ours would run first: give it another", filter.kind);
            return Err(hook_error(io::Error::other(taken)));
        }
        classifier.attach_with_options(&interface, direction, TcAttachOptions::Netlink(options)).map_err(refused)?
    };
    // Dropping it would detach.
    std::mem::forget(classifier.take_link(link).map_err(refused)?);
    note.write(pin).map_err(hook_error)
}

/// Whether the filter is still on the device.
pub(super) fn is_attached(note: &FilterNote, ifindex: u32) -> bool {
    let filters = tc_filters::list(ifindex, note.direction).unwrap_or_default();
    note.is_here() && filters.iter().any(|filter| filter.is_of(&note.program))
}

/// Takes the filter away, then its note, and the queue if it was ours and is empty now, in whatever network namespace
/// they are. A device that vanished or left took filter and queue with it, as does a namespace that nobody holds.
pub(super) fn remove(note: &FilterNote, ifindex: u32, pin: &Path) -> io::Result<()> {
    let queue = queue_note(pin, ifindex, note.namespace);
    let is_queue_ours = queue.exists();
    let is_queue_needed = if note.is_here() {
        remove_filter(note, ifindex, is_queue_ours)?
    } else if let Some(namespace) = find_namespace(note.namespace) {
        sys::in_network_namespace(&namespace, || remove_filter(note, ifindex, is_queue_ours))??
    } else {
        false
    };
    forget(pin)?;
    if is_queue_ours && !is_queue_needed { std::fs::remove_dir(&queue) } else { Ok(()) }
}

/// Whether the queue is still needed by somebody.
fn remove_filter(note: &FilterNote, ifindex: u32, is_queue_ours: bool) -> io::Result<bool> {
    if sys::interface_name(ifindex).is_none() {
        return Ok(false);
    }
    for filter in tc_filters::list(ifindex, note.direction)?.iter().filter(|filter| filter.is_of(&note.program)) {
        tc_filters::remove(ifindex, note.direction, filter)?;
    }
    for direction in [TcAttachType::Ingress, TcAttachType::Egress] {
        if !tc_filters::list(ifindex, direction)?.is_empty() {
            return Ok(true);
        }
    }
    if is_queue_ours && tc_filters::queue_kind(ifindex)?.as_deref() == Some("clsact") {
        tc_filters::remove_queue(ifindex)?;
    }
    Ok(false)
}

/// A path that leads to a network namespace: one with a name, or that of a process.
fn find_namespace(inode: u64) -> Option<PathBuf> {
    let paths_in = |folder: &str, below: &'static str| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(move |entry| if below.is_empty() { entry.path() } else { entry.path().join(below) })
    };
    let mut paths = paths_in("/run/netns", "").chain(paths_in("/proc", "ns/net"));
    paths.find(|path| std::fs::metadata(path).is_ok_and(|facts| facts.ino() == inode))
}

/// Removes the note in a pin's place, not the filter.
fn forget(pin: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(pin)? {
        std::fs::remove_dir(entry?.path())?;
    }
    std::fs::remove_dir(pin)
}

fn prepare_queue(ifindex: u32, direction: TcAttachType, namespace: u64, pin: &Path) -> io::Result<()> {
    match tc_filters::queue_kind(ifindex)?.as_deref() {
        Some("clsact") => Ok(()),
        Some(_) if direction == TcAttachType::Ingress => Ok(()),
        Some(kind) => Err(io::Error::other(format!(
            "an {kind} queue of somebody else is there, which has no side for leaving packets: replace it by clsact"
        ))),
        None => {
            std::fs::create_dir_all(queue_note(pin, ifindex, namespace))?;
            tc_filters::add_queue(ifindex)
        }
    }
}

/// `<bpffs>/queues/…`, where the pin is `<bpffs>/<role>/links/…`.
fn queue_note(pin: &Path, ifindex: u32, namespace: u64) -> PathBuf {
    let bpffs = pin.ancestors().nth(3).expect("a pin lies three folders below the bpffs");
    bpffs.join("queues").join(format!("{ifindex}-{namespace}"))
}

/// The network namespace of this thread, by inode.
pub(super) fn network_namespace() -> io::Result<u64> {
    Ok(std::fs::metadata("/proc/thread-self/ns/net")?.ino())
}
