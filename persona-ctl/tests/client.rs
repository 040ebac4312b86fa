//! The client against a real manager in this process, on loopback and a store of its own.

use std::time::Duration;

use futures_util::TryStreamExt;
use persona_core::document::{Document, Format, parse_documents};
use persona_core::wire::agent::Role;
use persona_core::wire::api::{Apply, NewJoinToken, Rollback, Switch};
use persona_ctl::client::{ApiClient, Applying, ClientError};
use tokio::net::TcpListener;

mod world;

const POOL: &str = "
apiVersion: persona/v1
kind: EgressPool
metadata: { name: fra }
spec: { addresses: [198.51.100.0/30], group: frankfurt }
";

fn persona(rate: &str) -> String {
    format!(
        "apiVersion: persona/v1\nkind: Persona\nmetadata: {{ name: eu }}\nspec:\n  capabilities: [low-latency]\n  \
         network: {{ egress: {{ pools: [fra] }} }}\n  qos: {{ egressRate: {rate} }}\n  \
         software: [{{ package: nginx }}]\n"
    )
}

fn documents(text: &str) -> Apply {
    let documents = parse_documents(text, Format::Yaml, "test").expect("the test's documents are valid");
    Apply { documents: documents.iter().map(Document::to_json).collect() }
}

/// Runs a test with a client of a fresh manager.
fn with_manager<F: Future<Output = ()>>(test: impl FnOnce(ApiClient) -> F) {
    world::with_manager(|url| test(ApiClient::new(&url).expect("a manager's address makes a URL")));
}

#[test]
fn a_join_token_shows_its_secret_once_and_can_be_revoked() {
    with_manager(|client| async move {
        let wish = NewJoinToken {
            role: Role::Edge,
            name: Some("e1".into()),
            uses: 2,
            ttl_ms: 60_000,
            labels: Default::default(),
        };
        let secret = client.create_join_token(&wish).await.unwrap();
        let listed = client.join_tokens().await.unwrap();
        assert_eq!((listed.len(), &listed[0].id, listed[0].uses_left), (1, &secret.id, 2));
        client.delete_join_token(&secret.id).await.unwrap();
        assert!(client.join_tokens().await.unwrap().is_empty());
        let problem = client.delete_join_token(&secret.id).await.unwrap_err();
        assert_eq!(problem.problem().map(|problem| problem.status), Some(404), "{problem}");
    });
}

#[test]
fn documents_are_versioned_and_taken_back() {
    with_manager(|client| async move {
        let first = documents(&format!("{POOL}---\n{}", persona("10mbit")));
        let dry = client.apply(&first, Applying { dry_run: true, ..Applying::default() }).await.unwrap();
        assert!(dry.results.iter().all(|result| result.outcome == "created"), "{dry:?}");
        assert!(client.personas().await.unwrap().is_empty(), "a dry run stores nothing");
        let applied = client.apply(&first, Applying::default()).await.unwrap();
        assert!(applied.results[1].warnings.iter().any(|warning| warning.contains("software")), "{applied:?}");
        assert_eq!(client.apply(&first, Applying::default()).await.unwrap().results[1].outcome, "unchanged");
        let second = client.apply(&documents(&persona("20mbit")), Applying::default()).await.unwrap();
        assert_eq!((second.results[0].outcome.as_str(), second.results[0].version), ("updated", 2));

        let (old, new) = (client.persona("eu", Some(1)).await.unwrap(), client.persona("eu", None).await.unwrap());
        assert_eq!((old.version, new.version, old.latest_version), (1, 2, 2));
        assert_eq!(old.vni, new.vni, "versions of a persona share its id");
        let back = client.rollback_persona("eu", &Rollback { to: None }).await.unwrap();
        assert_eq!((back.version, &back.digest), (3, &old.digest));
        assert_eq!(client.persona_versions("eu").await.unwrap().len(), 3);

        let pool = client.egress_pool("fra").await.unwrap();
        assert_eq!((pool.blocks_total, pool.blocks_leased), (4 * 63, 0));
        client.delete_persona("eu").await.unwrap();
        assert!(client.personas().await.unwrap().is_empty());
        client.delete_egress_pool("fra").await.unwrap();
    });
}

#[test]
fn refusals_come_back_whole() {
    with_manager(|client| async move {
        let unknown = client.persona("nobody", None).await.unwrap_err();
        assert_eq!(unknown.problem().map(|problem| problem.status), Some(404), "{unknown}");
        let mut wrong = documents(&persona("10mbit"));
        wrong.documents[0]["spec"]["network"]["mtu"] = 100.into();
        let refused = client.apply(&wrong, Applying::default()).await.unwrap_err();
        let parts = refused.problem().map(|problem| problem.errors.clone()).unwrap_or_default();
        assert!(parts.iter().any(|part| part.path.contains("spec.network.mtu")), "{refused}");
        let subject = "workload/n1/web".parse().unwrap();
        let switch = Switch { subject, persona: "nobody".parse().unwrap(), for_ms: None, cut_after_ms: None };
        assert!(matches!(client.switch(&switch).await, Err(ClientError::Refused(_))));
    });
}

#[test]
fn events_can_be_listed_and_followed() {
    with_manager(|client| async move {
        let mut followed = std::pin::pin!(client.follow_events(None).await.unwrap());
        client.apply(&documents(POOL), Applying::default()).await.unwrap();
        let next = tokio::time::timeout(Duration::from_secs(5), followed.try_next()).await;
        let event = next.expect("an event within five seconds").unwrap().expect("the stream goes on");
        let listed = client.events(None).await.unwrap();
        assert!(listed.iter().any(|known| known.number == event.number && known.message == event.message));
        let last = listed.last().unwrap().number;
        assert!(client.events(Some(last)).await.unwrap().iter().all(|later| later.number > last));
        assert_eq!(client.status().await.unwrap().nodes, (0, 0));
    });
}

#[test]
fn a_manager_that_is_not_there_is_told_by_its_url() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // A port that was just free: bound and given back.
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let client = ApiClient::new(&format!("http://127.0.0.1:{port}")).unwrap();
        let error = client.status().await.unwrap_err();
        assert!(matches!(&error, ClientError::Unreachable { .. }) && error.to_string().contains(&port.to_string()));
    });
}
