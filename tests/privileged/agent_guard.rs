//! The guard alone: a workload that starts while no agent runs sends nothing out, in either family.

use std::net::UdpSocket;
use std::time::Duration;

use persona_tests::ledger::{Ledger, Undo};
use persona_tests::netns::{Forwarding, Namespace, run};
use persona_tests::world::persona_ctl;

/// Three namespaces in a row: a workload, the node that routes for it, and somebody outside who listens.
struct Row {
    workload: Namespace,
    node: Namespace,
    outside: Namespace,
}

impl Row {
    fn build(ledger: &Ledger) -> Self {
        let prefix = format!("pg{}", std::process::id());
        let make = |name: &str, forwarding| Namespace::create(ledger, &format!("{prefix}-{name}"), forwarding).unwrap();
        let row = Self {
            workload: make("w", Forwarding::Off),
            node: make("n", Forwarding::On),
            outside: make("o", Forwarding::Off),
        };
        row.node.write_sysctl("net/ipv6/conf/all/forwarding", "1").unwrap();
        row.node.link("up0", &row.outside, "eth0").unwrap();
        row.node.add_address("up0", "192.0.2.1/24").unwrap();
        row.node.ip("address add 2001:db8::1/64 dev up0 nodad").unwrap();
        row.outside.add_address("eth0", "192.0.2.2/24").unwrap();
        row.outside.ip("address add 2001:db8::2/64 dev eth0 nodad").unwrap();
        row
    }

    /// A container that nobody has told Persona of, as a runtime would start it.
    fn start_workload(&self, device: &str, network: u8) {
        self.workload.link("eth0", &self.node, device).unwrap();
        self.workload.add_address("eth0", &format!("10.9.{network}.2/24")).unwrap();
        self.workload.ip(&format!("address add fd00:9:{network}::2/64 dev eth0 nodad")).unwrap();
        self.node.add_address(device, &format!("10.9.{network}.1/24")).unwrap();
        self.node.ip(&format!("address add fd00:9:{network}::1/64 dev {device} nodad")).unwrap();
        self.workload.ip(&format!("route add default via 10.9.{network}.1")).unwrap();
        self.workload.ip(&format!("route add default via fd00:9:{network}::1")).unwrap();
    }

    /// Whether a datagram from one namespace arrives outside.
    fn arrives(&self, from: &Namespace, to: &str) -> bool {
        let bind = || UdpSocket::bind((to, 9_000)).unwrap();
        let listener = self.outside.run_inside(bind).unwrap();
        listener.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let any = if to.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
        let send = || {
            let socket = UdpSocket::bind(any).unwrap();
            for _attempt in 0..3 {
                // A refused send is as good as one that does not arrive.
                let _ = socket.send_to(b"x", (to, 9_000));
                std::thread::sleep(Duration::from_millis(50));
            }
        };
        from.run_inside(send).unwrap();
        listener.recv(&mut [0; 8]).is_ok()
    }
}

fn ctl(node: &Namespace, arguments: &[&str]) -> String {
    let mut command = node.command(&persona_ctl().unwrap().display().to_string()).unwrap();
    let output = command.args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_workload_that_starts_while_no_agent_runs_sends_nothing_out() {
    let ledger = Ledger::default();
    let row = Row::build(&ledger);
    let folder = tempfile::tempdir().unwrap();
    let bpffs = folder.path().join("bpf");
    std::fs::create_dir(&bpffs).unwrap();
    run("mount", &["-t", "bpf", "bpf", &bpffs.display().to_string()]).unwrap();
    ledger.note(Undo::Unmount(bpffs.clone()));
    let config = folder.path().join("agent.toml");
    let text =
        format!("uplink = \"up0\"\nbpffs = \"{}\"\nmanaged = [\"10.9.0.0/16\", \"fd00:9::/32\"]\n", bpffs.display());
    std::fs::write(&config, text).unwrap();
    let config = config.display().to_string();
    let families = ["192.0.2.2", "2001:db8::2"];
    row.start_workload("veth1", 1);
    for to in families {
        assert!(
            row.arrives(&row.workload, to),
            "without the guard packets to {to} leave: else this test shows nothing"
        );
    }

    let told = ctl(&row.node, &["guard", "--config", &config]);
    assert!(told.contains("10.9.0.0/16") && told.contains("fd00:9::/32"), "{told}");
    row.workload.ip("link del eth0").unwrap();
    row.start_workload("veth2", 2);
    for to in families {
        assert!(!row.arrives(&row.workload, to), "a container that started after the guard reached {to}");
        assert!(row.arrives(&row.node, to), "the host itself reaches {to}");
    }
    let again = ctl(&row.node, &["guard", "--config", &config, "--output", "json"]);
    assert!(again.contains("\"wasInForce\": false"), "{again}");
    assert!(!row.arrives(&row.workload, families[0]), "a second start changes nothing");

    ctl(&row.node, &["detach", "--config", &config]);
    assert!(row.arrives(&row.workload, families[0]), "detach leaves the host as it was");
    assert_eq!(ledger.undo_all(), Vec::<String>::new());
}

#[test]
fn an_uplink_that_does_not_appear_is_named_with_what_is_there() {
    let ledger = Ledger::default();
    let node = Namespace::create(&ledger, &format!("pg{}-x", std::process::id()), Forwarding::Off).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("agent.toml");
    std::fs::write(&config, "uplink = \"eth7\"\nguard = \"all-forwarded\"\n").unwrap();
    let mut command = node.command(&persona_ctl().unwrap().display().to_string()).unwrap();
    let output = command.args(["guard", "--wait", "1", "--config"]).arg(&config).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains("eth7") && told.contains("lo"), "{told}");
    assert_eq!(ledger.undo_all(), Vec::<String>::new());
}
