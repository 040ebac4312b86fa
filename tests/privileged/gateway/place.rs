//! The namespaces: two networks on bridges, a client, a gateway, three instances, and a node where tunnels lead to one.
//!
//!     client ── outside ── gateway ── inside ── instances (nat) | node ── instances (tunnel)
//!                  └── instances (l2), node's way back (tunnel)

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use persona_ctl::gateway::{InstanceView, ServiceView};
use persona_tests::ctl::patient;
use persona_tests::findings::Findings;
use persona_tests::ledger::{Ledger, Undo};
use persona_tests::netns::{Forwarding, Namespace};
use persona_tests::peers::nginx;
use persona_tests::process::Running;
use persona_tests::world::persona_ctl;

/// How long something may take that is waited for.
const WAIT: Duration = Duration::from_secs(20);

pub(super) const INSTANCES: [&str; 3] = ["i1", "i2", "i3"];

/// Bytes of the file that every instance has.
pub(super) const FILE_BYTES: usize = 24 << 20;

/// How packets reach instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Nat,
    Nat6,
    L2,
    Tunnel,
}

/// The running whole.
pub(super) struct Place {
    pub(super) way: Way,
    pub(super) ledger: Ledger,
    pub(super) folder: PathBuf,
    pub(super) client: Namespace,
    pub(super) gateway: Namespace,
    instances: Vec<Namespace>,
    pub(super) servers: Vec<Running>,
    role: Option<Running>,
    deliverer: Option<Running>,
}

impl Way {
    pub(super) fn vip(self) -> &'static str {
        if self == Self::Nat6 { "fd88::80" } else { "10.88.0.80" }
    }

    pub(super) fn url(self) -> String {
        if self == Self::Nat6 { format!("http://[{}]/", self.vip()) } else { format!("http://{}/", self.vip()) }
    }

    pub(super) fn client_address(self) -> &'static str {
        if self == Self::Nat6 { "fd88::2" } else { "10.88.0.2" }
    }

    fn is_nat(self) -> bool {
        matches!(self, Self::Nat | Self::Nat6)
    }

    fn delivery(self) -> &'static str {
        match self {
            Self::Nat | Self::Nat6 => "nat",
            Self::L2 => "l2",
            Self::Tunnel => "tunnel",
        }
    }

    /// An instance's own address, without its prefix length.
    fn address_of(self, number: usize) -> String {
        match self {
            Self::Nat => format!("10.77.0.{}", 10 + number),
            Self::Nat6 => format!("fd77::{}", 10 + number),
            Self::L2 => format!("10.88.0.{}", 10 + number),
            Self::Tunnel => format!("10.99.{number}.2"),
        }
    }

    /// The port that an instance listens on: its own where the destination is rewritten.
    fn port_of(self) -> u16 {
        if self.is_nat() { 8_080 } else { 80 }
    }
}

impl Place {
    pub(super) fn build(way: Way) -> Result<Self> {
        let ledger = Ledger::default();
        let folder = tempfile::Builder::new().prefix("persona-gateway-").tempdir()?.keep();
        ledger.note(Undo::RemoveFolder(folder.clone()));
        let make = |name: &str, forwarding| {
            Namespace::create(&ledger, &format!("pg{}-{name}", std::process::id()), forwarding)
        };
        let (switch, client) = (make("switch", Forwarding::Off)?, make("client", Forwarding::Off)?);
        let gateway = make("gw", Forwarding::On)?;
        for bridge in ["outside", "inside"] {
            switch.ip(&format!("link add {bridge} type bridge"))?;
            switch.ip(&format!("link set {bridge} up"))?;
        }
        join(&switch, "outside", &client, "c0", &["10.88.0.2/24", "fd88::2/64"])?;
        join(&switch, "outside", &gateway, "out0", &["10.88.0.1/24", "fd88::1/64"])?;
        join(&switch, "inside", &gateway, "in0", &["10.77.0.1/24", "fd77::1/64"])?;
        // Replies that leave directly come from elsewhere than their flow went.
        for namespace in [&client, &gateway] {
            namespace.write_sysctl("net/ipv4/conf/all/rp_filter", "0")?;
        }
        let instances = INSTANCES.iter().map(|name| make(name, Forwarding::Off)).collect::<Result<Vec<Namespace>>>()?;
        let mut place = Self {
            way,
            ledger: ledger.clone(),
            folder,
            client,
            gateway,
            instances,
            servers: Vec::new(),
            role: None,
            deliverer: None,
        };
        match way {
            Way::Nat | Way::Nat6 => place.put_instances_inside(&switch)?,
            Way::L2 => place.put_instances_outside(&switch)?,
            Way::Tunnel => {
                let node = make("node", Forwarding::On)?;
                place.put_instances_behind(&switch, &node)?;
                place.start_delivery(&node)?;
            }
        }
        place.start_servers()?;
        place.start_role()?;
        Ok(place)
    }

    fn put_instances_inside(&self, switch: &Namespace) -> Result<()> {
        for (number, instance) in (1..).zip(&self.instances) {
            let addresses = [format!("10.77.0.{}/24", 10 + number), format!("fd77::{}/64", 10 + number)];
            join(switch, "inside", instance, "e0", &[&addresses[0], &addresses[1]])?;
            instance.ip("route add default via 10.77.0.1")?;
            instance.ip("-6 route add default via fd77::1")?;
        }
        Ok(())
    }

    fn put_instances_outside(&self, switch: &Namespace) -> Result<()> {
        for (number, instance) in (1..).zip(&self.instances) {
            join(switch, "outside", instance, "e0", &[&format!("10.88.0.{}/24", 10 + number)])?;
            // It has the service's address and tells nobody.
            instance.write_sysctl("net/ipv4/conf/all/arp_ignore", "1")?;
            instance.write_sysctl("net/ipv4/conf/all/arp_announce", "2")?;
            instance.add_address("lo", "10.88.0.80/32")?;
        }
        Ok(())
    }

    fn put_instances_behind(&self, switch: &Namespace, node: &Namespace) -> Result<()> {
        join(switch, "inside", node, "up0", &["10.77.0.2/24"])?;
        join(switch, "outside", node, "back0", &["10.88.0.9/24"])?;
        // The way to the instances, for health checks, and the sources of their replies.
        self.gateway.ip("route add 10.99.0.0/16 via 10.77.0.2")?;
        node.write_sysctl("net/ipv4/conf/all/rp_filter", "0")?;
        node.write_sysctl("net/ipv4/conf/default/rp_filter", "0")?;
        for (number, instance) in (1..).zip(&self.instances) {
            let device = format!("w{number}");
            node.link(&device, instance, "e0")?;
            node.write_sysctl(&format!("net/ipv4/conf/{device}/rp_filter"), "0")?;
            node.add_address(&device, &format!("10.99.{number}.1/24"))?;
            instance.add_address("e0", &format!("10.99.{number}.2/24"))?;
            instance.ip(&format!("route add default via 10.99.{number}.1"))?;
            instance.add_address("lo", "10.88.0.80/32")?;
        }
        Ok(())
    }

    fn start_servers(&mut self) -> Result<()> {
        let root = self.folder.join("www");
        std::fs::create_dir_all(root.join("put"))?;
        persona_tests::peers::content::write(&root.join("file"), FILE_BYTES, 7)?;
        for (name, instance) in INSTANCES.iter().zip(&self.instances) {
            let (port, root) = (self.way.port_of(), root.display());
            let servers = format!(
                "  server {{ listen {port}; listen [::]:{port}; keepalive_requests 100000000; client_max_body_size 0;\n    \
                 root {root}; location = / {{ return 200 \"{name} $remote_addr\\n\"; }}\n    \
                 location /put/ {{ dav_methods PUT; }} }}\n"
            );
            let server = nginx::start(&self.ledger, instance, &self.folder, name, &servers, port)?;
            self.servers.push(server);
        }
        Ok(())
    }

    fn start_delivery(&mut self, node: &Namespace) -> Result<()> {
        let instances: String = (1..=INSTANCES.len())
            .map(|number| {
                format!(
                    "[[delivery.instance]]\ntunnel_id = {number}\ndevice = 'w{number}'\naddress = '10.99.{number}.2'\n"
                )
            })
            .collect();
        let text = format!(
            "bpffs = '{0}/bpf-node'\nstate_dir = '{0}/state-node'\nsocket = '{0}/node.sock'\n\
             [delivery]\ndevice = 'up0'\naddress = '10.77.0.2'\ngateways = ['10.77.0.1']\n{instances}",
            self.folder.display()
        );
        std::fs::write(self.folder.join("node.toml"), text)?;
        self.ledger.note(Undo::Unmount(self.folder.join("bpf-node")));
        self.deliverer = Some(self.start("node", node)?);
        Ok(())
    }

    fn start_role(&mut self) -> Result<()> {
        std::fs::write(self.folder.join("gateway.toml"), self.config())?;
        self.ledger.note(Undo::Unmount(self.folder.join("bpf-gateway")));
        self.launch()?;
        self.wait_for("every instance to be well", |it| it.iter().all(|instance| instance.alive)).map(drop)
    }

    /// Starts the gateway's process, also after a kill.
    pub(super) fn launch(&mut self) -> Result<()> {
        self.role = Some(self.start("gateway", &self.gateway)?);
        Ok(())
    }

    /// The gateway's process.
    pub(super) fn role(&mut self) -> Result<&mut Running> {
        self.role.as_mut().context("the gateway runs")
    }

    fn start(&self, name: &str, inside: &Namespace) -> Result<Running> {
        let mut command = inside.command(&persona_ctl()?.display().to_string())?;
        command.arg("gateway").arg("--config").arg(self.folder.join(format!("{name}.toml")));
        Running::start(&self.ledger, name, &self.folder.join(format!("{name}.log")), command)
    }

    fn config(&self) -> String {
        let way = self.way;
        let instances: String = (1..)
            .zip(INSTANCES)
            .map(|(number, name)| {
                let tunnel = if way == Way::Tunnel {
                    format!("node = '10.77.0.2'\ntunnel_id = {number}\n")
                } else {
                    String::new()
                };
                let (address, port) = (way.address_of(number), way.port_of());
                format!("[[service.instance]]\nname = '{name}'\naddress = '{address}'\nport = {port}\n{tunnel}")
            })
            .collect();
        format!(
            "bpffs = '{0}/bpf-gateway'\nstate_dir = '{0}/state'\nsocket = '{0}/gateway.sock'\ndevices = ['out0', 'in0']\n\
             metrics = '127.0.0.1:9602'\n\
             [[service]]\nname = 'web'\naddress = '{1}'\nport = 80\non_link = true\ndelivery = '{2}'\n\
             health = {{ check = 'http', interval_ms = 100, timeout_ms = 500, rise = 2, fall = 2 }}\n{instances}",
            self.folder.display(),
            way.vip(),
            way.delivery(),
        )
    }

    /// Runs `persona-ctl gateway …` and gives what it printed.
    pub(super) fn ctl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.gateway.command(&persona_ctl()?.display().to_string())?;
        command.arg("gateway").args(arguments).arg("--socket").arg(self.folder.join("gateway.sock"));
        let output = command.args(["--output", "json"]).output()?;
        if !output.status.success() {
            bail!("gateway {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The instances as the gateway sees them.
    pub(super) fn instances(&self) -> Result<Vec<InstanceView>> {
        let services: Vec<ServiceView> = serde_json::from_str(&self.ctl(&["list"])?)?;
        services.into_iter().next().map(|service| service.instances).context("there is a service")
    }

    /// Waits until the instances are as wanted; gives them.
    pub(super) fn wait_for(
        &mut self,
        what: &str,
        is_so: impl Fn(&[InstanceView]) -> bool,
    ) -> Result<Vec<InstanceView>> {
        let start = Instant::now();
        loop {
            let found = self.instances();
            match found {
                Ok(instances) if is_so(&instances) => return Ok(instances),
                _ if start.elapsed() < patient(WAIT) => {}
                Ok(instances) => bail!("waited for {what}: {instances:?}"),
                Err(error) => return Err(error.context(format!("waited for {what}; {}", self.log_tails()))),
            }
            self.role()?.check()?;
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The ends of the roles' logs.
    pub(super) fn log_tails(&self) -> String {
        let roles = self.role.iter().chain(&self.deliverer);
        roles.map(|role| format!("--- {}\n{}\n", role.log.display(), role.log_tail())).collect()
    }

    /// Stops everything, takes the data planes away, and judges that nothing is left.
    pub(super) fn take_down(mut self, findings: &mut Findings) -> Result<()> {
        findings.begin("the end");
        for role in self.role.iter_mut().chain(&mut self.deliverer) {
            let stopped = role.stop();
            findings.note(format!("{} stops when it is asked to", role.name), format!("{stopped:?}"), stopped.is_ok());
        }
        let mut planes = vec!["bpf-gateway"];
        planes.extend(self.deliverer.iter().map(|_| "bpf-node"));
        for plane in planes {
            let bpffs = self.folder.join(plane);
            let report = self.gateway.run_inside(|| persona_ctl::dataplane::detach(&bpffs))??;
            let said = format!("{} links, {} maps", report.links.len(), report.maps.len());
            findings.note(format!("detach takes {plane} away"), said, report.unmounted && !report.links.is_empty());
            self.ledger.strike(&Undo::Unmount(bpffs));
        }
        self.servers.clear();
        let failures = self.ledger.undo_all();
        findings.note("nothing is left", failures.join("; "), failures.is_empty());
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        (self.role, self.deliverer) = (None, None);
        self.servers.clear();
        for failure in self.ledger.undo_all() {
            eprintln!("clean-up: {failure}");
        }
    }
}

/// Puts a device with these addresses into a namespace, its other end on a bridge.
fn join(switch: &Namespace, bridge: &str, member: &Namespace, device: &str, addresses: &[&str]) -> Result<()> {
    let short = member.name.rsplit('-').next().unwrap_or_default();
    let port = format!("{short}-{device}");
    switch.link(&port, member, device)?;
    switch.ip(&format!("link set {port} master {bridge}"))?;
    addresses.iter().try_for_each(|address| member.add_address(device, address))
}
