//! What a manager that follows passes on: whom it comes from goes with it, and nobody but a manager can say that.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::fleet::{copy_key, first_access};
use crate::postgres_server::PostgresServer;
use crate::support::*;
use persona_core::wire::agent::{Report, Role};
use persona_manager::{Config, Handle, StartError, StoreLocation, start};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Starts a manager in this process.
pub(crate) async fn manager(store: &str, state: &Path, stop: &CancellationToken) -> Result<Handle, StartError> {
    let Ok(store) = store.parse::<StoreLocation>();
    let config = Config { store: store.into(), state_dir: Some(state.to_owned()), ..Config::default() };
    start(config, TcpListener::bind("127.0.0.1:0").await.unwrap(), stop.clone()).await
}

async fn whoami(http: &reqwest::Client, base: &str, forged: Option<&str>) -> (u16, Value) {
    let mut request = http.get(format!("{base}/v1/whoami"));
    if let Some(forged) = forged {
        request = request.header("persona-forwarded", forged);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_a_manager_that_follows_is_the_same_to_the_one_that_leads_and_cannot_be_made_up() {
    let Some(server) = tokio::task::spawn_blocking(PostgresServer::start).await.unwrap() else { return };
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let stop = CancellationToken::new();
    let leader = manager(&server.url(), first.path(), &stop).await.unwrap();
    let (roots, bearer) = first_access(first.path()).await;

    let refused = manager(&server.url(), second.path(), &stop).await.err().expect("it lacks the key of the CA");
    let text = format!("{:#}", anyhow::Error::new(refused));
    assert!(text.contains("root-") && text.contains("another manager"), "{text}");

    copy_key(first.path(), second.path());
    let follower = manager(&server.url(), second.path(), &stop).await.unwrap();
    let base = format!("https://{}", follower.address());
    let (admin, nobody) = (with_bearer(&roots, &bearer), client(&roots, None));
    assert_eq!(whoami(&admin, &base, None).await.1["actor"], "access/test");
    let socket = client_builder(&roots).unix_socket(second.path().join("admin.sock")).build().unwrap();
    let (status, who) = whoami(&socket, "http://localhost", None).await;
    assert_eq!((status, &who["role"]), (200, &json!("admin")), "{who}");

    let token = json!({ "role": Role::Node, "uses": 9, "ttlMs": 600_000 });
    let answer = admin.post(format!("{base}/v1/join-tokens")).json(&token).send().await.unwrap();
    let token = bearer_of(&answer.json().await.unwrap());
    let mut node = FakeAgent::at(&nobody, &base, &roots, Role::Node, "n1", 1, None);
    let (status, answer) = node.register(&token).await;
    assert_eq!(status, 200, "{answer}");
    node.take(answer);
    node.report(Report::default()).await;
    node.watch().await;

    // Each tells of itself, and only one of the fleet.
    for (base, leads, nodes) in [(base.clone(), "0", 0), (format!("https://{}", leader.address()), "1", 1)] {
        let text = admin.get(format!("{base}/metrics")).send().await.unwrap().text().await.unwrap();
        let leads = format!("persona_manager_leads {leads}");
        assert!(text.lines().any(|line| line == leads), "{base} {text}");
        assert_eq!(text.matches("persona_node_up{").count(), nodes, "{base} {text}");
    }

    let forgeries = [
        r#"{"from":"root","certificate":null}"#.to_owned(),
        format!(
            r#"{{"from":{{"network":"127.0.0.1:1"}},"certificate":{{"id":{{"role":"node","name":"n1"}},"publicKey":"","expiresMs":{}}}}}"#,
            u64::MAX
        ),
    ];
    for forged in &forgeries {
        for base in [base.clone(), format!("https://{}", leader.address())] {
            assert_eq!(
                whoami(&nobody, &base, Some(forged)).await,
                whoami(&nobody, &base, None).await,
                "{base} {forged}"
            );
            let as_node = whoami(&node.http, &base, Some(forged)).await;
            assert_eq!(as_node, whoami(&node.http, &base, None).await, "{base} {forged}");
            let as_admin = whoami(&admin, &base, Some(forged)).await.1;
            assert_eq!(as_admin["actor"], "access/test", "{base} {forged}");
        }
    }

    // What is revoked at one is out at the other, within a second: the stream is at the one that follows.
    let order = json!({ "reason": "a test" });
    let leads = format!("https://{}", leader.address());
    let answer = admin.post(format!("{leads}/v1/nodes/n1/revoke")).json(&order).send().await.unwrap();
    let revoked = Instant::now();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    assert!(node.stream_ends().await);
    let (took, most) = (revoked.elapsed(), Duration::from_secs(1));
    assert!(took < most, "its connection was cut after {took:?}");
    let report = serde_json::to_vec(&Report::default()).unwrap();
    let answer = node.request("POST", "/v1/agent/report", report).send().await.map(|it| it.status().as_u16());
    assert!(matches!(answer, Ok(401) | Err(_)), "{answer:?}");
    drop((admin, nobody, socket, node));
    stop.cancel();
    leader.stopped().await;
    follower.stopped().await;
}
