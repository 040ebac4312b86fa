//! The configuration of the agent inside a guest.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::Place;

/// The port of the name `persona.0`, which udev makes of its number.
const PORT: &str = "/dev/virtio-ports/persona.0";

/// Where it keeps what it did, if nothing else is said.
const STATE_DIR: &str = "/var/lib/persona/guest";

/// What the file may say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestFile {
    /// The virtio-serial port at which the host's agent speaks. Default: /dev/virtio-ports/persona.0.
    pub port: Option<PathBuf>,
    /// Where is recorded what was changed, so that it can be put back. Default: /var/lib/persona/guest.
    pub state_dir: Option<PathBuf>,
    /// What is done about security settings. Default: they are applied.
    #[serde(default)]
    pub security: SecurityPolicy,
    /// What is done about software. Default: drift is told, nothing is installed.
    #[serde(default)]
    pub software: SoftwarePolicy,
}

/// What is done about security settings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecurityPolicy {
    /// Kernel parameters are set, and put back.
    #[default]
    Apply,
    /// They are looked at, and nothing is changed.
    Report,
}

/// What is done about software.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SoftwarePolicy {
    /// Packages are looked at, and nothing is installed.
    #[default]
    Report,
    /// Wanted versions are installed and held, and put back.
    Install,
}

/// The checked configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestConfig {
    /// The port.
    pub port: PathBuf,
    /// Where is recorded what was changed.
    pub state_dir: PathBuf,
    /// What is done about security settings.
    pub security: SecurityPolicy,
    /// What is done about software.
    pub software: SoftwarePolicy,
}

impl GuestFile {
    /// Everything that a checked configuration must not have.
    pub fn mistakes(&self) -> Vec<(Place, String)> {
        let is_relative = |path: &Option<PathBuf>| path.as_ref().is_some_and(|path| !path.is_absolute());
        let keys = [("port", is_relative(&self.port)), ("state_dir", is_relative(&self.state_dir))];
        let wrong = keys.into_iter().filter(|(_, is_wrong)| *is_wrong);
        wrong.map(|(key, _)| (Place::Key(key), format!("{key} is an absolute path"))).collect()
    }

    /// With defaults.
    pub fn in_force(self) -> Self {
        let GuestConfig { port, state_dir, security, software } = self.into_config();
        Self { port: Some(port), state_dir: Some(state_dir), security, software }
    }

    /// Checks what was read.
    ///
    /// # Errors
    /// The first mistake.
    pub fn check(self) -> anyhow::Result<GuestConfig> {
        match self.mistakes().into_iter().next() {
            Some((_, mistake)) => Err(anyhow::Error::msg(mistake)),
            None => Ok(self.into_config()),
        }
    }

    fn into_config(self) -> GuestConfig {
        GuestConfig {
            port: self.port.unwrap_or_else(|| PORT.into()),
            state_dir: self.state_dir.unwrap_or_else(|| STATE_DIR.into()),
            security: self.security,
            software: self.software,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_installed_unless_the_file_says_so() {
        let file = |text: &str| toml::from_str::<GuestFile>(text);
        let config = file("").unwrap().check().unwrap();
        assert_eq!((config.software, config.security), (SoftwarePolicy::Report, SecurityPolicy::Apply));
        assert_eq!(file("software = 'install'").unwrap().software, SoftwarePolicy::Install);
        assert!(file("software = 'yes'").unwrap_err().to_string().contains("install"));
        assert!(file("sofware = 'install'").unwrap_err().to_string().contains("software"));
        assert!(file("port = 'vport0p1'").unwrap().check().is_err());
    }

    #[test]
    fn the_example_is_what_is_in_force_without_a_file() {
        let example: GuestFile = toml::from_str(include_str!("../../packaging/examples/guest.toml")).unwrap();
        assert_eq!(example.in_force(), GuestFile::default().in_force());
    }
}
