//! Managers that follow decide what subjects ask for while the one that leads hangs: whatever they race for is leased once, and the
//! leader goes on from there when it wakes.

use std::time::{Duration, Instant};

use crate::kill::{Process, Scene, TURN, at, free_port};
use crate::postgres_server::PostgresServer;
use crate::support::*;
use persona_core::wire::agent::{Report, Role};
use serde_json::{Value, json};

/// However slow the machine, what is waited for must come within this time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Longer than a manager believes a sign of life.
const BELIEVED: Duration = Duration::from_secs(1);

/// Workloads that race.
const SUBJECT_COUNT: usize = 6;

/// The only address of the pool with the only block that can be leased.
const LAST_ADDRESS: &str = "203.0.113.9";

fn subject(number: usize) -> String {
    format!("workload/n1/a{number}")
}

/// Takes in what is there and reports, whatever becomes of the report.
async fn turn(agent: &mut FakeAgent) {
    // In a stream of its own each time: who waits for the manager may find its connection closed.
    agent.watch().await;
    let names: Vec<String> = (0..SUBJECT_COUNT).map(|number| format!("a{number}")).collect();
    let report = match agent.role {
        Role::Node => workloads(&names),
        Role::Edge => Report { outside_alive: Some(true), ..Report::default() },
    };
    let report = Report { applied: agent.state.generation, proof: agent.state.proof.clone(), ..report };
    let body = serde_json::to_vec(&report).unwrap();
    // The manager that leads may have been outrun: then it says so, and the next turn says it again.
    let _ = agent.request("POST", "/v1/agent/report", body).send().await;
}

impl Scene {
    async fn get_from(&self, manager: usize, path: &str) -> Value {
        let answer = self.http.get(format!("{}{path}", self.managers[manager].base)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        answer.json().await.unwrap()
    }

    /// The persona that a workload wears as far as a manager knows, and whether that is in force.
    async fn worn(&self, manager: usize, number: usize) -> (String, bool) {
        let view = self.get_from(manager, &format!("/v1/explain/{}", subject(number))).await;
        let persona = view["assignment"]["sections"]["network"]["persona"].as_str().unwrap_or_default().to_owned();
        (persona, view["assignment"]["inForce"] == true)
    }

    async fn until_all_are_dressed(&mut self, what: &str, persona: impl Fn(usize) -> &'static str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            turn(&mut self.edge).await;
            turn(&mut self.node).await;
            let mut worn = Vec::new();
            for number in 0..SUBJECT_COUNT {
                worn.push(self.worn(2, number).await);
            }
            if worn.iter().enumerate().all(|(number, (name, in_force))| name == persona(number) && *in_force) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: {worn:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Everybody asks at once, one half of one manager and the other half of another. Gives the answers in their order.
    async fn race(&self, path: &'static str, body: impl Fn(usize) -> Value) -> Vec<(u16, Value)> {
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..SUBJECT_COUNT {
            let url = format!("{}{path}", self.managers[1 + number % 2].base);
            let request = self.http.post(url).json(&body(number));
            tasks.spawn(async move {
                let answer = request.send().await.unwrap();
                (number, (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null)))
            });
        }
        let mut answers = tasks.join_all().await;
        answers.sort_by_key(|(number, _)| *number);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }
}

/// Stops the manager that leads, at a moment when it is in no transaction.
async fn hang(leader: &Process, server: &PostgresServer) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        leader.signal("STOP");
        let under_way =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = 'persona' AND state LIKE 'idle in transaction%'";
        if server.sql(under_way) == "0" {
            // The sign of life that it gave last is believed for a moment; what is passed on to it until then has an unknown fate.
            tokio::time::sleep(BELIEVED).await;
            return;
        }
        leader.signal("CONT");
        assert!(Instant::now() < deadline, "it is in a transaction all the time");
        tokio::time::sleep(Duration::from_millis(37)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_block_is_leased_once_by_managers_that_race_while_the_leader_hangs() {
    let Some(server) = tokio::task::spawn_blocking(PostgresServer::start).await.unwrap() else { return };
    let _turn = TURN.lock().await;
    let store = at(&server.url());
    let ports = [free_port(), free_port(), free_port()];
    let mut scene = Scene::new(&store, &ports).await;
    let last = json!({ "apiVersion": "persona/v1", "kind": "EgressPool", "metadata": { "name": "last" },
        "spec": { "addresses": [LAST_ADDRESS], "group": "fra", "blockSize": 32_768, "quarantine": "1s" } });
    let documents = json!([
        last,
        persona("scarce", "last", &["scarce"]),
        persona("plenty", "fra", &["plenty"]),
        binding("all", &["frankfurt", "scarce", "plenty"])
    ]);
    let (status, body) = scene.post(APPLY, &json!({ "documents": documents })).await.unwrap();
    assert_eq!(status, 200, "{body}");
    scene.until_all_are_dressed("everybody wears what is usual", |_| "frankfurt").await;

    hang(&scene.managers[0], &server).await;
    let answers =
        scene.race("/v1/request", |number| json!({ "subject": subject(number), "capabilities": ["scarce"] })).await;
    let granted: Vec<usize> = (0..SUBJECT_COUNT).filter(|number| answers[*number].0 == 200).collect();
    let [winner] = granted[..] else { panic!("one block, and {granted:?} were told that they have it: {answers:#?}") };
    for (number, (status, answer)) in answers.iter().enumerate().filter(|(number, _)| *number != winner) {
        let is_why = answer.to_string().contains("pool last is full");
        assert!(*status == 409 && is_why, "{number}: {status} {answer}");
    }
    // Where there is room for all, all get theirs, although only one at a time can be stored.
    let answers = scene.race("/v1/switch", |number| json!({ "subject": subject(number), "persona": "plenty" })).await;
    for (number, (status, answer)) in answers.iter().enumerate() {
        // Who has won still asks for what it has, and the other persona lacks that.
        let expected = if number == winner { 409 } else { 200 };
        assert_eq!(*status, expected, "{number}: {answer}");
    }
    for manager in [1, 2] {
        let leases = scene.get_from(manager, "/v1/leases?limit=1000").await;
        let of_last = leases["items"].as_array().unwrap().iter().filter(|lease| lease["pool"] == "last");
        assert_eq!(of_last.count(), 1, "as manager {manager} sees it: {leases}");
    }
    let held = "SELECT count(*) FROM lease_ports WHERE lower(ports) >> 16 = ('203.0.113.9'::inet - '0.0.0.0'::inet)";
    assert_eq!(server.psql(&["--dbname=persona", "--command", held]), "1");

    scene.managers[0].signal("CONT");
    scene.wait_until_it_writes().await;
    let expected = move |number| if number == winner { "scarce" } else { "plenty" };
    scene.until_all_are_dressed("what was decided meanwhile is in force", expected).await;
    scene.check().await;
    scene.check_chain(&store);
}
