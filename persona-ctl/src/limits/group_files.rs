//! Files of a control group that are read again and again: opened once, then read from their beginning.
//!
//! An open file belongs to the group that it was opened in. Once that is removed the kernel answers ENODEV, also where there is
//! another group of the same name by then: nobody reads a stranger's numbers.

use std::fs::File;
use std::io::{Error, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::error::LimitError;
use super::hierarchies::Place;

/// Room for a file's text at first; `memory.stat` has about 1,500 bytes.
const TEXT_BYTES: usize = 4_096;

/// More than any file of a control group has.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// The files of a group for one controller.
#[derive(Debug)]
pub(super) struct GroupFiles {
    place: Place,
    known: Vec<Known>,
}

/// A file that was asked for.
#[derive(Debug)]
struct Known {
    /// In whose tree, and its name.
    key: (&'static str, &'static str),
    path: PathBuf,
    file: Kept,
}

#[derive(Debug)]
enum Kept {
    Open(File),
    /// This process has as many files open as it may: opened for each reading.
    Closed,
    /// The kernel has none; a group's files do not come and go.
    Missing,
}

impl GroupFiles {
    /// Nothing is opened yet.
    pub(super) fn new(place: &Place) -> Self {
        Self { place: place.clone(), known: Vec::new() }
    }

    /// Which group, and for which controller.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// What a function makes of what a file says now. Nothing is copied.
    pub(super) fn read<T>(&mut self, name: &'static str, make: impl FnOnce(&str) -> T) -> Result<T, LimitError> {
        let made = self.read_if_there(name, make)?;
        made.ok_or_else(|| LimitError::Read { path: self.place.folder.join(name), source: ErrorKind::NotFound.into() })
    }

    /// The same of a file that not every kernel has.
    pub(super) fn read_if_there<T>(
        &mut self,
        name: &'static str,
        make: impl FnOnce(&str) -> T,
    ) -> Result<Option<T>, LimitError> {
        self.read_in(("", name), |folder| folder.join(name), make)
    }

    /// The same of a file of the same group in another controller's tree, which may be mounted beside this one's.
    pub(super) fn read_beside<T>(
        &mut self,
        controller: &'static str,
        name: &'static str,
        make: impl FnOnce(&str) -> T,
    ) -> Result<Option<T>, LimitError> {
        let own = format!("/{}/", self.place.controller);
        let beside = |folder: &Path| folder.to_string_lossy().replacen(&own, &format!("/{controller}/"), 1);
        self.read_in((controller, name), |folder| Path::new(&beside(folder)).join(name), make)
    }

    fn read_in<T>(
        &mut self,
        key: (&'static str, &'static str),
        path_in: impl FnOnce(&Path) -> PathBuf,
        make: impl FnOnce(&str) -> T,
    ) -> Result<Option<T>, LimitError> {
        let index = match self.known.iter().position(|known| known.key == key) {
            Some(index) => index,
            None => {
                let path = path_in(&self.place.folder);
                let file = open(&path).map_err(|source| LimitError::Read { path: path.clone(), source })?;
                self.known.push(Known { key, path, file });
                self.known.len() - 1
            }
        };
        let Known { path, file, .. } = &self.known[index];
        let made = match file {
            Kept::Open(file) => with_text_of(file, make),
            Kept::Closed => File::open(path).and_then(|file| with_text_of(&file, make)),
            Kept::Missing => return Ok(None),
        };
        made.map(Some).map_err(|source| LimitError::Read { path: path.clone(), source })
    }
}

fn open(path: &Path) -> Result<Kept, Error> {
    match File::open(path) {
        Ok(file) => Ok(Kept::Open(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Kept::Missing),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => Ok(Kept::Closed),
        Err(error) => Err(error),
    }
}

/// All that a file says.
pub(super) fn text_of(file: &File) -> Result<String, Error> {
    with_text_of(file, str::to_owned)
}

/// What a function makes of all that a file says, which is copied nowhere. The kernel makes the text for one read (seq_file): what
/// comes short of the room for it is all of it.
pub(super) fn with_text_of<T>(file: &File, make: impl FnOnce(&str) -> T) -> Result<T, Error> {
    let mut bytes = [0; TEXT_BYTES];
    let count = file.read_at(&mut bytes, 0)?;
    if count < bytes.len() {
        return str::from_utf8(&bytes[..count]).map(make).map_err(Error::other);
    }
    let mut bytes = vec![0; TEXT_BYTES_MAX];
    let count = file.read_at(&mut bytes, 0)?;
    if count == bytes.len() {
        return Err(ErrorKind::FileTooLarge.into());
    }
    str::from_utf8(&bytes[..count]).map(make).map_err(Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Version;

    fn files_in(folder: &Path) -> GroupFiles {
        GroupFiles::new(&Place { controller: "cpu".to_owned(), version: Version::V1, folder: folder.to_owned() })
    }

    #[test]
    fn a_file_is_read_anew_each_time_whatever_its_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cpu.stat");
        let mut files = files_in(folder.path());
        for length in [3, TEXT_BYTES - 1, TEXT_BYTES, 3 * TEXT_BYTES, 0, 7] {
            let text = "x".repeat(length);
            std::fs::write(&path, &text).unwrap();
            assert_eq!(files.read("cpu.stat", str::to_owned).unwrap(), text, "{length}");
        }
        assert_eq!(files.known.len(), 1, "one file stays open");
    }

    #[test]
    fn what_a_kernel_has_not_is_missing_and_what_must_be_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = files_in(folder.path());
        assert_eq!(files.read_if_there("cpu.pressure", str::to_owned).unwrap(), None);
        let error = files.read("cpu.stat", str::to_owned).unwrap_err();
        assert!(error.is_gone() && error.to_string().contains("cpu.stat"), "{error}");
    }

    #[test]
    fn a_tree_that_is_mounted_beside_is_read_too() {
        let root = tempfile::tempdir().unwrap();
        for (tree, text) in [("cpu", "1"), ("cpuacct", "2")] {
            std::fs::create_dir_all(root.path().join(tree).join("web")).unwrap();
            std::fs::write(root.path().join(tree).join("web/cpuacct.usage"), text).unwrap();
        }
        let mut files = files_in(&root.path().join("cpu/web"));
        assert_eq!(files.read_beside("cpuacct", "cpuacct.usage", str::to_owned).unwrap().as_deref(), Some("2"));
        assert_eq!(files.read("cpuacct.usage", str::to_owned).unwrap(), "1");
    }
}
