//! The rings that the programs tell of drops, packets and flows in, and who reads them.
//!
//! One reader per ring: a lock on the pins keeps the second one out. The reader's interest runs out by itself, so a
//! reader that is killed leaves nothing behind.

use std::fs::File;
use std::path::Path;

use aya::maps::{Map, MapData, PerCpuArray, RingBuf};
use persona_common::event::EventConfig;

use super::bpffs::PinDirectory;
use super::error::DataplaneError;
use super::maps::Cells;
use super::sys;

/// How long an interest lasts unless it is renewed, seconds.
const INTEREST_SECS: u32 = 5;

/// Whose data plane is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// The node's.
    Node,
    /// The edge's.
    Edge,
    /// The gateway's.
    Gateway,
    /// The delivering node's.
    Delivery,
}

impl Watched {
    /// Its folder below the bpffs.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Edge => "edge",
            Self::Gateway => "gateway",
            Self::Delivery => "delivery",
        }
    }
}

/// Which ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ring {
    /// What a monitor asked for: `WANT_*` bits of `persona_common::event`.
    Events {
        /// The bits.
        wanted: u32,
    },
    /// Flows, for the export.
    FlowLog,
}

/// The one reader of a ring. Dropping it ends the interest.
pub struct Watch {
    ring: RingBuf<MapData>,
    kind: Ring,
    config: Cells<EventConfig>,
    lost: PerCpuArray<MapData, u64>,
    lost_before: u64,
    _lock: File,
}

impl Watch {
    /// Becomes the reader of a ring of the data plane that is pinned below `bpffs`.
    ///
    /// # Errors
    /// Nothing is pinned there, another reader is at work, or the kernel refuses.
    pub fn open(bpffs: &Path, watched: Watched, kind: Ring) -> Result<Self, DataplaneError> {
        let pins = PinDirectory::existing(bpffs, watched.folder())?;
        let lock = lock(&pins, kind)?;
        let name = ring_name(kind);
        let failed = |map| move |source| DataplaneError::Map { map, action: "read", source };
        let ring = Map::RingBuf(MapData::from_pin(pins.maps.join(name)).map_err(failed(name))?);
        let lost = MapData::from_pin(pins.maps.join("EVENTS_LOST")).map_err(failed("EVENTS_LOST"))?;
        let mut watch = Self {
            ring: ring.try_into().map_err(failed(name))?,
            kind,
            config: Cells::from_pin(&pins, "EVENT_CONFIG")?,
            lost: Map::PerCpuArray(lost).try_into().map_err(failed("EVENTS_LOST"))?,
            lost_before: 0,
            _lock: lock,
        };
        // What the last reader left is not ours.
        while watch.ring.next().is_some() {}
        watch.lost_before = watch.lost_total()?;
        watch.renew()?;
        Ok(watch)
    }

    /// Says that the interest goes on; due at least every two seconds.
    pub fn renew(&mut self) -> Result<(), DataplaneError> {
        self.say(sys::coarse_secs() + INTEREST_SECS)
    }

    /// The next record's bytes, if there is one.
    pub fn next_record(&mut self) -> Option<Vec<u8>> {
        self.ring.next().map(|bytes| bytes.to_vec())
    }

    /// Records that the ring had no room for since this reader came.
    pub fn lost(&self) -> Result<u64, DataplaneError> {
        Ok(self.lost_total()?.saturating_sub(self.lost_before))
    }

    fn lost_total(&self) -> Result<u64, DataplaneError> {
        let which = match self.kind {
            Ring::Events { .. } => persona_common::event::LOST_EVENTS,
            Ring::FlowLog => persona_common::event::LOST_FLOW_LOG,
        };
        let failed = |source| DataplaneError::Map { map: "EVENTS_LOST", action: "read", source };
        Ok(self.lost.get(&which, 0).map_err(failed)?.iter().sum())
    }

    fn say(&mut self, until_secs: u32) -> Result<(), DataplaneError> {
        let before = self.config.get(0)?;
        let after = match self.kind {
            Ring::Events { wanted } => EventConfig { wanted, until_secs, ..before },
            Ring::FlowLog => EventConfig { flow_log: 1, flow_log_until_secs: until_secs, ..before },
        };
        self.config.set(0, after)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // It runs out by itself if this fails.
        let _ = self.say(0);
    }
}

fn ring_name(kind: Ring) -> &'static str {
    match kind {
        Ring::Events { .. } => "EVENTS",
        Ring::FlowLog => "FLOW_LOG",
    }
}

/// A lock that ends with the process. The two rings have a folder each to lock.
fn lock(pins: &PinDirectory, kind: Ring) -> Result<File, DataplaneError> {
    let folder = match kind {
        Ring::Events { .. } => &pins.maps,
        Ring::FlowLog => &pins.links,
    };
    let failed = |action| move |source| DataplaneError::Bpffs { path: folder.clone(), action, source };
    let file = File::open(folder).map_err(failed("opening"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(DataplaneError::Watched { map: ring_name(kind) }),
        Err(std::fs::TryLockError::Error(source)) => Err(failed("locking")(source)),
    }
}
