//! What an administrator of the guest would have written: configurations, documents, and what goes over the shipped units
//! because manager and edge of one host live in network namespaces here.

/// Files by their place: path, mode, text.
pub(super) const FILES: [(&str, u32, &str); 16] = [
    ("opt/trial/place.sh", 0o755, include_str!("place.sh")),
    ("opt/trial/trial.sh", 0o755, include_str!("trial.sh")),
    ("opt/trial/fleet.yaml", 0o644, FLEET),
    ("opt/trial/host.yaml", 0o644, HOST),
    ("etc/persona/agent.toml", 0o644, AGENT),
    ("etc/persona/edge.toml", 0o644, EDGE),
    ("etc/persona/gateway.toml", 0o644, GATEWAY),
    ("etc/systemd/system/worker.service", 0o644, WORKER_UNIT),
    ("etc/systemd/system/daemon.service", 0o644, WORKER_UNIT),
    ("etc/systemd/system/place.service", 0o644, PLACE_UNIT),
    ("etc/systemd/system/trial.service", 0o644, TRIAL_UNIT),
    ("etc/systemd/system/sys-fs-bpf-persona\\x2dedge.mount", 0o644, EDGE_MOUNT),
    ("etc/systemd/system/persona-manager.service.d/place.conf", 0o644, MANAGER_UNIT),
    ("etc/systemd/system/persona-edge.service.d/place.conf", 0o644, EDGE_UNIT),
    ("etc/persona/trial-manager.toml", 0o644, MANAGER),
    ("etc/hostname", 0o644, "trial\n"),
];

/// Units that are enabled from the first boot on, as links: place, target.
pub(super) const LINKS: [(&str, &str); 2] = [
    ("etc/systemd/system/multi-user.target.wants/place.service", "../place.service"),
    ("etc/systemd/system/multi-user.target.wants/trial.service", "../trial.service"),
];

/// Everything takes its time where the processor is emulated.
const MANAGER: &str = r#"
listen = "10.0.0.1:7600"
probe_interval_ms = 500
report_interval_ms = 3_000
silent_after_ms = 60_000
"#;

/// The agent is one of the host's own processes that wear the host's persona.
const AGENT: &str = r#"
name = "n1"
join_token_file = "/etc/persona/node.join"
uplink = "up0"
managed = ["10.10.0.0/24"]

[host]
cgroup = "/system.slice/system-persona.slice"

[[workload]]
name = "web"
device = "veth-web"
address = "10.10.0.2"

[[workload]]
name = "worker"
limit_cgroup = "/system.slice/worker.service"

[[workload]]
name = "daemon"
unit = "daemon.service"
"#;

/// It shares the agent's bpffs, and its host.
const GATEWAY: &str = r#"
devices = ["front0", "back0"]
[[service]]
name = "greeting"
address = "192.0.2.80"
port = 80
[[service.instance]]
name = "one"
address = "10.9.0.2"
port = 8080
"#;

const EDGE: &str = r#"
name = "fra1"
join_token_file = "/etc/persona/edge.join"
bpffs = "/sys/fs/bpf/persona-edge"
group = "frankfurt"
inside = "in0"
outside = "out0"
outside_next_hop = "203.0.113.1"
"#;

const FLEET: &str = r#"
apiVersion: persona/v1
kind: EgressPool
metadata: { name: frankfurt }
spec: { addresses: [203.0.113.64/28], group: frankfurt }
---
apiVersion: persona/v1
kind: EgressPool
metadata: { name: whole }
spec: { addresses: [203.0.113.96/28], group: frankfurt }
---
apiVersion: persona/v1
kind: Persona
metadata: { name: own }
spec: { network: { egress: { pools: [whole], assign: configure }, edges: { group: frankfurt } } }
---
apiVersion: persona/v1
kind: Persona
metadata: { name: small }
spec: { resources: { cpu: { limit: 0.5 }, memory: { max: 64MiB }, pids: 20 }, software: [{ package: systemd }] }
---
apiVersion: persona/v1
kind: Binding
metadata: { name: workers }
spec: { selector: { kind: workload, names: [workload/n1/worker, workload/n1/daemon] }, personas: [small], default: small }
---
apiVersion: persona/v1
kind: Persona
metadata: { name: plain }
spec: { network: { egress: { pools: [frankfurt] }, edges: { group: frankfurt } } }
---
apiVersion: persona/v1
kind: Binding
metadata: { name: webs }
spec: { selector: { kind: workload, names: [workload/n1/web] }, personas: [plain, own], default: plain }
"#;

/// It takes the agent's own way to the manager along.
const HOST: &str = r#"
apiVersion: persona/v1
kind: Binding
metadata: { name: hosts }
spec: { selector: { kind: node }, personas: [plain], default: plain }
"#;

const PLACE_UNIT: &str = "
[Unit]
DefaultDependencies=no
After=local-fs.target sys-fs-bpf-persona\\x2dedge.mount
Before=network-pre.target persona-guard.service
Wants=network-pre.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/opt/trial/place.sh
[Install]
WantedBy=multi-user.target
";

const TRIAL_UNIT: &str = "
[Unit]
After=multi-user.target
[Service]
ExecStart=/opt/trial/trial.sh
";

/// A service with limits of its own, which a persona narrows: one through its control group, another one through systemd.
const WORKER_UNIT: &str = "
[Service]
ExecStart=/bin/sleep infinity
CPUWeight=100
MemoryMax=200M
TasksMax=100
";

const EDGE_MOUNT: &str = "
[Unit]
DefaultDependencies=no
Before=local-fs.target
[Mount]
What=bpf
Where=/sys/fs/bpf/persona-edge
Type=bpf
";

/// The shipped configuration stays where it is, a conffile; and nobody waits a minute for the watchdog.
const MANAGER_UNIT: &str = "
[Unit]
After=place.service
[Service]
NetworkNamespacePath=/run/netns/manager
ExecStart=
ExecStart=persona-ctl manager --config /etc/persona/trial-manager.toml
WatchdogSec=15s
";

const EDGE_UNIT: &str = "
[Unit]
After=place.service
Requires=sys-fs-bpf-persona\\x2dedge.mount
[Service]
NetworkNamespacePath=/run/netns/edge
ReadWritePaths=/sys/fs/bpf/persona-edge
";
