//! What may be asked for: everything by this process itself, what the configuration names by another one.

use std::io;
use std::path::{Path, PathBuf};

use crate::agent::AgentFile;
use crate::config;
use crate::limits::Source;

/// Where named namespaces are: iproute2's and Docker's.
pub(super) const NAMED: [&str; 2] = ["/run/netns", "/run/docker/netns"];

/// How far the verbs reach.
#[derive(Debug, Clone)]
pub enum Bounds {
    /// As far as this process's own rights do: it asks itself.
    Own,
    /// To what an agent's configuration file names. It is read anew each time: it is root's, and may change.
    Configured(PathBuf),
}

/// A verb that is not allowed.
#[derive(Debug, thiserror::Error)]
#[error("refused: {0}")]
pub(super) struct Refused(pub(super) String);

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> Self {
        Self::new(io::ErrorKind::PermissionDenied, refused)
    }
}

impl Bounds {
    pub(super) fn is_own(&self) -> bool {
        matches!(self, Self::Own)
    }

    /// Refuses what the configuration does not say.
    pub(super) fn require(&self, what: &str, says: impl FnOnce(&AgentFile) -> bool) -> io::Result<()> {
        let Self::Configured(path) = self else { return Ok(()) };
        let file: AgentFile = config::load(path).map_err(io::Error::other)?;
        if says(&file) {
            return Ok(());
        }
        Err(Refused(format!("{what} is not in {}", path.display())).into())
    }

    /// Refuses what is written in no way that would be right.
    pub(super) fn ensure(&self, is_right: bool, what: impl FnOnce() -> String) -> io::Result<()> {
        if self.is_own() || is_right { Ok(()) } else { Err(Refused(what()).into()) }
    }

    /// A namespace's file: a process's, a named one, or one of the configuration.
    pub(super) fn require_namespace(&self, path: &Path) -> io::Result<()> {
        if is_process_namespace(path) || is_named_namespace(path) {
            return Ok(());
        }
        let says = |file: &AgentFile| file.workload.iter().any(|workload| workload.netns.as_deref() == Some(path));
        self.require(&format!("the namespace {}", path.display()), says)
    }

    pub(super) fn require_source(&self, what: &str, source: &Source) -> io::Result<()> {
        self.require(what, |file| {
            let mut sources = file.workload.iter().filter_map(|workload| Some(workload.instance()?.source));
            sources.any(|known| known == *source)
        })
    }

    pub(super) fn require_policy_file(&self, path: &Path) -> io::Result<()> {
        let says = |file: &AgentFile| {
            let workloads = file.workload.iter().map(|workload| workload.gai_conf.as_deref());
            workloads.chain([file.host.gai_conf.as_deref()]).any(|known| known == Some(path))
        };
        self.require(&format!("the policy file {}", path.display()), says)
    }
}

/// `/proc/PID/ns/net`, written just so.
pub(super) fn is_process_namespace(path: &Path) -> bool {
    let text = path.to_str().and_then(|text| text.strip_prefix("/proc/")?.strip_suffix("/ns/net"));
    text.is_some_and(|pid| !pid.is_empty() && pid.len() <= 10 && pid.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A name right in a folder of named namespaces.
pub(super) fn is_named_namespace(path: &Path) -> bool {
    let is_in = |folder: &str| {
        let rest = path.to_str().and_then(|text| text.strip_prefix(folder)?.strip_prefix('/'));
        rest.is_some_and(|name| !name.is_empty() && !name.contains('/') && name != "." && name != "..")
    };
    NAMED.into_iter().any(is_in)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_lead_to_namespaces_by_their_place_need_no_word_of_the_configuration() {
        for (path, expected) in [
            ("/proc/17/ns/net", true),
            ("/run/netns/web", true),
            ("/run/docker/netns/1a2b", true),
            ("/proc/17/ns/mnt", false),
            ("/proc/../etc/shadow/ns/net", false),
            ("/proc/self/ns/net", false),
            ("/proc//ns/net", false),
            ("/run/netns/../../etc/shadow", false),
            ("/run/netns/..", false),
            ("/run/netns/", false),
            ("/run/netnsx/web", false),
            ("run/netns/web", false),
        ] {
            let path = Path::new(path);
            assert_eq!(is_process_namespace(path) || is_named_namespace(path), expected, "{}", path.display());
        }
    }
}
