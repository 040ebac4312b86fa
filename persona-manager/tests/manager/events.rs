//! Events for programs: none is missed unseen, whoever reads slowly gets all of them, and a pause is told.

use std::time::Duration;

use crate::support::*;
use rusqlite::Connection;
use serde_json::{Value, json};

/// The lines of a stream that have come so far, and what is left of the next one.
struct Lines {
    stream: reqwest::Response,
    buffer: Vec<u8>,
}

impl Lines {
    async fn open(app: &TestApp, query: &str) -> Self {
        let stream = app.http.get(format!("{}/v1/events?follow=true&{query}", app.base)).send().await.unwrap();
        assert_eq!(stream.status().as_u16(), 200);
        Self { stream, buffer: Vec::new() }
    }

    async fn next(&mut self) -> Value {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return serde_json::from_slice(&line).unwrap();
            }
            let chunk = tokio::time::timeout(Duration::from_secs(15), self.stream.chunk()).await.expect("a line comes");
            self.buffer.extend(chunk.unwrap().expect("the stream goes on"));
        }
    }
}

async fn happen(app: &TestApp, mtus: std::ops::Range<u32>) {
    for mtu in mtus {
        let mut document = persona("p", "fra", &[]);
        document["spec"]["network"]["mtu"] = json!(mtu);
        app.apply(vec![document]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_would_miss_events_is_told_which_is_the_oldest() {
    let app = TestApp::new().await;
    happen(&app, 1_300..1_305).await;
    let store = app.store();
    let directory = app.halt().await;
    // As after 200,000 events: a signature stands for all up to some number.
    let connection = Connection::open(&store).unwrap();
    let newest = "SELECT details FROM events WHERE name = 'audit.sealed' ORDER BY number DESC LIMIT 1";
    let seal: String = connection.query_row(newest, [], |row| row.get(0)).unwrap();
    let seal: Value = serde_json::from_str(&seal).unwrap();
    let dropped = seal["number"].as_u64().unwrap();
    let stub = json!({ "seal": seal }).to_string();
    connection.execute("INSERT INTO audit_stub (key, body) VALUES ('stub', ?1)", [&stub]).unwrap();
    connection.execute("DELETE FROM events WHERE number <= ?1", [i64::try_from(dropped).unwrap()]).unwrap();
    drop(connection);
    let app = TestApp::on(directory).await;
    for query in ["since=1", "since=1&follow=true", "pageToken=2"] {
        let (status, problem) = app.call("GET", &format!("/v1/events?{query}"), None).await;
        assert_eq!((status, &problem["type"]), (410, &json!("/problems/gone")), "{query}: {problem}");
        assert_eq!(problem["errors"][0], json!({ "path": "oldest", "detail": (dropped + 1).to_string() }));
        assert_eq!(problem["errors"][1], json!({ "path": "since", "detail": dropped.to_string() }));
    }
    for query in [format!("since={dropped}"), "since=0".to_owned(), String::new()] {
        let page = app.get(&format!("/v1/events?{query}")).await;
        assert_eq!(page["items"][0]["number"], dropped + 1, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_holds_nothing_up_and_gets_every_event_once() {
    let app = TestApp::new().await;
    let last = app.get("/v1/status").await["eventLast"].as_u64().unwrap();
    let mut slow = Lines::open(&app, &format!("since={last}")).await;
    // Nobody reads meanwhile; changes are answered all the same.
    happen(&app, 1_300..1_500).await;
    let newest = app.get("/v1/status").await["eventLast"].as_u64().unwrap();
    assert!(newest >= last + 200);
    for number in last + 1..=newest {
        assert_eq!(slow.next().await["number"], number);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_told_to_who_asks_for_it() {
    let app = TestApp::new().await;
    let last = app.get("/v1/status").await["eventLast"].as_u64().unwrap();
    let mut lines = Lines::open(&app, &format!("since={last}&bookmarks=true")).await;
    assert_eq!(lines.next().await, json!({ "bookmark": last }));
    happen(&app, 1_300..1_301).await;
    let event = lines.next().await;
    assert_eq!((event["number"].as_u64(), event["name"].as_str()), (Some(last + 1), Some("document.created")));
}
