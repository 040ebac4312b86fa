//! Records on disk: one file per workload below the state directory, a line per record; the last whole line counts.
//!
//! They must outlive the process, not the machine: a boot makes every control group and guest anew. So nothing is
//! synced to the disk, and a record of another boot is worth nothing by its identity. Lines are added because replacing a
//! file makes file systems write the new one to the disk at once (ext4: `auto_da_alloc`), which takes longer than all the rest.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use persona_core::ids::WorkloadName;
use persona_core::limit::Record;
use serde::{Deserialize, Serialize};

use super::error::LimitError;
use super::whereabouts::Whereabouts;

/// A file of this length is replaced by its last line, bytes.
const FILE_BYTES_MAX: u64 = 128 << 10;

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
            Ok(bytes) => serde_json::from_slice(last_line(&bytes)).map(Some).map_err(|error| failed(error.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Replaces a workload's record, whole or not at all.
    pub fn store(&self, workload: &WorkloadName, kept: &Kept) -> Result<(), LimitError> {
        let path = self.path(workload);
        let mut line = serde_json::to_vec(kept).expect("a record has string keys only");
        line.push(b'\n');
        let stored = match file_with_room(&path) {
            Ok(Some(mut file)) => file.write_all(&line),
            Ok(None) => self.replace(&path, &line),
            Err(error) => Err(error),
        };
        stored.map_err(|source| LimitError::Record { path, verb: "written", source })
    }

    fn replace(&self, path: &Path, line: &[u8]) -> std::io::Result<()> {
        let new = path.with_extension("new");
        if let Err(error) = std::fs::write(&new, line) {
            if error.kind() != ErrorKind::NotFound {
                return Err(error);
            }
            std::fs::create_dir_all(&self.folder)?;
            std::fs::write(&new, line)?;
        }
        std::fs::rename(&new, path)
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

/// A file that takes another line. None: there is none, it is long, or its last line is not whole.
fn file_with_room(path: &Path) -> std::io::Result<Option<File>> {
    let file = match OpenOptions::new().read(true).append(true).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let length = file.metadata()?.len();
    let mut last = [0];
    let is_whole = length > 0 && file.read_at(&mut last, length - 1)? == 1 && last == *b"\n";
    Ok((is_whole && length < FILE_BYTES_MAX).then_some(file))
}

/// The last line that is whole. A process that died, or a disk that was full, may have left a part of one after it.
fn last_line(bytes: &[u8]) -> &[u8] {
    let is_end = |byte: &u8| *byte == b'\n';
    let Some(end) = bytes.iter().rposition(is_end) else { return bytes };
    let start = bytes[..end].iter().rposition(is_end).map_or(0, |before| before + 1);
    &bytes[start..end]
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

    #[test]
    fn the_last_whole_line_counts_wherever_a_writer_died() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::in_directory(folder.path());
        let path = folder.path().join("limits/web.json");
        let name: WorkloadName = "web".parse().unwrap();
        let kept = |identity: &str| Kept { whereabouts: Whereabouts::default(), record: Record::of(identity.into()) };
        records.store(&name, &kept("one")).unwrap();
        records.store(&name, &kept("two")).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let first_length = last_line(&whole).len() + 1;
        for length in first_length..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(records.load(&name).unwrap(), Some(kept("one")), "{length} bytes of {}", whole.len());
        }
        records.store(&name, &kept("three")).unwrap();
        assert_eq!(records.load(&name).unwrap(), Some(kept("three")), "what was torn is not gone on with");
        let mut stored = 0;
        while std::fs::metadata(&path).unwrap().len() < FILE_BYTES_MAX {
            records.store(&name, &kept(&format!("{stored}"))).unwrap();
            stored += 1;
        }
        records.store(&name, &kept("last")).unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() < 1_000, "a long file is replaced");
        assert_eq!(records.load(&name).unwrap(), Some(kept("last")));
    }

    #[test]
    fn a_record_of_an_earlier_release_is_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::in_directory(folder.path());
        let name: WorkloadName = "web".parse().unwrap();
        let kept = Kept { whereabouts: Whereabouts::default(), record: Record::of("old".into()) };
        std::fs::create_dir(folder.path().join("limits")).unwrap();
        std::fs::write(folder.path().join("limits/web.json"), serde_json::to_vec(&kept).unwrap()).unwrap();
        assert_eq!(records.load(&name).unwrap(), Some(kept.clone()));
        records.store(&name, &kept).unwrap();
        assert_eq!(records.load(&name).unwrap(), Some(kept));
    }
}
