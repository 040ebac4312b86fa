//! A host's own keys on disk: the one in use, and while it changes the one that takes its place.
//!
//! Each step is one rename, so that whatever moment a process is killed at, the next one goes on from there: with the key
//! before and its successor announced, or with the successor.

use std::fs::File;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::key::{self, KeyError, PrivateKey, PublicKey};

/// Where the next key is kept, beside the one in use.
const NEXT_FILE: &str = "wireguard.next.key";

/// A file that asks the role for another key.
const REQUEST_FILE: &str = "wireguard.rotate";

/// A host's own keys.
#[derive(Debug, Clone)]
pub struct OwnKeys {
    directory: PathBuf,
    /// The one in use.
    pub current: PrivateKey,
    /// When it was made.
    pub made: SystemTime,
    /// The one that is about to take its place.
    pub next: Option<PrivateKey>,
}

impl OwnKeys {
    /// The keys in a state directory; one is made if there is none.
    pub fn in_directory(directory: &Path) -> Result<Self, KeyError> {
        let current = PrivateKey::in_directory(directory)?;
        let next = PrivateKey::read(&directory.join(NEXT_FILE))?;
        let made = made(directory)?;
        Ok(Self { directory: directory.to_owned(), current, made, next })
    }

    /// Keys that stand nowhere.
    #[cfg(test)]
    pub(super) fn of(current: PrivateKey, next: Option<PrivateKey>) -> Self {
        Self { directory: PathBuf::new(), current, made: SystemTime::UNIX_EPOCH, next }
    }

    /// Makes the next key and notes it, unless there is one. A request for it is done with.
    pub fn make_next(&mut self) -> Result<PublicKey, KeyError> {
        let next = match self.next.take() {
            Some(next) => next,
            None => PrivateKey::in_file(&self.directory.join(NEXT_FILE))?,
        };
        let public = next.public();
        self.next = Some(next);
        self.forget_request()?;
        Ok(public)
    }

    /// Puts the next key in the place of the one in use, which is gone for good.
    pub fn take_next(&mut self) -> Result<(), KeyError> {
        let Some(next) = self.next.clone() else { return Ok(()) };
        let (from, to) = (self.directory.join(NEXT_FILE), self.directory.join(key::FILE_NAME));
        let failed = |source| KeyError::File { path: to.clone(), source };
        std::fs::rename(from, &to).map_err(failed)?;
        // The rename must not be undone by a power cut: far ends are about to forget the key before.
        File::open(&self.directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
        self.made = made(&self.directory)?;
        (self.current, self.next) = (next, None);
        Ok(())
    }

    /// Whether somebody has asked for another key.
    pub fn is_asked_for(&self) -> bool {
        self.directory.join(REQUEST_FILE).exists()
    }

    fn forget_request(&self) -> Result<(), KeyError> {
        let path = self.directory.join(REQUEST_FILE);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != ErrorKind::NotFound => Err(KeyError::File { path, source }),
            _ => Ok(()),
        }
    }
}

/// Asks the role whose state directory it is for another key; the public one that it uses now. None is made here.
pub fn ask_for_another_key(directory: &Path) -> Result<PublicKey, KeyError> {
    let path = directory.join(key::FILE_NAME);
    let Some(current) = PrivateKey::read(&path)? else {
        let source = Error::new(ErrorKind::NotFound, "no role has made a key here");
        return Err(KeyError::File { path, source });
    };
    let path = directory.join(REQUEST_FILE);
    File::create(&path).map_err(|source| KeyError::File { path, source })?;
    Ok(current.public())
}

/// When the key in use was made: a rename keeps a file's time.
fn made(directory: &Path) -> Result<SystemTime, KeyError> {
    let path = directory.join(key::FILE_NAME);
    std::fs::metadata(&path).and_then(|it| it.modified()).map_err(|source| KeyError::File { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_next_key_outlives_the_process_and_then_takes_the_place_of_the_other() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path();
        let mut keys = OwnKeys::in_directory(place).unwrap();
        let first = keys.current.public();
        assert!(keys.next.is_none() && !keys.is_asked_for());
        assert_eq!(ask_for_another_key(place).unwrap(), first);
        assert!(keys.is_asked_for());
        let next = keys.make_next().unwrap();
        assert!(!keys.is_asked_for(), "a request leads to one key");
        assert_eq!(keys.make_next().unwrap(), next, "no third one");
        // Killed here, and started again.
        let mut keys = OwnKeys::in_directory(place).unwrap();
        assert_eq!((keys.current.public(), keys.next.as_ref().unwrap().public()), (first, next));
        keys.take_next().unwrap();
        // And here.
        let keys = OwnKeys::in_directory(place).unwrap();
        assert_eq!((keys.current.public(), keys.next.is_none()), (next, true));
        let files = std::fs::read_dir(place).unwrap().count();
        assert_eq!(files, 1, "nothing of the key before is left");
    }

    #[test]
    fn without_a_role_nothing_is_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let refused = ask_for_another_key(directory.path()).unwrap_err();
        assert!(refused.to_string().contains("wireguard.key"), "{refused}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
