//! A systemd unit as a back end: what is in force is read from its control group, what is set goes through systemd.
//!
//! systemd writes a unit's limits again with each `daemon-reload` and each start; only what it knows itself stays.

use std::time::{Duration, Instant};

use persona_core::limit::{InstanceKind, Knob, Knobs, unit_properties};

use super::backend::{Backend, MemoryState};
use super::cgroup::{CgroupFiles, boot_id};
use super::error::LimitError;
use super::hierarchies::Place;
use super::progress::Progress;
use crate::privilege;

/// systemd answers before it has written to the control group; this is how long that may take.
const WRITE_TIME: Duration = Duration::from_secs(2);

/// Between two looks at what it has written.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// A unit with its control group.
#[derive(Debug)]
pub(super) struct SystemdUnit {
    name: String,
    places: Vec<Place>,
    devices: Vec<String>,
    files: CgroupFiles,
}

impl SystemdUnit {
    pub(super) fn open(name: String, places: Vec<Place>, devices: Vec<String>) -> Self {
        let files = CgroupFiles::open(places.clone(), devices.clone(), InstanceKind::Processes);
        Self { name, places, devices, files }
    }

    /// A unit that was started again has its group anew, with the files that systemd gives it.
    fn look_again(&mut self) -> Result<(), LimitError> {
        if !self.places.iter().all(|place| place.folder.is_dir()) {
            return Err(LimitError::NoInstance {
                what: format!("unit {} does not run", self.name),
                advice: "start it; what its persona set stays with it until then".to_owned(),
            });
        }
        self.files = CgroupFiles::open(self.places.clone(), self.devices.clone(), InstanceKind::Processes);
        Ok(())
    }
}

impl Backend for SystemdUnit {
    fn name(&self) -> &'static str {
        "systemd"
    }

    /// What systemd was told holds for this boot, whenever the unit starts.
    fn identity(&mut self) -> Result<String, LimitError> {
        Ok(format!("{} unit:{}", boot_id(), self.name))
    }

    fn observe(&mut self) -> Result<Knobs, LimitError> {
        self.look_again()?;
        self.files.observe()
    }

    fn read(&mut self, knob: &Knob) -> Result<Option<String>, LimitError> {
        self.files.read(knob)
    }

    fn write(&mut self, knob: &Knob, value: &str) -> Result<bool, LimitError> {
        if self.files.read(knob)?.is_none() {
            return Ok(false);
        }
        let refused = |what: String| LimitError::Unit {
            unit: self.name.clone(),
            knob: knob.clone(),
            value: value.to_owned(),
            what,
        };
        if unit_properties(knob, value).is_none() {
            return Err(refused("it has no property for that".to_owned()));
        }
        privilege::set_unit_limit(&self.name, knob, value).map_err(|error| refused(error.to_string()))?;
        let begin = Instant::now();
        while self.files.read(knob)?.as_deref() != Some(value) && begin.elapsed() < WRITE_TIME {
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(true)
    }

    fn memory(&mut self) -> Result<Option<MemoryState>, LimitError> {
        self.files.memory()
    }

    fn progress(&mut self) -> Option<Progress> {
        self.files.progress()
    }
}
