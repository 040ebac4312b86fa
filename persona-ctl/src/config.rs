//! A role's configuration file: one TOML file, unknown keys refused. Flags and `PERSONA_*` variables go over it.

mod mistakes;

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

pub use mistakes::{Mistake, Place, located, read};

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration file {path} cannot be read")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file does not say what it should; the message names line, column and valid keys.
    #[error("configuration file {path} is not valid: {message}")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// What is wrong, where.
        message: String,
    },
}

/// Reads a role's configuration.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|error| ConfigError::Parse { path: path.to_owned(), message: error.to_string() })
}
