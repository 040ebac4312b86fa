//! Two edges and a node whose underlay and outside are IPv6 only: next hops are watched by neighbour discovery, the pool's next hop
//! is announced and taken over, and devices that vanish, return and are renamed are followed.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use persona_core::wire::api::{EdgeView, JoinTokenSecret};
use persona_tests::ctl::Ctl;
use persona_tests::ledger::{Ledger, Undo};
use persona_tests::load::capture::Capture;
use persona_tests::netns::{Forwarding, Namespace, run};
use persona_tests::process::Running;
use persona_tests::world::persona_ctl;

use super::may_run;

const MANAGER: &str = "https://[fd77::1]:7700";
/// What the outside routes the pool to.
const NEXT_HOP: &str = "2001:db8:77::f";
const POOL: &str = "
apiVersion: persona/v1
kind: EgressPool
metadata: { name: six }
spec: { addresses: ['2001:db8:f00::/48'], nextHop6: '2001:db8:77::f', group: six, location: { country: DE, city: Frankfurt, latitude: 50.11, longitude: 8.68 } }
";

/// How long everybody may take to notice.
const NOTICE_TIME: Duration = Duration::from_secs(20);
/// How long an edge may take to be back in service: the manager holds one that relapses for longer each time.
const RETURN_TIME: Duration = Duration::from_secs(90);

/// Longer than an edge announces what it took over.
const ANNOUNCING_TIME: Duration = Duration::from_secs(2);

/// Everything, removed when it is dropped.
struct Six {
    ledger: Ledger,
    folder: PathBuf,
    underlay: Namespace,
    outside: Namespace,
    router: Namespace,
    node: Namespace,
    edges: [Namespace; 2],
    ctl: Ctl,
    running: Vec<Running>,
}

#[test]
fn edges_serve_where_there_is_no_ipv4() {
    if !may_run() {
        return;
    }
    let mut six = Six::build().unwrap();
    let outcome = six.start().and_then(|()| check(&six));
    let logs: String = six.running.iter().map(|role| format!("--- {}\n{}\n", role.name, role.log_tail())).collect();
    outcome.unwrap_or_else(|error| panic!("{error:#}\n{logs}"));
}

fn check(six: &Six) -> Result<()> {
    let owner = six.wait_for_owner(None)?;
    six.wait_for_mac(owner).context("the owner announces the next hop at the start")?;
    let other = 1 - owner;

    let announcements = six.capture("announced", "icmp6 and ip6[40] == 136 and ip6 dst host ff02::1")?;
    six.cut(owner, "down")?;
    assert_eq!(six.wait_for_owner(Some(owner))?, other);
    six.wait_for_mac(other).context("a take-over is announced")?;
    six.cut(owner, "up")?;
    six.wait_for_owner(Some(other)).context("it is given back")?;
    six.wait_for_mac(owner)?;
    // The last of the announcements is a second after the first.
    std::thread::sleep(ANNOUNCING_TIME);
    six.check_announced(&announcements.finish_framed()?)?;

    six.edges[owner].ip("link set out0 down")?;
    six.edges[owner].ip("link set out0 name wan9")?;
    six.edges[owner].ip("link set wan9 up")?;
    six.set_outside_address(owner, "wan9")?;
    six.cut(other, "down")?;
    six.wait_for_owner(Some(other)).context("an edge whose device was renamed goes on")?;

    six.edges[owner].ip("link del wan9")?;
    six.connect_outside(owner)?;
    six.wait_for_mac(owner).context("a device made anew is followed, and the next hop announced from it")?;
    six.cut(other, "up")
}

impl Six {
    fn build() -> Result<Self> {
        let ledger = Ledger::default();
        let prefix = format!("p6{}", std::process::id());
        let folder = std::env::temp_dir().join(&prefix);
        ledger.note(Undo::RemoveFolder(folder.clone()));
        std::fs::create_dir_all(&folder)?;
        let make = |name: &str| Namespace::create(&ledger, &format!("{prefix}-{name}"), Forwarding::Off);
        let (underlay, outside, router, node) = (make("underlay")?, make("outside")?, make("router")?, make("n1")?);
        let edges = [make("e0")?, make("e1")?];
        for bridge in [&underlay, &outside] {
            bridge.ip("link add br0 type bridge forward_delay 0")?;
            bridge.ip("link set br0 up")?;
        }
        underlay.add_address("br0", "fd77::1/64")?;
        let program = persona_ctl()?.display().to_string();
        let ctl = Ctl {
            program,
            namespace: underlay.clone(),
            manager: format!("unix:{}/manager.state/admin.sock", folder.display()),
        };
        let six = Self { ledger, folder, underlay, outside, router, node, edges, ctl, running: Vec::new() };
        six.node.link("up0", &six.underlay, "n1")?;
        six.underlay.ip("link set n1 master br0")?;
        six.node.add_address("up0", "fd77::30/64")?;
        six.router.link("seg0", &six.outside, "router")?;
        six.outside.ip("link set router master br0")?;
        six.router.add_address("seg0", "2001:db8:77::1/64")?;
        // Unsolicited advertisements change an entry that is there; they make none (RFC 4861 §7.2.5).
        six.router.ip(&format!("neigh add {NEXT_HOP} lladdr 02:00:00:00:00:01 dev seg0 nud stale"))?;
        for edge in 0..2 {
            six.edges[edge].link("in0", &six.underlay, &format!("e{edge}"))?;
            six.underlay.ip(&format!("link set e{edge} master br0"))?;
            six.edges[edge].add_address("in0", &format!("fd77::2{edge}/64"))?;
            six.connect_outside(edge)?;
        }
        Ok(six)
    }

    fn connect_outside(&self, edge: usize) -> Result<()> {
        self.edges[edge].link("out0", &self.outside, &format!("e{edge}"))?;
        self.outside.ip(&format!("link set e{edge} master br0"))?;
        self.set_outside_address(edge, "out0")
    }

    /// Setting a device down takes its IPv6 addresses away.
    fn set_outside_address(&self, edge: usize, device: &str) -> Result<()> {
        self.edges[edge].add_address(device, &format!("2001:db8:77::1{edge}/64"))
    }

    fn start(&mut self) -> Result<()> {
        let store = self.folder.join("manager.sqlite");
        let config = format!("listen = \"[fd77::1]:7700\"\nstore = \"{}\"\n", store.display());
        let underlay = self.underlay.clone();
        self.start_role("manager", "manager", &underlay, &config)?;
        let deadline = Instant::now() + NOTICE_TIME;
        while let Err(error) = self.ctl.text(&["status"]) {
            if Instant::now() > deadline {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let documents = self.folder.join("pool.yaml");
        std::fs::write(&documents, POOL)?;
        self.ctl.text(&["persona", "apply", "-f", &documents.display().to_string()])?;
        for edge in 0..2 {
            let name = format!("e{edge}");
            let devices =
                "group = \"six\"\ninside = \"in0\"\noutside = \"out0\"\noutside_next_hop6 = \"2001:db8:77::1\"\n";
            let config = self.common_config(&name, "edge")? + devices;
            let inside = self.edges[edge].clone();
            self.start_role(&name, "edge", &inside, &config)?;
        }
        let (config, inside) = (self.common_config("n1", "node")? + "uplink = \"up0\"\n", self.node.clone());
        self.start_role("n1", "agent", &inside, &config)
    }

    fn common_config(&self, name: &str, role: &str) -> Result<String> {
        let secret: JoinTokenSecret = self.ctl.json(&["token", "create", "--role", role])?;
        let (state, bpffs) = (self.folder.join(format!("{name}.state")), self.folder.join(format!("{name}.bpf")));
        std::fs::create_dir_all(&bpffs)?;
        run("mount", &["-t", "bpf", "bpf", &bpffs.display().to_string()])?;
        self.ledger.note(Undo::Unmount(bpffs.clone()));
        Ok(format!(
            "name = \"{name}\"\nmanager = \"{MANAGER}\"\njoin_token = \"{}\"\nstate_dir = \"{}\"\nbpffs = \"{}\"\n",
            secret.token,
            state.display(),
            bpffs.display()
        ))
    }

    fn start_role(&mut self, name: &str, role: &str, inside: &Namespace, config: &str) -> Result<()> {
        let path = self.folder.join(format!("{name}.toml"));
        std::fs::write(&path, config)?;
        let mut command = inside.command(&self.ctl.program)?;
        command.arg(role).arg("--config").arg(&path);
        let log = self.folder.join(format!("{name}.log"));
        self.running.push(Running::start(&self.ledger, name, &log, command)?);
        Ok(())
    }

    fn capture(&self, name: &str, filter: &str) -> Result<Capture> {
        Capture::start_in((&self.ledger, &self.folder), name, &self.router, "seg0", filter)
    }

    /// Both edges have told all nodes of the link, more than once, that the next hop is at their own hardware address: unsolicited
    /// advertisements that override what others have in mind (RFC 4861 §7.2.6).
    fn check_announced(&self, frames: &[String]) -> Result<()> {
        for edge in 0..2 {
            let mac = self.mac(edge)?;
            let is_own = |frame: &&String| {
                frame.contains(&format!("{mac} > 33:33:00:00:00:01"))
                    && frame.contains(&format!("tgt is {NEXT_HOP}"))
                    && frame.contains("override")
                    && !frame.contains("solicited")
            };
            let count = frames.iter().filter(is_own).count();
            ensure!(count >= 2, "e{edge} at {mac} announced {NEXT_HOP} {count} times: {frames:#?}");
        }
        Ok(())
    }

    fn mac(&self, edge: usize) -> Result<String> {
        let links: serde_json::Value = serde_json::from_str(&self.edges[edge].ip("-j link show dev out0")?)?;
        links[0]["address"].as_str().map(str::to_owned).context("a veth has an address")
    }

    fn cut(&self, edge: usize, word: &str) -> Result<()> {
        self.underlay.ip(&format!("link set e{edge} {word}"))?;
        self.outside.ip(&format!("link set e{edge} {word}")).map(drop)
    }

    /// Waits until exactly one edge but `except` says that it answers for the next hop; what `except` said last does not
    /// count.
    fn wait_for_owner(&self, except: Option<usize>) -> Result<usize> {
        let deadline = Instant::now() + RETURN_TIME;
        loop {
            let edges: Vec<EdgeView> = self.ctl.list(&["edge", "list"])?;
            let next_hop: std::net::IpAddr = NEXT_HOP.parse()?;
            let owns = |edge: &usize| {
                let name = format!("e{edge}");
                edges.iter().any(|view| view.name.as_str() == name && view.owned.contains(&next_hop))
            };
            let owners: Vec<usize> = (0..2).filter(|edge| except != Some(*edge)).filter(owns).collect();
            if let [owner] = owners[..] {
                return Ok(owner);
            }
            if Instant::now() > deadline {
                bail!("nobody, or more than one, answers for {NEXT_HOP}: {edges:?}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until the router has the edge's hardware address for the next hop.
    fn wait_for_mac(&self, edge: usize) -> Result<()> {
        let deadline = Instant::now() + RETURN_TIME;
        loop {
            let mac = self.mac(edge)?;
            let entry = self.router.ip(&format!("neigh show {NEXT_HOP} dev seg0"))?;
            if entry.contains(&mac) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("the router has {entry:?} where {mac} is meant");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Six {
    fn drop(&mut self) {
        self.running.clear();
        for failure in self.ledger.undo_all() {
            eprintln!("clean-up: {failure}");
        }
    }
}
