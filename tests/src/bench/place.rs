//! A place to measure in: a network namespace, a folder with bpffs mounts of its own, gone when this is.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use persona_ctl::dataplane::{
    Coexistence, EdgeDataplane, EdgeOptions, Hook, NodeDataplane, NodeOptions, PacketLogging, detach,
};

use super::measures::Run;
use crate::ledger::{Ledger, Undo};
use crate::netns::{self, Forwarding, Namespace};

/// The loopback device: always there, carries nothing of ours.
pub const LOOPBACK: u32 = 1;

/// The place.
pub struct Place {
    /// Where devices are.
    pub namespace: Namespace,
    folder: PathBuf,
    pins: Vec<PathBuf>,
    ledger: Ledger,
}

impl Place {
    /// Makes it; `name` tells it from others of this run.
    pub fn new(run: &Run<'_>, name: &str) -> Result<Self> {
        let name = format!("pb{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(&name);
        run.ledger.note(Undo::RemoveFolder(folder.clone()));
        std::fs::create_dir_all(&folder)?;
        let namespace = Namespace::create(run.ledger, &name, Forwarding::On)?;
        Ok(Self { namespace, folder, pins: Vec::new(), ledger: run.ledger.clone() })
    }

    /// A file or folder of its own.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A bpffs of its own for a role, mounted from here, so that it goes however the run ends.
    pub(super) fn bpffs(&mut self, name: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        std::fs::create_dir_all(&path)?;
        netns::run("mount", &["-t", "bpf", "bpf", &path.display().to_string()])?;
        self.ledger.note(Undo::Unmount(path.clone()));
        self.pins.push(path.clone());
        Ok(path)
    }

    /// An edge whose programs are loaded and stand at no device that carries anything.
    pub fn edge(&mut self, name: &str) -> Result<EdgeDataplane> {
        self.edge_at(name, (LOOPBACK, LOOPBACK), Hook::Tc)
    }

    /// An edge at an inside and an outside device.
    pub fn edge_at(&mut self, name: &str, (inside, outside): (u32, u32), hook: Hook) -> Result<EdgeDataplane> {
        let options = EdgeOptions {
            bpffs: self.bpffs(name)?,
            inside,
            outside,
            hook,
            coexist: Coexistence::default(),
            logging: PacketLogging::Off,
        };
        Ok(self.namespace.run_inside(|| EdgeDataplane::open(&options))??)
    }

    /// A node with this uplink.
    pub fn node_at(&mut self, name: &str, uplink: u32) -> Result<NodeDataplane> {
        let options = NodeOptions {
            bpffs: self.bpffs(name)?,
            uplinks: vec![uplink],
            guard_all_forwarded: false,
            adopt: Duration::ZERO,
            coexist: Coexistence::default(),
            logging: PacketLogging::Off,
        };
        Ok(self.namespace.run_inside(|| NodeDataplane::open(&options))??)
    }

    /// Runs a function on a thread inside.
    pub fn inside<T: Send>(&self, function: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.namespace.run_inside(function)?
    }

    /// Index of a device inside.
    pub fn ifindex(&self, device: &str) -> Result<u32> {
        let json: serde_json::Value = serde_json::from_str(&self.namespace.ip(&format!("-j link show dev {device}"))?)?;
        match json[0]["ifindex"].as_u64() {
            Some(index) => Ok(index as u32),
            None => bail!("{device} has no index: {json}"),
        }
    }
}

impl Drop for Place {
    /// Only what the pins hold; the ledger removes mounts, namespace and folder.
    fn drop(&mut self) {
        for pin in &self.pins {
            if let Err(error) = detach(pin) {
                eprintln!("clean-up of {}: {error}", pin.display());
            }
        }
    }
}
