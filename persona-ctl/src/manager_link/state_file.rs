//! The last desired state that was in force, kept so that a restart without a manager goes on with it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use persona_core::wire::desired::{DesiredState, Frame};

use super::identity::write_private;

/// The file in the state directory.
#[derive(Debug, Clone)]
pub struct StateFile {
    path: PathBuf,
}

impl StateFile {
    /// The file of this state directory.
    pub fn in_directory(state_dir: &Path) -> Self {
        Self { path: state_dir.join("desired.json") }
    }

    /// The state kept there. A file that is missing or damaged is as good as none: the manager sends a snapshot.
    pub fn load(&self) -> Option<DesiredState> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the last desired state cannot be read");
                return None;
            }
        };
        let frame = serde_json::from_slice::<Frame>(&bytes).ok();
        let state = frame.and_then(|frame| DesiredState::default().after(frame).ok());
        if state.is_none() {
            tracing::warn!(path = %self.path.display(), "the last desired state is damaged and is left out");
        }
        state
    }

    /// Replaces the state kept there, whole or not at all.
    pub fn store(&self, state: &DesiredState) {
        let bytes = serde_json::to_vec(&state.to_snapshot()).expect("a desired state has string keys only");
        if let Err(error) = write_private(&self.path, &bytes) {
            tracing::warn!(path = %self.path.display(), %error, "the desired state is in force but cannot be kept for a restart");
        }
    }
}

/// Replaces a file that only its owner may read, whole or not at all.
pub fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    write_private(path, bytes)
}

#[cfg(test)]
mod tests {
    use persona_core::ids::Generation;
    use persona_core::wire::desired::{Item, ProbeItem};

    use super::*;

    #[test]
    fn a_state_is_read_as_it_was_kept() {
        let directory = tempfile::tempdir().unwrap();
        let file = StateFile::in_directory(directory.path());
        assert_eq!(file.load(), None);
        let mut state = DesiredState { generation: Generation::new(1, 3), ..Default::default() };
        state.insert(Item::Probe(ProbeItem::default()));
        file.store(&state);
        assert_eq!(file.load(), Some(state));
    }

    #[test]
    fn a_damaged_file_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("desired.json"), "{\"half\":").unwrap();
        assert_eq!(StateFile::in_directory(directory.path()).load(), None);
    }
}
