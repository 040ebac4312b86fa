//! Where the keys of roots are kept: sealed in the store where there is a `ca.seal_key_file`, else in files of the state
//! directory. A key on its way to another manager's files is in the store too, sealed with the root that was before.

use std::path::{Path, PathBuf};

use super::sealing::SealingKeys;
use super::{AuthorityError, Root, keys, signing_record};
use crate::config::Config;
use crate::store::{RootRecord, RootState, SealedKey, Snapshot};

/// The keys of roots, of one manager.
pub(crate) struct Vault {
    directory: PathBuf,
    seal_key_file: Option<PathBuf>,
}

impl Vault {
    pub(crate) fn new(config: &Config) -> Self {
        Self { directory: config.state_dir(), seal_key_file: config.ca.seal_key_file.clone() }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The sealing keys as their file has them now. None: there is no file.
    fn sealing_keys(&self) -> Result<Option<SealingKeys>, AuthorityError> {
        Ok(self.seal_key_file.as_deref().map(SealingKeys::read).transpose()?)
    }

    /// Keeps the key of a new root: it is on this manager's disk when this returns, or what is returned goes into its record.
    pub(super) fn keep(&self, root: &Root) -> Result<Option<SealedKey>, AuthorityError> {
        match self.sealing_keys()? {
            Some(sealing) => sealing.seal(root).map(Some),
            None => keys::write(&self.directory, root).map(|()| None),
        }
    }

    /// The root of a record, with its key.
    pub(super) fn read(&self, record: &RootRecord) -> Result<Root, AuthorityError> {
        match (&record.stored_key, self.sealing_keys()?) {
            (Some(stored), Some(sealing)) => {
                let key = sealing.open(&record.id, stored)?;
                Root::read(&record.certificate, &key).map_err(|_| AuthorityError::Sealed)
            }
            (Some(stored), None) => Err(AuthorityError::SealKeyFileMissing { by: stored.by.clone() }),
            (None, _) => {
                let key = keys::read(&self.directory, &record.id)?;
                let not_the_key = |_| AuthorityError::NotTheKey(keys::path(&self.directory, &record.id));
                Root::read(&record.certificate, &key).map_err(not_the_key)
            }
        }
    }

    /// The root that signs. Its key may have come from another manager's, sealed with the root before.
    pub(super) fn read_signing(&self, snapshot: &Snapshot) -> Result<Root, AuthorityError> {
        let record = signing_record(snapshot)?;
        match (self.read(record), &record.sealed_key) {
            (Err(AuthorityError::KeyMissing(_)), Some(sealed)) => {
                let opener = snapshot.roots.get(&sealed.by).ok_or(AuthorityError::Root)?;
                let key = keys::unseal(&sealed.text, &record.id, &self.read(opener)?)?;
                let root = Root::read(&record.certificate, &key).map_err(|_| AuthorityError::Sealed)?;
                self.keep(&root)?;
                Ok(root)
            }
            (read, _) => read,
        }
    }

    /// Keys that are to be sealed anew, by the ids of their roots: those that lie in files only, and those that are sealed
    /// with another key than the one that seals now. Nothing without a file of sealing keys.
    pub(crate) fn to_seal(&self, snapshot: &Snapshot) -> Result<Vec<(String, SealedKey)>, AuthorityError> {
        let Some(sealing) = self.sealing_keys()? else { return Ok(Vec::new()) };
        let by = sealing.sealing_id();
        let is_due = |record: &RootRecord| record.stored_key.as_ref().is_none_or(|stored| stored.by != by);
        let mut sealed = Vec::new();
        for record in snapshot.roots.values().filter(|record| is_due(record)) {
            let read = if record.state == RootState::Signing { self.read_signing(snapshot) } else { self.read(record) };
            match read {
                Ok(root) => sealed.push((record.id.clone(), sealing.seal(&root)?)),
                // Whoever retired a root may have removed its key.
                Err(AuthorityError::KeyMissing(_)) if record.state != RootState::Signing => {}
                Err(error) => return Err(error),
            }
        }
        Ok(sealed)
    }

    /// The file that has the key of a root in plain, if there is one.
    pub(super) fn plain_file(&self, id: &str) -> Option<PathBuf> {
        Some(keys::path(&self.directory, id)).filter(|path| path.exists())
    }
}
