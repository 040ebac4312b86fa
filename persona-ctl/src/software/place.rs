//! Where the files of a subject are: the host's root, or that of an instance's first process.

use std::fs::File;
use std::path::PathBuf;

use crate::host::error_chain;
use crate::limits::{InstanceConfig, LimitsConfig, Source, find, first_process};
use crate::privilege;

/// Whose root is looked at.
#[derive(Debug, Clone)]
pub enum Place {
    /// This folder: `/` for the host's.
    Folder(PathBuf),
    /// That of an instance's first process.
    Instance(InstanceConfig),
    /// Nobody knows.
    Unknown,
}

impl Place {
    /// The root folder, or why there is none. Blocks for as long as a runtime takes to answer.
    pub(super) fn root(&self, limits: &LimitsConfig) -> Result<File, String> {
        let instance = match self {
            Self::Folder(folder) => {
                return File::open(folder).map_err(|error| format!("{}: {error}", folder.display()));
            }
            Self::Unknown => {
                return Err("the agent's configuration does not say which instance it is: see container, oci_state, unit or limit_cgroup".to_owned());
            }
            Self::Instance(instance) => instance,
        };
        if matches!(instance.source, Source::Guest(_)) {
            return Err("a guest's packages are seen from inside only".to_owned());
        }
        let found = find(instance, limits).map_err(|error| error_chain(&error))?;
        let pid = first_process(&found.whereabouts.places).ok_or("no process is in its control group")?;
        privilege::open_root(pid).map_err(|error| format!("the root of process {pid}: {error}"))
    }
}
