//! Kernel parameters as knobs, so that a transaction of limits writes them: of this system, or of a network namespace.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use persona_core::limit::{Knob, Knobs};
use persona_core::security::{sysctl_path, tidy_value};

use crate::limits::{Backend, LimitError, MemoryState};
use crate::privilege;

/// Where parameters are read and written.
#[derive(Debug)]
pub(crate) enum Place {
    /// Below this folder.
    Folder(PathBuf),
    /// Those of `net` of a network namespace, which stands for as long as the file is open.
    Namespace(File),
}

/// Some parameters of one place.
#[derive(Debug)]
pub(super) struct Parameters {
    place: Place,
    identity: String,
    names: BTreeSet<String>,
}

impl Parameters {
    /// These parameters there.
    pub(super) fn new(place: Place, identity: String, names: BTreeSet<String>) -> Self {
        Self { place, identity, names }
    }

    /// One parameter. None: there is none of that name, or it can only be written to.
    pub(super) fn value(&self, name: &str) -> Result<Option<String>, LimitError> {
        let path = self.path(name);
        let text = match &self.place {
            Place::Folder(_) => std::fs::read_to_string(&path),
            Place::Namespace(file) => privilege::net_parameter(file, name, None),
        };
        match text {
            Ok(text) => Ok(Some(tidy_value(&text))),
            Err(error) if is_absent(&error) => Ok(None),
            Err(source) => Err(LimitError::Read { path, source }),
        }
    }

    /// Whether the kernel lets nobody write a parameter.
    pub(super) fn is_fixed(&self, name: &str) -> bool {
        let Place::Folder(_) = &self.place else { return false };
        std::fs::metadata(self.path(name)).is_ok_and(|found| found.permissions().readonly())
    }

    fn path(&self, name: &str) -> PathBuf {
        let folder = if let Place::Folder(folder) = &self.place { folder } else { Path::new("/proc/sys") };
        folder.join(sysctl_path(name))
    }
}

/// A namespace of another user has no such parameter to show, which is `EACCES` or `EPERM`.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::IsADirectory)
}

impl Backend for Parameters {
    fn name(&self) -> &'static str {
        "sysctl"
    }

    fn identity(&mut self) -> Result<String, LimitError> {
        Ok(self.identity.clone())
    }

    fn observe(&mut self) -> Result<Knobs, LimitError> {
        let mut knobs = Knobs::new();
        for name in &self.names {
            knobs.extend(self.value(name)?.map(|value| (Knob::new(name), value)));
        }
        Ok(knobs)
    }

    fn read(&mut self, knob: &Knob) -> Result<Option<String>, LimitError> {
        self.value(knob.as_str())
    }

    fn write(&mut self, knob: &Knob, value: &str) -> Result<bool, LimitError> {
        let path = self.path(knob.as_str());
        let written = match &self.place {
            Place::Folder(_) => write_in_place(&path, value),
            Place::Namespace(file) => privilege::net_parameter(file, knob.as_str(), Some(value)).map(drop),
        };
        let value = value.to_owned();
        written.map(|()| true).map_err(|source| LimitError::Write { path, value, source })
    }

    fn memory(&mut self) -> Result<Option<MemoryState>, LimitError> {
        Ok(None)
    }
}

/// One write to a file that must be there: the kernel takes a value whole.
fn write_in_place(path: &Path, value: &str) -> io::Result<()> {
    io::Write::write_all(&mut File::options().write(true).truncate(true).open(path)?, value.as_bytes())
}
