//! What every way to limit an instance can do, and several ways together as one.

use persona_core::limit::{InstanceKind, Knob, Knobs};

use super::error::LimitError;
use super::progress::Progress;

/// What memory is like while it is made to shrink.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryState {
    /// Bytes in use, caches included.
    pub used_bytes: u64,
    /// The most that ever was; as much as can be, where that is not known.
    pub peak_bytes: u64,
    /// Whether a process waits for memory because nobody may be killed (v1).
    pub has_waiting: bool,
}

/// One way to limit an instance. It answers for its own knobs and knows nothing of personas.
pub trait Backend: Send {
    /// What it is called in reports and by `doctor`.
    fn name(&self) -> &'static str;

    /// Which instance it limits, of all that had the same name; another value means another instance.
    fn identity(&mut self) -> Result<String, LimitError>;

    /// Every knob that it has, with its value.
    fn observe(&mut self) -> Result<Knobs, LimitError>;

    /// Shows every knob that it has, with its value, one after the other. Where that can be had without copies, it is.
    fn show(&mut self, see: &mut dyn FnMut(&Knob, &str)) -> Result<(), LimitError> {
        self.observe()?.iter().for_each(|(knob, value)| see(knob, value));
        Ok(())
    }

    /// One knob. None: it is not this back end's, or not there.
    fn read(&mut self, knob: &Knob) -> Result<Option<String>, LimitError>;

    /// Sets a knob. Returns whether it is one of this back end's.
    fn write(&mut self, knob: &Knob, value: &str) -> Result<bool, LimitError>;

    /// What memory is like. None: that is not this back end's.
    fn memory(&mut self) -> Result<Option<MemoryState>, LimitError>;

    /// How far its processes got, where that is known and their memory is this back end's.
    fn progress(&mut self) -> Option<Progress> {
        None
    }
}

/// An instance with all that limits it.
pub struct Instance {
    /// What it is.
    pub kind: InstanceKind,
    backends: Vec<Box<dyn Backend>>,
}

impl Instance {
    /// An instance that these limit together.
    pub fn new(kind: InstanceKind, backends: Vec<Box<dyn Backend>>) -> Self {
        Self { kind, backends }
    }

    /// What limits it.
    pub fn names(&self) -> Vec<String> {
        self.backends.iter().map(|backend| backend.name().to_owned()).collect()
    }

    /// Which instance it is.
    pub fn identity(&mut self) -> Result<String, LimitError> {
        let parts = self.backends.iter_mut().map(|backend| backend.identity());
        Ok(parts.collect::<Result<Vec<_>, _>>()?.join(" "))
    }

    /// Every knob that it has.
    pub fn observe(&mut self) -> Result<Knobs, LimitError> {
        let mut knobs = Knobs::new();
        for backend in &mut self.backends {
            knobs.extend(backend.observe()?);
        }
        Ok(knobs)
    }

    /// Shows every knob that it has, with its value.
    pub fn show(&mut self, see: &mut dyn FnMut(&Knob, &str)) -> Result<(), LimitError> {
        self.backends.iter_mut().try_for_each(|backend| backend.show(see))
    }

    /// One knob.
    pub fn read(&mut self, knob: &Knob) -> Result<String, LimitError> {
        for backend in &mut self.backends {
            if let Some(value) = backend.read(knob)? {
                return Ok(value);
            }
        }
        Err(LimitError::NoKnob(knob.clone()))
    }

    /// Sets a knob and reads it back.
    pub fn write(&mut self, knob: &Knob, value: &str) -> Result<(), LimitError> {
        for backend in &mut self.backends {
            if backend.write(knob, value)? {
                let found = self.read(knob)?;
                let (knob, written) = (knob.clone(), value.to_owned());
                return if found == value { Ok(()) } else { Err(LimitError::ReadBack { knob, written, found }) };
            }
        }
        Err(LimitError::NoKnob(knob.clone()))
    }

    /// What its memory is like.
    pub fn memory(&mut self) -> Result<MemoryState, LimitError> {
        for backend in &mut self.backends {
            if let Some(state) = backend.memory()? {
                return Ok(state);
            }
        }
        Ok(MemoryState::default())
    }

    /// How far its processes got.
    pub fn progress(&mut self) -> Progress {
        self.backends.iter_mut().find_map(|backend| backend.progress()).unwrap_or_default()
    }
}
