//! The real binary against a real manager, with one node and two edges that acknowledge whatever they are told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;

use persona_core::ids::Generation;
use persona_core::wire::agent::{EdgeHealth, Register, Role, WorkloadReport};
use persona_core::wire::api::{AssignmentView, EdgeView, Explanation, LeaseView, NewJoinToken, NodeView};
use persona_ctl::client::ApiClient;
use persona_ctl::manager_link::{self, LinkConfig};
use tokio_util::sync::CancellationToken;

mod world;

const DOCUMENTS: &str = "
apiVersion: persona/v1
kind: EgressPool
metadata: { name: fra }
spec: { addresses: [198.51.100.0/30], group: frankfurt, location: { country: DE, city: Frankfurt } }
---
apiVersion: persona/v1
kind: EgressPool
metadata: { name: tyo }
spec: { addresses: [203.0.113.0/30], group: tokyo }
---
apiVersion: persona/v1
kind: Persona
metadata: { name: frankfurt }
spec:
  network: { egress: { pools: [fra] } }
  qos: { egressRate: 50mbit }
---
apiVersion: persona/v1
kind: Persona
metadata: { name: tokyo }
spec:
  capabilities: [low-latency]
  network: { egress: { pools: [tyo] }, mtu: 1300 }
---
apiVersion: persona/v1
kind: Binding
metadata: { name: everyone }
spec:
  selector: { kind: workload }
  personas: [frankfurt, tokyo]
  default: frankfurt
";

/// The binary, told where the manager is.
struct Ctl {
    manager: String,
}

impl Ctl {
    async fn run(&self, line: &str) -> Output {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_persona-ctl"));
        command.env("PERSONA_MANAGER", &self.manager).args(line.split(' '));
        command.output().await.expect("the binary starts")
    }

    async fn text(&self, line: &str) -> String {
        let output = self.run(line).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    async fn json<T: serde::de::DeserializeOwned>(&self, line: &str) -> T {
        let text = self.text(&format!("{line} --output json")).await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{line}: {error}: {text}"))
    }

    /// Exit code and standard error of a command that must fail.
    async fn refusal(&self, line: &str) -> (Option<i32>, String) {
        let output = self.run(line).await;
        assert!(output.stdout.is_empty(), "{line}: errors belong on standard error");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Joins a node or an edge, which from then on acknowledges every generation.
async fn join(client: &ApiClient, dir: &Path, role: Role, name: &str, group: Option<&str>, stop: &CancellationToken) {
    let wish = NewJoinToken { role, name: Some(name.to_owned()), uses: 1, ttl_ms: 60_000, labels: BTreeMap::new() };
    let token = client.create_join_token(&wish).await.expect("a token is made").token;
    let last: u8 = name.bytes().fold(0, u8::wrapping_add);
    let register = Register {
        token: None,
        role,
        name: name.to_owned(),
        csr: String::new(),
        address: [10, 0, 0, last].into(),
        group: group.map(|group| group.parse().expect("a group's name")),
        capabilities: Vec::new(),
        capacity: None,
        labels: BTreeMap::new(),
        version: "test".to_owned(),
    };
    let config = LinkConfig { managers: Vec::new(), join_token: token, state_dir: dir.join(name), register };
    let link = manager_link::start(config, stop).expect("the link starts");
    tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
        let mut desired = link.desired.clone();
        link.report_now(|outbox| match role {
            Role::Node => outbox.set_workloads(vec![web()]),
            Role::Edge => outbox.report.outside_alive = Some(true),
        });
        while desired.changed().await.is_ok() {
            let generation = desired.borrow_and_update().generation;
            link.report_now(|outbox| {
                outbox.report.applied = generation;
                if role == Role::Node {
                    outbox.report.edges = Some(vec![healthy("fra1", generation), healthy("tyo1", generation)]);
                }
            });
        }
    }));
}

fn web() -> WorkloadReport {
    WorkloadReport {
        name: "web".parse().expect("a workload's name"),
        device: "veth0".to_owned(),
        address: Some([10, 10, 0, 2].into()),
        prefix6: None,
        kind: Default::default(),
        labels: BTreeMap::new(),
        attached: true,
    }
}

fn healthy(edge: &str, generation: Generation) -> EdgeHealth {
    let edge = edge.parse().expect("an edge's name");
    EdgeHealth { edge, alive: true, rtt_us: Some(900), jitter_us: Some(50), loss: 0.0, generation }
}

#[test]
fn a_day_at_the_command_line() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let documents: PathBuf = dir.path().join("documents.yaml");
    std::fs::write(&documents, DOCUMENTS).expect("a file can be written");
    world::with_manager(|manager| async move {
        let stop = CancellationToken::new();
        let client = ApiClient::new(&manager).expect("a manager's address makes a URL");
        let ctl = Ctl { manager: manager.clone() };
        let file = documents.display();

        let applied = ctl.text(&format!("persona apply -f {file}")).await;
        assert_eq!(applied.matches("created").count(), 5, "{applied}");
        assert!(ctl.text(&format!("persona diff -f {file}")).await.matches("say the same").count() == 5);
        for (line, code, told) in [
            ("persona diff frankfurt@1 frankfurt", 0, "say the same"),
            ("persona diff frankfurt@1 tokyo@1", 1, "spec.network.mtu"),
            ("persona diff nobody@1", 3, ""),
            ("persona diff frankfurt@1 --manager http://127.0.0.1:1", 2, ""),
        ] {
            let output = ctl.run(line).await;
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!((output.status.code(), said.is_empty()), (Some(code), code < 2), "{line}: {said}");
            assert!(String::from_utf8_lossy(&output.stdout).contains(told), "{line}");
        }
        for (role, name, group) in
            [(Role::Edge, "fra1", Some("frankfurt")), (Role::Edge, "tyo1", Some("tokyo")), (Role::Node, "n1", None)]
        {
            join(&client, dir.path(), role, name, group, &stop).await;
        }

        // The binding's default comes into force by itself.
        let settled = async {
            while !client
                .explain(&"workload/n1/web".parse().expect("a subject"))
                .await
                .is_ok_and(|e| e.assignment.in_force)
            {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), settled).await.expect("the default comes into force");
        let told = ctl.text("explain workload/n1/web").await;
        for part in ["frankfurt@1", "198.51.100.", "network.egress.pools", "qos.egressRate", "50mbit"] {
            assert!(told.contains(part), "{part} in {told}");
        }

        let switched: AssignmentView = ctl.json("switch workload/n1/web tokyo --for 2h --wait").await;
        assert!(switched.in_force && switched.sections["network"].until_ms.is_some(), "{switched:?}");
        assert_eq!(switched.sections["network"].layer, "manual");
        assert_eq!(switched.sections["qos"].persona.as_str(), "frankfurt", "tokyo has no qos, the binding's stays");
        let leases: Vec<LeaseView> = ctl.json("lease list --subject workload/n1/web").await;
        assert!(
            leases.iter().any(|lease| lease.state == "retiring") && leases.iter().any(|l| l.pool.as_str() == "tyo")
        );

        let back: AssignmentView = ctl.json("switch workload/n1/web --release --wait").await;
        assert_eq!(back.sections["network"].persona.as_str(), "frankfurt");
        let asked: AssignmentView = ctl.json("request workload/n1/web --capability low-latency --wait").await;
        assert_eq!((asked.sections["network"].persona.as_str(), asked.changed), ("tokyo", true));
        let again: AssignmentView = ctl.json("request workload/n1/web --capability low-latency").await;
        assert!(!again.changed, "what is satisfied already changes nothing");

        let (code, why) = ctl.refusal("request workload/n1/web --capability teleport").await;
        assert!(
            code == Some(3) && why.contains("frankfurt") && why.contains("tokyo") && why.contains("teleport"),
            "{why}"
        );
        let (code, why) = ctl.refusal("switch workload/n1/web nobody").await;
        assert!(code == Some(3) && why.contains("nobody"), "{why}");
        assert_eq!(ctl.refusal("persona delete tokyo").await.0, Some(3), "it is worn");
        assert_eq!(ctl.refusal("switch workload/n1").await.0, Some(2));
        assert_eq!(ctl.refusal("status --manager http://127.0.0.1:1").await.0, Some(1));

        let lists = [
            ("node list", "n1"),
            ("edge list", "frankfurt"),
            ("workload list", "tokyo@1"),
            ("lease list", "203.0.113."),
            ("egress list", "198.51.100.0/30"),
            ("egress geofeed", "198.51.100.0/30,DE,,Frankfurt,"),
            ("binding list", "every workload"),
            ("persona list", "low-latency"),
            ("persona history tokyo", "1"),
            ("status", "1 of 1 up"),
            ("events", "workload/n1/web"),
            ("node get n1", "tyo1"),
            ("edge get fra1", "frankfurt"),
            ("workload get workload/n1/web", "veth0"),
            ("token list", "fra1"),
        ];
        for (line, expected) in lists {
            let told = ctl.text(line).await;
            assert!(told.contains(expected), "{line}: {told}");
        }
        take_out(&ctl).await;
        let explained: Explanation = ctl.json("explain workload/n1/web").await;
        assert!(explained.effective.iter().any(|field| field.path == "network.mtu" && field.persona == "tokyo@1"));
        rotate(&ctl).await;
        stop.cancel();
    });
}

/// A new root takes over: nodes and edges renew by themselves, so that the one before can go, and are still there after.
async fn rotate(ctl: &Ctl) {
    ctl.text("authority rotate --reason yearly").await;
    let (code, why) = ctl.refusal("authority retire --reason yearly").await;
    assert!(code == Some(3) && why.contains("node/n1"), "{why}");
    let renewed = async {
        while !ctl.text("authority show").await.contains("nobody: it can be retired") {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), renewed).await.expect("they renew");
    ctl.text("authority retire --reason yearly").await;
    let back: AssignmentView = ctl.json("request workload/n1/web --release --wait").await;
    assert!(back.in_force && back.changed, "agents acknowledge under the new root alone");
}

/// Weighs, drains and deletes what is there, as far as that may be; the node and the edges stay.
async fn take_out(ctl: &Ctl) {
    let probed = ctl.text("edge get tyo1").await;
    assert!(probed.contains("node/n1") && probed.contains("0.90 ms") && probed.contains("fenced: no"), "{probed}");
    let weighed: EdgeView = ctl.json("edge weight fra1 50").await;
    assert_eq!(weighed.weight, 50);
    assert_eq!(ctl.refusal("edge weight fra1 0").await.0, Some(2), "weights are 1 to 1000");
    let told = ctl.text("edge drain fra1").await;
    assert!(told.contains("draining"), "{told}");
    let back: EdgeView = ctl.json("edge undrain fra1").await;
    assert!(!back.draining);
    let (code, why) = ctl.refusal("edge delete tyo1").await;
    assert!(code == Some(3) && why.contains("drain it"), "{why}");

    let told = ctl.text("node drain n1").await;
    assert!(told.contains("draining"), "{told}");
    let back: NodeView = ctl.json("node undrain n1").await;
    assert!(!back.draining && back.lease_count > 0);
    let (code, why) = ctl.refusal("node delete n1").await;
    assert!(code == Some(3) && why.contains("leases"), "{why}");
    assert_eq!(ctl.refusal("node delete n1 --force").await.0, Some(2), "force takes a reason");
    assert!(ctl.text("lease list --family ipv6").await.contains("no leases"));
    assert!(ctl.text("lease list --family ipv4").await.contains("203.0.113."));
}

#[test]
fn what_was_read_is_applied_unless_others_changed_it_meanwhile() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let (documents, read) = (dir.path().join("documents.yaml"), dir.path().join("read.yaml"));
    std::fs::write(&documents, DOCUMENTS).expect("a file can be written");
    world::with_manager(|manager| async move {
        let ctl = Ctl { manager };
        let apply = format!("persona apply -f {}", documents.display());
        ctl.text(&apply).await;
        assert_eq!(ctl.text(&apply).await.matches("unchanged").count(), 5, "a file that says the same");
        let text = ctl.text("persona get tokyo -o yaml").await;
        std::fs::write(&read, &text).expect("a file can be written");
        let again = format!("persona apply -f {}", read.display());
        assert!(ctl.text(&again).await.contains("unchanged"), "get | apply changes nothing");
        let changed = DOCUMENTS.replace("mtu: 1300", "mtu: 1320");
        std::fs::write(&documents, changed).expect("a file can be written");
        assert!(
            ctl.text(&apply).await.contains("updated"),
            "a file that names no version is a change of what is there"
        );
        std::fs::write(&read, text.replace("1300", "1310")).expect("a file can be written");
        let (code, said) = ctl.refusal(&again).await;
        assert!(code == Some(3) && said.contains("was changed since you read it"), "{said}");
        assert!(ctl.text(&format!("persona diff -f {}", documents.display())).await.contains("say the same"));
        assert!(ctl.text(&format!("{again} --force-conflicts")).await.contains("updated"));
        ctl.text("persona rollback tokyo").await;
        ctl.text("binding delete everyone").await;
        ctl.text("persona delete tokyo").await;
    });
}

#[test]
fn the_chain_of_events_is_checked_and_a_checkpoint_of_it_kept() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let (documents, kept) = (dir.path().join("documents.yaml"), dir.path().join("kept.jsonl"));
    std::fs::write(&documents, DOCUMENTS).expect("a file can be written");
    let kept = kept.display();
    world::with_manager(|manager| async move {
        let ctl = Ctl { manager: manager.clone() };
        ctl.text(&format!("persona apply -f {}", documents.display())).await;
        assert!(ctl.text("audit verify").await.ends_with("the chain is whole\n"));
        ctl.text(&format!("audit export --since 2 --to {kept}")).await;
        let (code, said) = ctl.refusal(&format!("audit export --to {kept}")).await;
        assert!(code == Some(1) && said.contains("exists"), "{said}");
        ctl.text("binding delete everyone").await;
        let told = ctl.text(&format!("audit verify --against {kept}")).await;
        assert!(told.contains("goes on from"), "{told}");
        let report: persona_core::audit::AuditReport = ctl.json("audit verify").await;
        assert!(report.is_whole() && report.process_count == 1, "{report:?}");

        let socket = std::path::Path::new(manager.strip_prefix("unix:").expect("a socket"));
        let store = socket.ancestors().nth(2).expect("the store is beside it").join("store.sqlite");
        let offline = format!("audit verify --offline --store {}", store.display());
        assert!(ctl.text(&offline).await.ends_with("the chain is whole\n"));
        let changed = std::fs::read_to_string(kept.to_string()).expect("it was written");
        std::fs::write(kept.to_string(), changed.replacen("\"number\":4", "\"number\":5", 1)).expect("it can be");
        let output = ctl.run(&format!("{offline} --against {kept}")).await;
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.code() == Some(3) && told.contains("diverged"), "{told}");
    });
}
