//! Records on disk: one file per workload below the state directory, replaced whole.
//!
//! They must outlive the process, not the machine: a boot makes every control group and guest anew. So nothing is
//! synced to the disk, and a record of another boot is worth nothing by its identity.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use persona_core::ids::WorkloadName;
use persona_core::limit::Record;
use serde::{Deserialize, Serialize};

use super::error::LimitError;
use super::whereabouts::Whereabouts;

/// The records of one state directory.
#[derive(Debug, Clone)]
pub struct Records {
    folder: PathBuf,
}

/// A record with what is needed to find the instance again without any configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Where the instance is.
    pub whereabouts: Whereabouts,
    /// What goes back to what.
    pub record: Record,
}

impl Records {
    /// The records below a state directory, whose folder is made when it is needed.
    pub fn in_directory(state_dir: &Path) -> Self {
        Self { folder: state_dir.join("limits") }
    }

    /// Every workload that has a record.
    pub fn workloads(&self) -> Vec<WorkloadName> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().filter_map(Result::ok);
        let names = entries.filter_map(|entry| {
            entry.file_name().to_string_lossy().strip_suffix(".json").and_then(|name| name.parse().ok())
        });
        names.collect()
    }

    /// A workload's record. One that cannot be understood is told and left where it is: somebody may still read in it.
    pub fn load(&self, workload: &WorkloadName) -> Result<Option<Kept>, LimitError> {
        let path = self.path(workload);
        let failed = |source| LimitError::Record { path: path.clone(), verb: "read", source };
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| failed(error.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Replaces a workload's record, whole or not at all.
    pub fn store(&self, workload: &WorkloadName, kept: &Kept) -> Result<(), LimitError> {
        let path = self.path(workload);
        let bytes = serde_json::to_vec(kept).expect("a record has string keys only");
        let new = path.with_extension("new");
        let write = || {
            if let Err(error) = std::fs::write(&new, &bytes) {
                if error.kind() != ErrorKind::NotFound {
                    return Err(error);
                }
                std::fs::create_dir_all(&self.folder)?;
                std::fs::write(&new, &bytes)?;
            }
            std::fs::rename(&new, &path)
        };
        write().map_err(|source| LimitError::Record { path: path.clone(), verb: "written", source })
    }

    /// Removes a workload's record.
    pub fn remove(&self, workload: &WorkloadName) -> Result<(), LimitError> {
        let path = self.path(workload);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(LimitError::Record { path, verb: "removed", source: error })
            }
            _ => Ok(()),
        }
    }

    fn path(&self, workload: &WorkloadName) -> PathBuf {
        self.folder.join(format!("{workload}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_kept_and_a_damaged_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::in_directory(folder.path());
        let name: WorkloadName = "web".parse().unwrap();
        assert_eq!(records.load(&name).unwrap(), None);
        let whereabouts = Whereabouts { monitor: Some("/run/web.qmp".into()), ..Whereabouts::default() };
        let kept = Kept { whereabouts, record: Record::of("i".into()) };
        records.store(&name, &kept).unwrap();
        assert_eq!(records.load(&name).unwrap(), Some(kept));
        assert_eq!(records.workloads(), std::slice::from_ref(&name));
        std::fs::write(folder.path().join("limits/web.json"), "{\"half\":").unwrap();
        assert!(records.load(&name).unwrap_err().to_string().contains("web.json"));
        records.remove(&name).unwrap();
        records.remove(&name).unwrap();
        assert!(records.workloads().is_empty());
    }
}
