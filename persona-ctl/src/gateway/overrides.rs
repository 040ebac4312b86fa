//! Drains and weights that somebody set while the gateway ran: kept in a file, so that a restart does not undo them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// The file's name in the state directory.
const FILE: &str = "overrides.json";

/// What goes over the configuration for one instance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Override {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) draining: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) weight: Option<u16>,
}

/// Service → instance → what goes over the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Overrides {
    services: BTreeMap<String, BTreeMap<String, Override>>,
}

impl Overrides {
    /// Reads what was kept; nothing was, if there is no file.
    pub(super) fn load(state_dir: &Path) -> anyhow::Result<Self> {
        let path = path(state_dir);
        match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text)
                .with_context(|| format!("{} is not what this gateway writes: remove it", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
        }
    }

    /// Keeps it: written beside its place and moved there when it is whole.
    pub(super) fn save(&self, state_dir: &Path) -> anyhow::Result<()> {
        let path = path(state_dir);
        let failed = || format!("{} cannot be written", path.display());
        std::fs::create_dir_all(state_dir).with_context(failed)?;
        let partial = path.with_extension("partial");
        std::fs::write(&partial, serde_json::to_vec_pretty(self)?).with_context(failed)?;
        std::fs::rename(&partial, &path).with_context(failed)
    }

    /// What goes over the configuration for one instance.
    pub(super) fn of(&self, service: &str, instance: &str) -> Override {
        self.services.get(service).and_then(|it| it.get(instance)).copied().unwrap_or_default()
    }

    /// Says it for one instance.
    pub(super) fn put(&mut self, service: &str, instance: &str, value: Override) {
        self.services.entry(service.to_owned()).or_default().insert(instance.to_owned(), value);
    }

    /// Forgets whoever is not known any more.
    pub(super) fn retain(&mut self, is_known: impl Fn(&str, &str) -> bool) {
        for (service, instances) in &mut self.services {
            instances.retain(|instance, _| is_known(service, instance));
        }
        self.services.retain(|_, instances| !instances.is_empty());
    }
}

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_is_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let state_dir = directory.path().join("gateway");
        let mut overrides = Overrides::load(&state_dir).unwrap();
        assert_eq!(overrides, Overrides::default());
        let drained = Override { draining: Some(true), weight: None };
        overrides.put("web", "a", drained);
        overrides.put("web", "b", Override { draining: None, weight: Some(7) });
        overrides.save(&state_dir).unwrap();
        let mut again = Overrides::load(&state_dir).unwrap();
        assert_eq!((again.of("web", "a"), again.of("web", "c")), (drained, Override::default()));
        again.retain(|_, instance| instance == "b");
        assert_eq!((again.of("web", "a"), again.of("web", "b").weight), (Override::default(), Some(7)));
        std::fs::write(state_dir.join(FILE), "{").unwrap();
        assert!(Overrides::load(&state_dir).unwrap_err().to_string().contains("remove it"));
    }
}
