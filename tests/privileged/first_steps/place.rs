//! What the page takes for granted: hosts with root and SSH between them, an underlay, an outside with a router, and a server
//! out there that answers with the address that it sees.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use persona_tests::hosts::Host;
use persona_tests::ledger::{Ledger, Undo};
use persona_tests::netns::{Forwarding, Namespace, run};
use persona_tests::peers::nginx;
use persona_tests::process::Running;

/// The hosts of the page's picture: name, address.
const HOSTS: [(&str, &str); 8] = [
    ("desk", "10.0.0.100"),
    ("db", "10.0.0.5"),
    ("m1", "10.0.0.1"),
    ("m2", "10.0.0.2"),
    ("fra1", "10.0.0.21"),
    ("n1", "10.0.0.11"),
    ("n2", "10.0.0.12"),
    ("n3", "10.0.0.13"),
];

/// The host with an outside, and its address there.
const EDGE: (&str, &str) = ("fra1", "203.0.113.11/24");

const ROUTER: &str = "203.0.113.1/24";

/// The server out there answers with who asks; on another port with the port too.
const SERVER: &str = "198.51.100.10/32";
pub(super) const SERVER_OF_PORTS: &str = "http://198.51.100.10:81/";
const SERVES: &str = "  default_type text/plain;
  server { listen 80; location / { return 200 \"$remote_addr\\n\"; } }
  server { listen 81; location / { return 200 \"$remote_addr $remote_port\\n\"; } }";

/// One key lets everybody in everywhere: the page says that the desk and the hosts reach each other.
const ACCEPT_KEYS: &str = "
    mkdir -p -m 700 .ssh
    install -m 600 id_ed25519 .ssh/id_ed25519
    cp id_ed25519.pub .ssh/authorized_keys
    echo 'StrictHostKeyChecking accept-new' > .ssh/config";

/// All of it.
pub(super) struct Place {
    pub(super) hosts: BTreeMap<&'static str, Host>,
    ledger: Ledger,
    server: Option<Running>,
}

impl Place {
    /// Builds it and boots the hosts, all at once.
    pub(super) fn build(package: &Path) -> Result<Self> {
        let ledger = Ledger::default();
        let mut place = Self { hosts: BTreeMap::new(), ledger: ledger.clone(), server: None };
        let prefix = format!("pf{}", std::process::id());
        let folder = std::env::temp_dir().join(&prefix);
        ledger.note(Undo::RemoveFolder(folder.clone()));
        std::fs::create_dir(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        let keys = make_keys(&folder)?;
        let network = Network::build(&ledger, &prefix)?;
        place.server = Some(nginx::start(&ledger, &network.internet, &folder, "nginx", SERVES, 80)?);
        let files = [package, &keys[0], &keys[1]];
        for (name, _) in HOSTS {
            let host = Host::start(&ledger, &folder, name, &network.hosts[name], &files)?;
            place.hosts.insert(name, host);
        }
        for host in place.hosts.values_mut() {
            host.wait_until_up()?;
            host.text(ACCEPT_KEYS)?;
        }
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.hosts.clear();
        self.server = None;
        for failure in self.ledger.undo_all() {
            eprintln!("clean-up: {failure}");
        }
    }
}

fn make_keys(folder: &Path) -> Result<[PathBuf; 2]> {
    let key = folder.join("id_ed25519");
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &key.display().to_string()])?;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600))?;
    Ok([key.clone(), key.with_extension("pub")])
}

struct Network {
    hosts: BTreeMap<&'static str, Namespace>,
    internet: Namespace,
}

impl Network {
    fn build(ledger: &Ledger, prefix: &str) -> Result<Self> {
        let make = |name: &str| Namespace::create(ledger, &format!("{prefix}-{name}"), Forwarding::Off);
        let [underlay, outside] = [make_segment(&make, "underlay")?, make_segment(&make, "outside")?];
        let mut hosts = BTreeMap::new();
        for (name, address) in HOSTS {
            let host = make(name)?;
            connect(&host, "eth0", &underlay, name, &format!("{address}/24"))?;
            hosts.insert(name, host);
        }
        connect(&hosts[EDGE.0], "eth1", &outside, EDGE.0, EDGE.1)?;
        let internet = make("internet")?;
        connect(&internet, "eth0", &outside, "router", ROUTER)?;
        internet.add_address("lo", SERVER)?;
        Ok(Self { hosts, internet })
    }
}

fn make_segment(make: &impl Fn(&str) -> Result<Namespace>, name: &str) -> Result<Namespace> {
    let segment = make(name)?;
    segment.ip("link add br0 type bridge forward_delay 0")?;
    segment.ip("link set br0 up")?;
    Ok(segment)
}

fn connect(host: &Namespace, device: &str, segment: &Namespace, port: &str, address: &str) -> Result<()> {
    host.link(device, segment, port)?;
    segment.ip(&format!("link set {port} master br0"))?;
    host.add_address(device, address)
}
