//! A bpffs and the data planes in it, gone when the test ends.

use std::path::PathBuf;
use std::time::Duration;

use persona_ctl::dataplane::{
    Coexistence, DeliveryDataplane, EdgeDataplane, EdgeOptions, GatewayDataplane, Hook, NodeDataplane, NodeOptions,
    PacketLogging, detach,
};

use super::{gateway_flows, gateway_world};

/// The loopback device: always there, carries no traffic of these tests.
pub(super) const LOOPBACK: u32 = 1;

/// Whether privileged tests can run; says so if not, and fails if they must.
pub(crate) fn is_privileged() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    let effective = u64::from_str_radix(effective.trim(), 16).unwrap();
    // CAP_NET_ADMIN and CAP_SYS_ADMIN.
    let is_privileged = effective >> 12 & 1 == 1 && effective >> 21 & 1 == 1;
    if !is_privileged {
        eprintln!("SKIP: needs CAP_SYS_ADMIN and CAP_NET_ADMIN");
        assert!(std::env::var_os("PERSONA_REQUIRE_PRIVILEGED").is_none(), "privileges are required");
    }
    is_privileged
}

/// A mount point of its own.
pub(crate) struct World {
    directory: Option<tempfile::TempDir>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { directory: Some(tempfile::tempdir().unwrap()) }
    }

    pub(super) fn bpffs(&self) -> PathBuf {
        self.directory.as_ref().unwrap().path().join("bpf")
    }

    pub(crate) fn node(&self) -> NodeDataplane {
        self.open_node(false)
    }

    /// A node whose guard drops every forwarded packet that nobody marked.
    pub(super) fn guarded_node(&self) -> NodeDataplane {
        self.open_node(true)
    }

    /// How the node is opened.
    pub(super) fn node_options(&self) -> NodeOptions {
        NodeOptions {
            bpffs: self.bpffs(),
            uplinks: vec![],
            guard_all_forwarded: false,
            adopt: Duration::ZERO,
            coexist: Coexistence::default(),
            logging: PacketLogging::Off,
        }
    }

    fn open_node(&self, guard_all_forwarded: bool) -> NodeDataplane {
        let options = NodeOptions { guard_all_forwarded, ..self.node_options() };
        NodeDataplane::open(&options).unwrap_or_else(|error| panic!("{}", chain(&error)))
    }

    /// A gateway, and a node that delivers.
    pub(crate) fn gateway_and_delivery(&self) -> (GatewayDataplane, DeliveryDataplane) {
        (gateway_world::open(self), gateway_flows::deliverer(self))
    }

    pub(crate) fn edge(&self) -> EdgeDataplane {
        self.edge_with(PacketLogging::Off)
    }

    /// An edge with or without the programs' log.
    pub(super) fn edge_with(&self, logging: PacketLogging) -> EdgeDataplane {
        let options = EdgeOptions {
            bpffs: self.bpffs(),
            inside: LOOPBACK,
            outside: LOOPBACK,
            hook: Hook::Tc,
            coexist: Coexistence::default(),
            logging,
        };
        EdgeDataplane::open(&options).unwrap_or_else(|error| panic!("{}", chain(&error)))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let detached = detach(&self.bpffs());
        if let Err(error) = detached {
            eprintln!("{}", chain(&error));
            // Leave the mount alone rather than delete through it.
            std::mem::forget(self.directory.take());
        }
    }
}

/// An error with its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
