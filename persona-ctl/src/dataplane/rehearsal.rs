//! The real programs on a made-up packet, without touching what is in force.
//!
//! The object is loaded once more. Maps that programs only read are the pinned ones; those that they write are new, and
//! hold copies of what the pinned ones hold. So nothing in force can change, and the programs need no second path.

use std::collections::BTreeMap;
use std::path::Path;

use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use persona_common::drop::DropReason;
use persona_common::flow::{SLOT_PROTOCOL_COUNT, Slot};
use persona_common::node::{Device, EdgeHop, Lease, Liveness, Subject};
use persona_core::firewall::CompiledRules;

use super::attach;
use super::bpffs::PinDirectory;
use super::error::DataplaneError;
use super::features::KernelFeatures;
use super::firewall_rows::FirewallRows;
use super::map_bytes::{EntryBytes, MapBytes};
use super::maps::{Cells, DropCells, Table};
use super::object;

/// Maps that programs write, and one that is written for them; everything else they only read.
const WRITTEN: [&str; 22] = [
    // Written here, so that this process is whoever sends.
    "CGROUPS",
    "FLOWS",
    "MAPPINGS",
    "SLOTS",
    "SHARED",
    "OPENINGS",
    "OPENINGS6",
    "FRAGMENTS",
    "FRAGMENT_COUNTERS",
    "RECORDS",
    "TOWARDS",
    "HOST_ADDRESSES",
    "CURSORS",
    "DROPS",
    "HANDED_OVER",
    "SUBJECT_TRAFFIC",
    "SUBJECT_COUNTS",
    "PERSONA_TRAFFIC",
    "EVENTS",
    "FLOW_LOG",
    "EVENT_CONFIG",
    "EVENTS_LOST",
];

/// Of those, what is copied; counters and rings start empty, slots are copied as far as a subject has some.
const COPIED: [&str; 11] = [
    "HOST_ADDRESSES",
    "FLOWS",
    "MAPPINGS",
    "SHARED",
    "OPENINGS",
    "OPENINGS6",
    "FRAGMENTS",
    "FRAGMENT_COUNTERS",
    "RECORDS",
    "TOWARDS",
    "CURSORS",
];

/// Where the copies are pinned while they are made.
const FOLDER: &str = "rehearsal";

/// Bytes of `struct __sk_buff`, and where it has its mark and its device.
const SKB_LENGTH: usize = 192;
const SKB_MARK_AT: usize = 8;
const SKB_IFINDEX_AT: usize = 40;

/// A node's programs over copies.
pub struct Rehearsal {
    ebpf: Ebpf,
    devices: Table<u32, Device>,
    cgroups: Table<u64, u32>,
    subjects: Cells<Subject>,
    firewalls: FirewallRows,
    leases: Cells<Lease>,
    edges: Cells<EdgeHop>,
    liveness: Cells<Liveness>,
    slots: Cells<Slot>,
    drops: DropCells,
}

/// What a program did with a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Played {
    /// The verdict's number at TC.
    pub verdict: i32,
    /// The frame afterwards.
    pub frame: Vec<u8>,
    /// `skb->mark` afterwards.
    pub mark: u32,
    /// The reason that was counted, if one was.
    pub reason: Option<DropReason>,
}

impl Rehearsal {
    /// Loads the node's programs beside those that are pinned below `bpffs`.
    ///
    /// # Errors
    /// Nothing is pinned there, or the kernel refuses.
    pub fn of_node(bpffs: &Path) -> Result<Self, DataplaneError> {
        let pins = PinDirectory::existing(bpffs, "node")?;
        let folder = bpffs.join("node").join(FOLDER);
        clear(&folder)?;
        std::fs::create_dir(&folder).map_err(failed(&folder, "making"))?;
        let loaded = load(&pins, &folder).and_then(|ebpf| {
            copy(&pins, &folder)?;
            Ok(ebpf)
        });
        clear(&folder)?;
        let mut ebpf = loaded?;
        let rehearsal = Self {
            devices: Table::take(&mut ebpf, "DEVICES")?,
            cgroups: Table::take(&mut ebpf, "CGROUPS")?,
            subjects: Cells::take(&mut ebpf, "SUBJECTS")?,
            firewalls: FirewallRows::take(&mut ebpf)?,
            leases: Cells::take(&mut ebpf, "LEASES")?,
            edges: Cells::take(&mut ebpf, "EDGES")?,
            liveness: Cells::take(&mut ebpf, "LIVENESS")?,
            slots: Cells::take(&mut ebpf, "SLOTS")?,
            drops: DropCells::take(&mut ebpf)?,
            ebpf,
        };
        Ok(rehearsal)
    }

    /// Workload devices, by interface index.
    pub fn devices(&self) -> Result<Vec<(u32, Device)>, DataplaneError> {
        self.devices.entries()
    }

    /// Control groups in force, by id, with the index of the subject that each is.
    pub fn cgroups(bpffs: &Path) -> Result<Vec<(u64, u32)>, DataplaneError> {
        let pins = PinDirectory::existing(bpffs, "node")?;
        Table::<u64, u32>::from_pin(&pins, "CGROUPS")?.entries()
    }

    /// Makes the processes of a group a subject for `from_host`. The kernel takes the sender of a packet that is played for
    /// whoever plays it, so it has to be the caller's own group, and not the tree's root.
    pub fn send_as(&mut self, cgroup: u64, subject_index: u32) -> Result<(), DataplaneError> {
        self.cgroups.put(cgroup, subject_index)
    }

    /// The subject with an index.
    pub fn subject(&self, index: u32) -> Result<Subject, DataplaneError> {
        self.subjects.get(index)
    }

    /// The firewall rules of a subject. None: it has none.
    pub fn firewall_of(&self, subject_index: u32) -> Result<Option<CompiledRules>, DataplaneError> {
        self.firewalls.of_subject(subject_index)
    }

    /// The leases of a subject, retiring ones included.
    pub fn leases_of(&self, subject_index: u32) -> Result<Vec<(u32, Lease)>, DataplaneError> {
        self.leases.used(|lease| lease.id != 0 && lease.subject_index == subject_index)
    }

    /// The edges, by number, with what probes say of them.
    pub fn edges(&self) -> Result<Vec<(u32, EdgeHop, Liveness)>, DataplaneError> {
        let known = self.edges.used(|edge| edge.ifindex != 0)?;
        known.into_iter().map(|(number, edge)| Ok((number, edge, self.liveness.get(number)?))).collect()
    }

    /// Copies the slots of a subject's leases, so that its mappings are found.
    pub fn fill_slots(&mut self, bpffs: &Path, subject_index: u32) -> Result<(), DataplaneError> {
        let pins = PinDirectory::existing(bpffs, "node")?;
        let held = Cells::<Slot>::from_pin(&pins, "SLOTS")?;
        for (_, lease) in self.leases_of(subject_index)? {
            for block in &lease.blocks[..lease.block_count as usize] {
                for slot in block.slot_base..block.slot_base + (SLOT_PROTOCOL_COUNT << lease.block_bits) {
                    self.slots.put(slot, held.get(slot)?)?;
                }
            }
        }
        Ok(())
    }

    /// Runs a program on a frame that comes in by a device.
    pub fn play(&mut self, program: &'static str, ifindex: u32, frame: &[u8]) -> Result<Played, DataplaneError> {
        attach::load_tc(&mut self.ebpf, program)?;
        let before = self.drops.totals()?;
        let classifier: &SchedClassifier = self
            .ebpf
            .program(program)
            .and_then(|program| program.try_into().ok())
            .expect("the object holds the TC programs that this binary was built with");
        let mut context = [0u8; SKB_LENGTH];
        context[SKB_IFINDEX_AT..SKB_IFINDEX_AT + 4].copy_from_slice(&ifindex.to_ne_bytes());
        let (mut bytes, mut context_out) = (vec![0; frame.len() + 256], [0u8; SKB_LENGTH]);
        let played = classifier
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut bytes),
                ctx_in: Some(&context),
                ctx_out: Some(&mut context_out),
                ..TestRunOptions::new()
            })
            .map_err(|source| DataplaneError::Program {
                program: program.to_owned(),
                action: "running it on a made-up packet".to_owned(),
                source: Box::new(source),
            })?;
        bytes.truncate(played.data_size_out as usize);
        let mark = &context_out[SKB_MARK_AT..SKB_MARK_AT + 4];
        let after = self.drops.totals()?;
        let went_up = |reason: &&DropReason| after.get(reason.name()) != before.get(reason.name());
        Ok(Played {
            verdict: played.return_value as i32,
            frame: bytes,
            mark: u32::from_ne_bytes(mark.try_into().expect("four bytes")),
            reason: DropReason::ALL.iter().find(went_up).copied(),
        })
    }
}

/// Every entry of every map that a role has pinned, rings and cells that hold zeros left out: map → (key, value). For support, and for tests that
/// nothing changed.
pub fn pinned_contents(bpffs: &Path, role: &str) -> Result<BTreeMap<String, Vec<EntryBytes>>, DataplaneError> {
    let pins = PinDirectory::existing(bpffs, role)?;
    let mut contents = BTreeMap::new();
    for entry in std::fs::read_dir(&pins.maps).map_err(failed(&pins.maps, "reading"))? {
        let pin = entry.map_err(failed(&pins.maps, "reading"))?.path();
        let name = pin.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name != "EVENTS" && name != "FLOW_LOG" {
            contents.insert(name, entries(&pin)?);
        }
    }
    Ok(contents)
}

fn load(pins: &PinDirectory, folder: &Path) -> Result<Ebpf, DataplaneError> {
    let mut loader = EbpfLoader::new();
    loader.default_map_pin_directory(&pins.maps);
    for name in WRITTEN {
        loader.map_pin_path(name, folder.join(name));
    }
    KernelFeatures::probe().tell(&mut loader);
    loader.load(object::node()).map_err(DataplaneError::Load)
}

fn copy(pins: &PinDirectory, folder: &Path) -> Result<(), DataplaneError> {
    for name in COPIED {
        let (from, to) = (pins.maps.join(name), folder.join(name));
        // A map that this release has no more, or not yet.
        if !from.exists() || !to.exists() {
            continue;
        }
        let copy = MapBytes::open(&to).map_err(failed(&to, "opening"))?;
        for (key, value) in entries(&from)? {
            if value.iter().any(|byte| *byte != 0) {
                copy.put(&key, &value).map_err(failed(&to, "writing"))?;
            }
        }
    }
    Ok(())
}

fn entries(pin: &Path) -> Result<Vec<EntryBytes>, DataplaneError> {
    MapBytes::open(pin).and_then(|map| map.entries()).map_err(failed(pin, "reading"))
}

fn clear(folder: &Path) -> Result<(), DataplaneError> {
    if !folder.exists() {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder).map_err(failed(folder, "reading"))? {
        let path = entry.map_err(failed(folder, "reading"))?.path();
        std::fs::remove_file(&path).map_err(failed(&path, "removing"))?;
    }
    std::fs::remove_dir(folder).map_err(failed(folder, "removing"))
}

fn failed(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> DataplaneError + use<> {
    let path = path.to_owned();
    move |source| DataplaneError::Bpffs { path, action, source }
}
