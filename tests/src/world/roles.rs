//! Starting, killing and restarting the roles: the real binary with its real configuration.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use persona_core::wire::api::JoinTokenSecret;

use super::topology::LinkState;
use super::{EDGES, EdgePlace, FIRST_NODE, NODE, NodePlace, OtherNode, WORKLOADS, WorkloadPlace, World};
use crate::ctl::patient;
use crate::ledger::Undo;
use crate::netns::{Forwarding, Namespace, run};
use crate::process::Running;

/// How long the manager may take to answer.
const MANAGER_START_TIME: Duration = Duration::from_secs(30);

impl World {
    /// Starts the manager and waits until it answers.
    pub fn start_manager(&mut self) -> Result<()> {
        let config = self.write("manager.toml", &self.manager_config())?;
        let underlay = self.namespaces.underlay.clone();
        self.manager = Some(self.start_role("manager", "manager", &underlay, &config)?);
        let start = Instant::now();
        while let Err(error) = self.ctl.text(&["status", "--output", "json"]) {
            self.check_processes()?;
            if start.elapsed() > patient(MANAGER_START_TIME) {
                return Err(error.context("the manager does not answer"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Applies the fixture's documents.
    pub fn apply_documents(&self) -> Result<()> {
        self.apply("documents.yaml", self.families.documents())
    }

    /// Applies documents, which are kept in a file of the world's folder.
    pub fn apply(&self, file_name: &str, documents: &str) -> Result<()> {
        let path = self.write(file_name, documents)?;
        self.ctl.text(&["persona", "apply", "-f", &path.display().to_string()]).map(drop)
    }

    /// Joins and starts all edges and the agent.
    pub fn start_edges_and_agent(&mut self) -> Result<()> {
        for place in EDGES {
            let token = self.join_token("edge")?;
            let config = self.write(&format!("{}.toml", place.name), &self.edge_config(&place, &token))?;
            self.mount_bpffs(place.name)?;
            self.start_edge_with(&place, &config)?;
        }
        let token = self.join_token("node")?;
        let workloads = [&WORKLOADS, self.extra_workloads.as_slice()].concat();
        let config = self.agent_config(&FIRST_NODE, &workloads, &token) + &self.extra_agent_config;
        self.write(&format!("{NODE}.toml"), &config)?;
        self.mount_bpffs(NODE)?;
        self.start_agent()
    }

    /// Starts the agent, also after a kill.
    pub fn start_agent(&mut self) -> Result<()> {
        let node = self.namespaces.node.clone();
        self.agent = Some(self.start_role(NODE, "agent", &node, &self.path(&format!("{NODE}.toml")))?);
        Ok(())
    }

    /// Makes another node with workloads of its own, and starts its agent.
    pub fn add_node(&mut self, place: NodePlace, workloads: &[WorkloadPlace]) -> Result<()> {
        let prefix = self.namespaces.node.name.trim_end_matches(NODE).to_owned();
        let make = |name: &str, forwarding| Namespace::create(&self.ledger, &format!("{prefix}{name}"), forwarding);
        let namespace = make(place.name, Forwarding::On)?;
        self.namespaces.connect_node(&namespace, &place, self.families)?;
        let inside =
            workloads.iter().map(|workload| make(workload.name, Forwarding::Off)).collect::<Result<Vec<_>>>()?;
        for (workload, inside) in workloads.iter().zip(inside) {
            self.namespaces.attach(&namespace, workload, &inside)?;
            self.namespaces.workloads.insert(workload.name, inside);
        }
        let token = self.join_token("node")?;
        self.write(&format!("{}.toml", place.name), &self.agent_config(&place, workloads, &token))?;
        self.mount_bpffs(place.name)?;
        self.other_nodes.insert(place.name, OtherNode { namespace, agent: None });
        self.start_other_agent(place.name)
    }

    /// Starts the agent of a node that was added, also after a kill.
    pub fn start_other_agent(&mut self, name: &str) -> Result<()> {
        let node = self.other_nodes.get(name).with_context(|| format!("node {name} was not added"))?;
        let agent = self.start_role(name, "agent", &node.namespace, &self.path(&format!("{name}.toml")))?;
        self.other_nodes.get_mut(name).expect("it was there").agent = Some(agent);
        Ok(())
    }

    /// Connects a workload's namespace with the node by a veth pair, as a CNI would.
    pub fn attach(&self, place: &WorkloadPlace, workload: &Namespace) -> Result<()> {
        self.namespaces.attach(&self.namespaces.node, place, workload)
    }

    /// Makes a tap device for a guest on the node.
    pub fn add_tap(&self, place: &WorkloadPlace) -> Result<()> {
        self.namespaces.add_tap(place)
    }

    /// Kills an edge as a power cut would: the process and both links are gone at once.
    pub fn kill_edge(&mut self, name: &str) -> Result<Instant> {
        let mut edge = self.edges.remove(name).with_context(|| format!("edge {name} does not run"))?;
        let moment = Instant::now();
        self.namespaces.set_edge_links(name, LinkState::Cut)?;
        edge.kill()?;
        Ok(moment)
    }

    /// Brings a killed edge back.
    pub fn revive_edge(&mut self, name: &str) -> Result<()> {
        self.namespaces.set_edge_links(name, LinkState::Whole)?;
        self.start_edge(name)
    }

    /// Kills an edge's process only; its links and pins stay.
    pub fn kill_edge_process(&mut self, name: &str) -> Result<()> {
        self.edges.remove(name).with_context(|| format!("edge {name} does not run"))?.kill()
    }

    /// Starts an edge's process again.
    pub fn start_edge(&mut self, name: &str) -> Result<()> {
        let place = EDGES.into_iter().find(|place| place.name == name).context("no such edge")?;
        self.start_edge_with(&place, &self.path(&format!("{name}.toml")))
    }

    /// Removes what a role left on its host, by its own command.
    pub fn detach_role(&self, name: &str) -> Result<()> {
        let namespace = if name == NODE { &self.namespaces.node } else { &self.namespaces.edges[name] };
        let config = self.path(&format!("{name}.toml"));
        let mut command = namespace.command(&self.program.display().to_string())?;
        let output = command.args(["detach", "--config"]).arg(config).output()?;
        if !output.status.success() {
            bail!("detach of {name} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    /// Where a role pins its maps and links.
    pub fn bpffs(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.bpf"))
    }

    fn start_edge_with(&mut self, place: &EdgePlace, config: &std::path::Path) -> Result<()> {
        let namespace = self.namespaces.edges[place.name].clone();
        let edge = self.start_role(place.name, "edge", &namespace, config)?;
        self.edges.insert(place.name.to_owned(), edge);
        Ok(())
    }

    fn start_role(&self, name: &str, role: &str, inside: &Namespace, config: &std::path::Path) -> Result<Running> {
        let mut command = inside.command(&self.program.display().to_string())?;
        command.arg(role).arg("--config").arg(config);
        if role != "manager" {
            command.envs(self.role_variables.iter().map(|(name, value)| (name, value)));
        }
        Running::start(&self.ledger, name, &self.log_path(name), command)
    }

    fn join_token(&self, role: &str) -> Result<String> {
        let secret: JoinTokenSecret = self.ctl.json(&["token", "create", "--role", role])?;
        Ok(secret.token)
    }

    /// Mounted from here, so that it lives as long as the world and not as long as a role.
    fn mount_bpffs(&self, name: &str) -> Result<()> {
        let path = self.bpffs(name);
        std::fs::create_dir_all(&path)?;
        run("mount", &["-t", "bpf", "bpf", &path.display().to_string()])?;
        self.ledger.note(Undo::Unmount(path));
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path(name);
        std::fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(path)
    }
}
