//! A small internet in network namespaces, in which the real binary plays every role.
//!
//! ```text
//!   w1 ── 10.10.1.0/24 ──┐                       ┌── fra1 .21 ──┐ .11
//!                        n1 .11 ── 192.168.77/24 ┼── fra2 .22 ──┼ .12  203.0.113.0/24 ── router .1 ── internet
//!   w2 ── 10.10.2.0/24 ──┘       manager .1      └── tok1 .31 ──┘ .13                    198.51.100.0/24  .10
//! ```
//!
//! The underlay and the outside segment are bridges in namespaces of their own. The egress pools lie on the outside
//! segment, so ARP on it decides which edge carries what comes back. Everything made is in the ledger first.

mod clock;
mod configs;
mod roles;
mod services;
mod topology;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};

use crate::ctl::Ctl;
use crate::ledger::{Ledger, Undo};
use crate::load::echo::EchoServer;
use crate::netns::Namespace;
use crate::process::Running;

pub use configs::METRICS_ADDRESS;
pub use topology::{
    CONTAINER, EDGES, EdgePlace, EdgeSide, FIRST_NODE, GUEST, LinkState, Namespaces, NodePlace, SECOND_NODE,
    WORKLOAD_RANGES, WORKLOADS, WorkloadPlace,
};

/// The internet host.
pub const INTERNET_ADDRESS: &str = "198.51.100.10";

/// The internet host's IPv6 address, in worlds that have one.
pub const INTERNET_ADDRESS6: &str = "2001:db8:51::10";

/// The UDP port on which the internet host echoes.
pub const ECHO_PORT: u16 = 7777;

/// The node's name.
pub const NODE: &str = "n1";

/// The documents that are applied where the outside is IPv4.
const DOCUMENTS: &str = include_str!("../../fixtures/demo.yaml");

/// The documents that are applied where the outside has both families.
const DOCUMENTS6: &str = include_str!("../../fixtures/ipv6.yaml");

/// Edges are killed again and again, which the manager would otherwise hold against them.
const HOLD_MAX_MS: u32 = 1_000;

/// Worlds made by this process, so that each has namespaces of its own.
static WORLD_COUNT: AtomicU32 = AtomicU32::new(0);

/// The hook that edges are told to use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Hook {
    /// What suits the device: TC on veth.
    #[default]
    Auto,
    /// TC.
    Tc,
    /// XDP, with the offloads of the devices around set so that veth can carry it.
    Xdp,
}

impl Hook {
    /// Its word in an edge's configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Tc => "tc",
            Self::Xdp => "xdp",
        }
    }
}

/// The families that a world's networks have. Workloads have addresses of both anyway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Families {
    /// IPv4 outside and on the underlay.
    #[default]
    Ipv4,
    /// Both outside, over an IPv4 underlay.
    BothOverIpv4,
    /// Both outside, over an underlay without IPv4.
    BothOverIpv6,
}

impl Families {
    /// Where the manager listens.
    pub fn manager_address(self) -> &'static str {
        match self {
            Self::Ipv4 | Self::BothOverIpv4 => "192.168.77.1:7700",
            Self::BothOverIpv6 => "[fd77::1]:7700",
        }
    }

    /// The documents that are applied.
    fn documents(self) -> &'static str {
        match self {
            Self::Ipv4 => DOCUMENTS,
            Self::BothOverIpv4 | Self::BothOverIpv6 => DOCUMENTS6,
        }
    }
}

/// A node that a test has added.
#[derive(Debug)]
pub struct OtherNode {
    /// Where it is.
    pub namespace: Namespace,
    /// Its agent, while it runs.
    pub agent: Option<Running>,
}

/// The world, with its services running and, once started, its roles.
#[derive(Debug)]
pub struct World {
    /// What has to be undone.
    pub ledger: Ledger,
    /// Configurations, states, logs and bpffs mounts.
    pub folder: PathBuf,
    /// The namespaces.
    pub namespaces: Namespaces,
    /// The hook that edges are told to use.
    pub hook: Hook,
    /// The families of its networks.
    pub families: Families,
    /// The manager, while it runs.
    pub manager: Option<Running>,
    /// The agent, while it runs.
    pub agent: Option<Running>,
    /// The edges that run, by name.
    pub edges: BTreeMap<String, Running>,
    /// Workloads beside the usual two, which a test brings; noted before the agent starts.
    pub extra_workloads: Vec<WorkloadPlace>,
    /// The longest time that the manager holds back an edge that comes and goes, milliseconds; noted before it starts.
    pub hold_max_ms: u32,
    /// What a test adds to the agent's configuration; noted before the agent starts.
    pub extra_agent_config: String,
    /// What a test adds to every edge's configuration; noted before edges start.
    pub extra_edge_config: String,
    /// What agents and edges find in their environment; noted before they start.
    pub role_variables: Vec<(&'static str, String)>,
    /// Edges whose next hops, of both families, are another router's; noted before edges start.
    pub other_routers: BTreeMap<&'static str, (&'static str, &'static str)>,
    /// Nodes beside the usual one, by name.
    pub other_nodes: BTreeMap<&'static str, OtherNode>,
    /// The command line.
    pub ctl: Ctl,
    program: PathBuf,
    services: Vec<Running>,
    echoes: Vec<EchoServer>,
}

impl World {
    /// Builds the namespaces of an IPv4 world and starts the internet host's services; no role runs yet.
    pub fn build(ledger: &Ledger, hook: Hook) -> Result<Self> {
        Self::build_with(ledger, hook, Families::Ipv4)
    }

    /// The same with these families.
    pub fn build_with(ledger: &Ledger, hook: Hook, families: Families) -> Result<Self> {
        let program = persona_ctl()?;
        let number = WORLD_COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("pd{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(&prefix);
        ledger.note(Undo::RemoveFolder(folder.clone()));
        std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        let namespaces = Namespaces::build(ledger, &prefix, hook, families)?;
        let ctl = Ctl {
            program: program.display().to_string(),
            namespace: namespaces.underlay.clone(),
            manager: format!("unix:{}", folder.join("manager.state/admin.sock").display()),
        };
        let mut world = Self {
            ledger: ledger.clone(),
            folder,
            namespaces,
            hook,
            families,
            manager: None,
            agent: None,
            edges: BTreeMap::new(),
            extra_workloads: Vec::new(),
            hold_max_ms: HOLD_MAX_MS,
            extra_agent_config: String::new(),
            extra_edge_config: String::new(),
            role_variables: Vec::new(),
            other_routers: BTreeMap::new(),
            other_nodes: BTreeMap::new(),
            ctl,
            program,
            services: Vec::new(),
            echoes: Vec::new(),
        };
        world.start_services()?;
        Ok(world)
    }

    /// The namespace of a workload.
    pub fn workload(&self, name: &str) -> &Namespace {
        self.namespaces.workloads.get(name).expect("steps name workloads of the topology")
    }

    /// Fails if a process that should run has ended by itself.
    pub fn check_processes(&mut self) -> Result<()> {
        let roles = self.manager.iter_mut().chain(self.agent.iter_mut()).chain(self.edges.values_mut());
        let others = self.other_nodes.values_mut().filter_map(|node| node.agent.as_mut());
        roles.chain(others).chain(self.services.iter_mut()).try_for_each(Running::check)
    }

    /// The ends of all logs, for an error that says too little by itself.
    pub fn log_tails(&self) -> String {
        let others = self.other_nodes.values().filter_map(|node| node.agent.as_ref());
        let roles = self.manager.iter().chain(self.agent.iter()).chain(others).chain(self.edges.values());
        roles.map(|role| format!("--- {}\n{}\n", role.log.display(), role.log_tail())).collect()
    }

    /// Leaves everything standing; returns the script that removes it.
    pub fn keep(mut self) -> Result<PathBuf> {
        let script = self.folder.join("remove.sh");
        let roles = self.manager.iter_mut().chain(self.agent.iter_mut()).chain(self.edges.values_mut());
        let others = self.other_nodes.values_mut().filter_map(|node| node.agent.as_mut());
        roles.chain(others).chain(self.services.iter_mut()).for_each(Running::detach);
        std::fs::write(&script, self.ledger.into_script())?;
        Ok(script)
    }

    /// A file or folder of this world.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.log"))
    }
}

impl Drop for World {
    /// Ends the processes before the ledger removes what they stand on.
    fn drop(&mut self) {
        self.agent = None;
        self.other_nodes.clear();
        self.edges.clear();
        self.manager = None;
        self.services.clear();
        self.echoes.clear();
        for failure in self.ledger.undo_all() {
            eprintln!("clean-up: {failure}");
        }
    }
}

/// The binary under test: `PERSONA_CTL`, or the one beside our own executable.
pub fn persona_ctl() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("PERSONA_CTL") {
        return Ok(PathBuf::from(path));
    }
    let own = std::env::current_exe()?;
    let beside = own.ancestors().skip(1).take(2).map(|folder: &Path| folder.join("persona-ctl"));
    match beside.into_iter().find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!("persona-ctl is not found beside {}: build it, or set PERSONA_CTL", own.display()),
    }
}
