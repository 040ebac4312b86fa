//! A made-up fleet: what is listed of it, what keys do, and what the screen shows.

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::{Value, json};

use super::fleet::Fleet;
use super::keys::{Action, State};
use super::table::{Look, Tab, rows, short};
use super::{Known, screen};

fn counters(subject: &str, bytes: u64, drops: u64) -> Value {
    let traffic = |egress: u64| json!({ "egressPackets": egress / 100, "egressBytes": egress, "ingressPackets": 0, "ingressBytes": egress * 2 });
    json!({ "subjects": [{ "subject": subject, "traffic": traffic(bytes) }], "personas": { "42": traffic(bytes) },
        "drops": { "no-lease": drops } })
}

fn node(name: &str, up: bool, counters: Value) -> Value {
    json!({ "name": name, "address": "10.0.0.1", "capabilities": [], "labels": {}, "up": up, "draining": false,
        "leaseCount": 2, "liveSlotCount": 12, "underlayMtu": null, "seenMs": 0, "version": "1", "desired": 7, "applied": 7,
        "rejected": null, "edges": [], "counters": counters })
}

fn edge(name: &str, bits_per_sec: u64) -> Value {
    let probe = json!({ "from": "node/n1", "edge": name, "alive": true, "rttUs": 900, "jitterUs": 30, "loss": 0.0, "generation": 7 });
    json!({ "name": name, "number": 1, "group": "fra", "address": "10.0.0.9", "capabilities": [],
        "capacity": { "bitsPerSec": 1_000_000_000, "leaseCount": 100 }, "labels": {}, "state": "up", "reason": "it answers",
        "flags": [], "weight": 100, "draining": false, "leaving": false, "unfenced": null, "bitsPerSec": bits_per_sec,
        "probes": [probe], "seenMs": 0, "version": "1", "desired": 7, "applied": 7, "rejected": null, "owned": [],
        "leaseCount": 3, "counters": { "subjects": [], "personas": {}, "drops": {} } })
}

fn workload(subject: &str, node: &str) -> Value {
    let worn = json!({ "persona": "eu", "version": 3, "layer": "binding", "reason": "the default", "untilMs": null });
    json!({ "subject": subject, "node": node, "name": "web", "device": "veth0", "address": null, "prefix6": null,
        "kind": "device", "labels": {}, "attached": true, "assignment": { "subject": subject, "sections": { "network": worn },
        "lease": null, "lease6": null, "inForce": true, "changed": false } })
}

fn fleet(secs: u64, scale: u64) -> Fleet {
    let read = |value: Value| serde_json::from_value(value).unwrap();
    let start = Fleet::default();
    Fleet {
        at: start.at + Duration::from_secs(secs),
        status: Some(
            serde_json::from_value(
                json!({ "version": "1", "revision": 9, "nodes": [1, 2], "edges": [2, 2], "workloads": 2,
            "unassigned": { "workload/n2/db": "no room" }, "behind": [], "rejected": {} }),
            )
            .unwrap(),
        ),
        nodes: vec![
            read(node("n1", true, counters("workload/n1/web", 1_000 * scale, 5))),
            read(node("n2", false, counters("workload/n2/web", 9_000 * scale, 5 + scale))),
        ],
        edges: [("fra1", 250_000_000), ("fra2", 0)]
            .map(|(name, rate)| serde_json::from_value(edge(name, rate)).unwrap())
            .into(),
        personas: vec![
            serde_json::from_value(json!({ "name": "eu", "version": 3, "latestVersion": 3, "vni": 42, "digest": "",
            "createdMs": 0, "wearers": 2, "document": {} }))
            .unwrap(),
        ],
        workloads: ["n1", "n2"]
            .map(|node| serde_json::from_value(workload(&format!("workload/{node}/web"), node)).unwrap())
            .into(),
    }
}

fn known() -> Known {
    let before = fleet(0, 1);
    let now = Fleet { at: before.at + Duration::from_secs(2), ..fleet(0, 3) };
    let event = json!({ "number": 4, "timeMs": 3_723_000, "name": "edge.down", "about": "edge/fra2", "actor": "manager",
        "message": "fra2 does not answer", "details": {} });
    let events = [serde_json::from_value(event).unwrap()].into();
    Known { now, before: Some(before), events, failure: None }
}

fn column(tab: Tab, known: &Known, name: &str) -> Vec<String> {
    let number = tab.header().iter().position(|header| *header == name).unwrap();
    rows(tab, known, "", 0, false).iter().map(|row| row.cells[number].text.clone()).collect()
}

fn press(state: &mut State, known: &Known, codes: &[KeyCode]) -> Option<Action> {
    let mut action = None;
    for code in codes {
        state.settle(known);
        action = state.press(KeyEvent::new(*code, KeyModifiers::NONE), known);
    }
    state.settle(known);
    action
}

#[test]
fn rates_are_differences_between_two_looks() {
    let known = known();
    assert_eq!(column(Tab::Nodes, &known, "UP"), ["8.00 kbit/s", "72.0 kbit/s"]);
    assert_eq!(column(Tab::Nodes, &known, "DOWN"), ["16.0 kbit/s", "144 kbit/s"]);
    assert_eq!(column(Tab::Nodes, &known, "DROPS/S"), ["0", "1"]);
    assert_eq!(column(Tab::Personas, &known, "UP"), ["80.0 kbit/s"]);
    assert_eq!(column(Tab::Personas, &known, "PACKETS/S"), ["100"]);
    assert_eq!(column(Tab::Subjects, &known, "UP"), ["8.00 kbit/s", "72.0 kbit/s"]);
    assert_eq!(column(Tab::Edges, &known, "FULL"), ["25%", "0%"]);
    let first = Known { before: None, ..self::known() };
    assert_eq!(column(Tab::Nodes, &first, "UP"), ["-", "-"], "one look says nothing of rates");
    let mut again = self::known();
    std::mem::swap(&mut again.now.nodes, &mut again.before.as_mut().unwrap().nodes);
    assert_eq!(column(Tab::Nodes, &again, "UP"), ["-", "-"], "counters that began anew say nothing either");
}

#[test]
fn numbers_are_short() {
    let cases = [
        (0.0, "0"),
        (1.0, "1"),
        (0.5, "0.50"),
        (12.34, "12.3"),
        (999.0, "999"),
        (1_000.0, "1.00 k"),
        (56_789.0, "56.8 k"),
        (2.5e9, "2.50 G"),
    ];
    for (value, expected) in cases {
        assert_eq!(short(value), expected);
    }
}

#[test]
fn lists_are_sorted_filtered_and_looked_at_closer() {
    let (known, mut state) = (known(), State::default());
    let names = |state: &State| state.rows.iter().map(|row| row.key.clone()).collect::<Vec<_>>();
    press(&mut state, &known, &[]);
    assert_eq!(names(&state), ["n1", "n2"]);
    press(&mut state, &known, &[KeyCode::Char('r')]);
    assert_eq!(names(&state), ["n2", "n1"], "turned");
    press(
        &mut state,
        &known,
        &[
            KeyCode::Char('r'),
            KeyCode::Char('s'),
            KeyCode::Char('s'),
            KeyCode::Char('s'),
            KeyCode::Char('s'),
            KeyCode::Char('s'),
        ],
    );
    assert_eq!(
        (names(&state), state.sort()),
        (vec!["n2".to_owned(), "n1".to_owned()], (5, false)),
        "the busiest first"
    );
    assert_eq!(state.place, 1, "n1 stays marked");
    press(&mut state, &known, &[KeyCode::Char('/'), KeyCode::Char('N'), KeyCode::Char('2'), KeyCode::Enter]);
    assert_eq!(names(&state), ["n2"]);
    press(&mut state, &known, &[KeyCode::Enter]);
    assert_eq!((state.tab, names(&state)), (Tab::Subjects, vec!["workload/n2/web".to_owned()]), "the node's subjects");
    let action = press(&mut state, &known, &[KeyCode::Enter]);
    assert_eq!(action, Some(Action::Explain("workload/n2/web".parse().unwrap())));
    press(&mut state, &known, &[KeyCode::Char('2'), KeyCode::Enter]);
    assert!(state.detail.as_ref().unwrap().text.contains("node/n1"), "who hears the edge");
    assert_eq!(press(&mut state, &known, &[KeyCode::Esc, KeyCode::Char('q')]), Some(Action::End));
    assert_eq!(state.detail, None);
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(state.press(control_c, &known), Some(Action::End));
}

#[test]
fn what_is_wrong_is_told_from_what_is_well() {
    let known = known();
    let states: Vec<_> = rows(Tab::Nodes, &known, "", 0, false)
        .iter()
        .map(|row| (row.cells[1].text.clone(), row.cells[1].look))
        .collect();
    assert_eq!(states, [("up".to_owned(), Look::Plain), ("down".to_owned(), Look::Wrong)]);
}

#[test]
fn the_screen_shows_the_fleet_also_where_it_is_small() {
    let (known, mut state) = (known(), State::default());
    let drawn = |state: &mut State, width, height| {
        state.settle(&known);
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| screen::draw(frame, &known, state)).unwrap();
        terminal.backend().to_string()
    };
    let shown = drawn(&mut state, 120, 20);
    for part in [
        "nodes 1 of 2 up",
        "1 without a persona",
        "NODE v",
        "72.0 kbit/s",
        "01:02:03  edge.down",
        "fra2 does not answer",
        "q ends",
    ] {
        assert!(shown.contains(part), "{part}:\n{shown}");
    }
    for (width, height) in [(1, 1), (20, 5), (80, 8)] {
        drawn(&mut state, width, height);
    }
    state.show("fra1", "somebody hears it".to_owned());
    assert!(drawn(&mut state, 80, 20).contains("somebody hears it"));
}
