//! Managers that somebody has logged in at: one file, for its owner only, with an access token per context.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use persona_core::wire::credential::Credential;
use serde::{Deserialize, Serialize};

use super::http::Access;
use crate::trust::Trust;

/// A file of contexts that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// Neither variable that says where it would be is set.
    #[error("neither XDG_CONFIG_HOME nor HOME is set, so there is no place for contexts: use --token-file")]
    NoHome,
    /// The file system refused.
    #[error("contexts {path} cannot be used")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others can read the tokens.
    #[error("contexts {0} can be read by others: chmod 600 {0}, and have the tokens in it revoked")]
    Readable(PathBuf),
    /// The file says something else. The text is not repeated, for it holds tokens.
    #[error("contexts {0} is not valid: remove it and log in again")]
    Invalid(PathBuf),
    /// There is no such context.
    #[error("there is no context {name}; there are: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
}

/// All contexts.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Contexts {
    /// The one that is used unless another is named.
    pub current: Option<String>,
    /// By name.
    pub contexts: BTreeMap<String, Context>,
}

/// A login at a manager.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// The access token, the whole line.
    pub token: String,
    /// The roots that the manager's certificate may verify under, in PEM; empty for one without TLS.
    #[serde(default)]
    pub roots: Vec<String>,
}

impl Context {
    /// How the manager is asked.
    pub fn access(&self) -> Option<Access> {
        let credential: Credential = self.token.parse().ok()?;
        let roots = (!self.roots.is_empty()).then(|| Trust::Roots(self.roots.clone()));
        let trust = roots.or(credential.pin.map(Trust::Pin));
        let (manager, token) = (credential.managers.join(","), Some(credential.bearer()));
        Some(Access { manager, trust, token, ..Access::default() })
    }
}

impl Contexts {
    /// Where the file is: `persona/contexts.toml` below XDG_CONFIG_HOME or ~/.config.
    pub fn path() -> Result<PathBuf, ContextError> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let base = variable("XDG_CONFIG_HOME").or_else(|| variable("HOME").map(|home| home.join(".config")));
        base.map(|base| base.join("persona/contexts.toml")).ok_or(ContextError::NoHome)
    }

    /// Reads the file; one that is not there has no contexts.
    pub fn load(path: &Path) -> Result<Self, ContextError> {
        let in_file = |source| ContextError::File { path: path.to_owned(), source };
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            text => text.map_err(in_file)?,
        };
        if std::fs::metadata(path).map_err(in_file)?.permissions().mode() & 0o077 != 0 {
            return Err(ContextError::Readable(path.to_owned()));
        }
        toml::from_str(&text).map_err(|_| ContextError::Invalid(path.to_owned()))
    }

    /// Replaces the file, whole or not at all.
    pub fn store(&self, path: &Path) -> Result<(), ContextError> {
        let in_file = |source| ContextError::File { path: path.to_owned(), source };
        let text = toml::to_string(self).map_err(|_| ContextError::Invalid(path.to_owned()))?;
        let directory = path.parent().unwrap_or(Path::new("."));
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(in_file)?;
        let temporary = path.with_extension("new");
        let mut options = std::fs::OpenOptions::new();
        let written = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary);
        let written = written.and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&temporary, path)
        });
        written.map_err(in_file)
    }

    /// A context: the named one, else the current one. None: none is current.
    pub fn find(&self, name: Option<&str>) -> Result<Option<&Context>, ContextError> {
        let Some(name) = name.or(self.current.as_deref()) else { return Ok(None) };
        self.contexts.get(name).map(Some).ok_or_else(|| {
            let known: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none; log in first".to_owned() } else { known.join(", ") };
            ContextError::Unknown { name: name.to_owned(), known }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(number: u8) -> Context {
        Context { token: format!("{number}.aabb.{}@https://m{number}:1", "0a".repeat(32)), roots: Vec::new() }
    }

    #[test]
    fn contexts_are_kept_for_their_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("persona/contexts.toml");
        let mut contexts = Contexts::load(&path).unwrap();
        assert!(contexts.find(None).unwrap().is_none());
        contexts.contexts = [("one".to_owned(), context(1)), ("two".to_owned(), context(2))].into();
        contexts.current = Some("two".to_owned());
        contexts.store(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let again = Contexts::load(&path).unwrap();
        let manager = |name| again.find(name).unwrap().unwrap().access().unwrap().manager;
        assert_eq!((manager(None), manager(Some("one"))), ("https://m2:1".to_owned(), "https://m1:1".to_owned()));
        let unknown = again.find(Some("three")).err().unwrap().to_string();
        assert!(unknown.contains("one, two"), "{unknown}");

        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Contexts::load(&path), Err(ContextError::Readable(_))));
    }

    #[test]
    fn a_damaged_file_is_refused_without_repeating_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("contexts.toml");
        std::fs::write(&path, "token = 'aabb").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let error = Contexts::load(&path).err().unwrap();
        assert!(matches!(&error, ContextError::Invalid(_)) && !error.to_string().contains("aabb"), "{error}");
    }
}
