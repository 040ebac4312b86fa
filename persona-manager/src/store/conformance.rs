//! What every backend must do, by the same functions on each.

#[path = "../../tests/endurance/postgres_server.rs"]
pub(super) mod postgres_server;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use persona_core::document::Kind;
use persona_core::ids::{LeaseId, SubjectId};
use persona_core::lease::LeaseState;
use persona_core::wire::agent::Role;
use persona_core::wire::desired::LeaseSpace;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use self::postgres_server::PostgresServer;
use super::snapshot::Table;
use super::write::Write;
use super::*;

/// A store that can be opened again and again.
pub(super) trait Place {
    fn config(&self) -> StoreConfig;

    /// Does something to it behind the manager's back.
    fn tamper(&self, statements: &str);

    /// Opens it, and leads.
    fn open(&self) -> Box<dyn Backend> {
        let mut backend = super::open(&self.config(), "http://this.manager").unwrap();
        lead(backend.as_mut());
        backend
    }
}

/// A database lets go of the lock of one that is gone a moment later.
fn lead(backend: &mut dyn Backend) {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !backend.stand().unwrap().leads() {
        assert!(std::time::Instant::now() < deadline, "somebody else leads");
        backend.wait(Duration::from_millis(20));
    }
}

struct SqlitePlace(tempfile::TempDir);

impl Place for SqlitePlace {
    fn config(&self) -> StoreConfig {
        self.0.path().join("store.sqlite").into()
    }

    fn tamper(&self, statements: &str) {
        rusqlite::Connection::open(self.0.path().join("store.sqlite")).unwrap().execute_batch(statements).unwrap();
    }
}

impl Place for PostgresServer {
    fn config(&self) -> StoreConfig {
        StoreLocation::Postgres(self.url()).into()
    }

    fn tamper(&self, statements: &str) {
        self.sql_in_store(statements);
    }
}

impl PostgresServer {
    /// Runs a statement in the store's database.
    fn sql_in_store(&self, statement: &str) -> String {
        self.psql(&["--dbname=persona", "--command", statement])
    }

    /// Empties the database.
    fn wipe(&self) {
        self.sql_in_store("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
    }
}

#[test]
fn sqlite_conforms() {
    for check in CHECKS {
        check(&SqlitePlace(tempfile::tempdir().unwrap()));
    }
}

#[test]
fn postgres_conforms() {
    let Some(server) = PostgresServer::start() else { return };
    for check in CHECKS {
        check(&server);
        server.wipe();
    }
}

const CHECKS: [fn(&dyn Place); 9] = [
    an_empty_store_is_empty,
    what_is_committed_is_there_when_it_is_opened_again,
    a_commit_is_whole_or_nothing,
    no_port_and_no_prefix_is_held_twice,
    events_come_in_order_and_in_pages,
    any_text_comes_back_as_it_was,
    conformance_chain::what_was_done_to_stored_events_is_found,
    conformance_chain::dropped_events_are_signed_for,
    any_sequence_of_writes_leaves_what_a_map_would_hold,
];

fn an_empty_store_is_empty(place: &dyn Place) {
    let snapshot = place.open().load().unwrap();
    assert_eq!((snapshot.incarnation, snapshot.revision, snapshot.event_last), (1, 0, 0));
    assert_eq!((snapshot.records(), snapshot.numbers), (Vec::new(), Numbers::default()));
    assert!(place.open().events_after(0, 10).unwrap().is_empty());
}

fn what_is_committed_is_there_when_it_is_opened_again(place: &dyn Place) {
    let mut backend = place.open();
    let mut draft = Draft::new(&backend.load().unwrap(), 1_000);
    draft.put(DocumentRecord {
        kind: Kind::Persona,
        name: "p".into(),
        latest: 3,
        given: 3,
        before: Some(1),
        deleted: false,
        vni: None,
    });
    draft.put(agent("n1"));
    draft.put(HeardRecord { agent: agent("n1").id });
    draft.put(RecoveryRecord { incarnation: 1, since_ms: 7, reason: "a test".into() });
    draft.put(SettingsRecord::default());
    draft.put(signal("external.surge"));
    draft.put(ReachedRecord { minute_end_ms: 60_000, subject_count: 3 });
    draft.put(JoinedKeyRecord { token: "t1".into(), public_key: "bmV3".into() });
    put_rollout(&mut draft);
    let samples = vec![PoolSample { at_ms: 1, blocks: 2, prefixes: 3 }];
    draft.put(PoolHistoryRecord { pool: "fra".parse().unwrap(), samples });
    put_identities(&mut draft);
    draft.grant_lease(lease(1, ports([203, 0, 113, 1], 10, &[1, 2])));
    draft.grant_lease(lease(2, prefix("2001:db8:1::")));
    draft.event("something.happened", "store", "test", "it did".into(), json!({ "before": null, "after": [1] }));
    let (vni, _) = (draft.next_vni().unwrap(), draft.next_lease_id());
    draft.next_subject_number();
    draft.next_edge_number().unwrap();
    draft.raise_incarnation(6);
    let (made, writes, events) = draft.finish();
    backend.commit(made.revision, &writes, &events).unwrap();
    drop(backend);
    let mut backend = place.open();
    let found = backend.load().unwrap();
    assert_eq!(found.generation(), made.generation());
    assert_eq!((found.incarnation, found.numbers), (7, made.numbers));
    assert_eq!((found.records(), found.records().len()), (made.records(), 19));
    assert!(found.numbers.vni > vni.0);
    assert_eq!(backend.events_after(0, 11).unwrap(), events);
    let writes = [Write::Delete { table: Table::Agents, key: "node/n1".into() }];
    backend.commit(made.revision + 1, &writes, &[]).unwrap();
    drop(backend);
    let found = place.open().load().unwrap();
    assert_eq!((found.revision, found.agents.len(), found.records().len()), (made.revision + 1, 0, 18));
}

fn a_commit_is_whole_or_nothing(place: &dyn Place) {
    let mut backend = place.open();
    let held = lease(1, ports([203, 0, 113, 1], 10, &[1]));
    backend.commit(1, &put_and_hold(&held), &[]).unwrap();
    let before = backend.load().unwrap();
    let mut writes = vec![put(&agent("n1"))];
    writes.extend(put_and_hold(&lease(2, held.space.clone())));
    assert!(backend.commit(2, &writes, &[event(1, "lost")]).is_err());
    lead(backend.as_mut());
    let after = backend.load().unwrap();
    assert_eq!((after.revision, after.records()), (before.revision, before.records()));
    assert!(backend.events_after(0, 10).unwrap().is_empty());
    backend.commit(2, &[put(&agent("n1"))], &[event(1, "kept")]).unwrap();
    assert_eq!(backend.load().unwrap().agents.len(), 1);
}

fn no_port_and_no_prefix_is_held_twice(place: &dyn Place) {
    let mut backend = place.open();
    let address = [203, 0, 113, 1];
    let mut revision = 0;
    let mut hold = |writes: Vec<Write>| {
        revision += 1;
        let is_held = backend.commit(revision, &writes, &[]).is_ok();
        lead(backend.as_mut());
        is_held
    };
    assert!(hold(put_and_hold(&lease(1, ports(address, 10, &[1, 3])))));
    assert!(hold(put_and_hold(&lease(2, prefix("2001:db8:1::")))));
    let cases = [
        (ports(address, 10, &[1]), false),
        (ports(address, 10, &[3]), false),
        (ports(address, 9, &[7]), false),
        (ports(address, 12, &[0]), false),
        (LeaseSpace::whole_address(address.into()), false),
        (prefix("2001:db8:1::"), false),
        (ports(address, 10, &[2]), true),
        (ports([203, 0, 113, 2], 10, &[1]), true),
        (LeaseSpace::whole_address([203, 0, 113, 0].into()), true),
        (prefix("2001:db8:1:1::"), true),
        (prefix("ffff:db8:1::"), true),
    ];
    for (number, (space, is_free)) in (3..).zip(cases) {
        assert_eq!(hold(put_and_hold(&lease(number, space.clone()))), is_free, "{space}");
    }
    let mut handed_over = vec![Write::Free(LeaseId(1))];
    handed_over.extend(put_and_hold(&lease(90, ports(address, 10, &[1]))));
    assert!(hold(handed_over), "what is freed can be held in the same commit");
    let mut taken_back = put_and_hold(&lease(91, ports(address, 10, &[9])));
    taken_back.push(Write::Free(LeaseId(91)));
    taken_back.extend(put_and_hold(&lease(92, ports(address, 10, &[9]))));
    assert!(hold(taken_back), "what was held and freed in one commit leaves nothing");
    assert!(!hold(put_and_hold(&lease(93, ports(address, 10, &[9])))));
}

fn events_come_in_order_and_in_pages(place: &dyn Place) {
    let mut backend = place.open();
    let events: Vec<EventRecord> = [1, 2, 3, 1 << 32, (1 << 32) + 1].map(|number| event(number, "e")).into();
    backend.commit(1, &[], &events[..2]).unwrap();
    backend.commit(2, &[], &events[2..]).unwrap();
    let numbers = |found: Vec<EventRecord>| -> Vec<u64> { found.iter().map(|event| event.number).collect() };
    assert_eq!(numbers(backend.events_after(0, 2).unwrap()), [1, 2]);
    assert_eq!(numbers(backend.events_after(2, 2).unwrap()), [3, 1 << 32]);
    assert_eq!(numbers(backend.events_after(1 << 32, 2).unwrap()), [(1 << 32) + 1]);
    assert!(backend.events_after(u64::MAX >> 1, 2).unwrap().is_empty());
    assert_eq!(backend.load().unwrap().event_last, (1 << 32) + 1);
}

fn any_text_comes_back_as_it_was(place: &dyn Place) {
    let mut backend = place.open();
    for (revision, text) in
        (1..).zip(["", "'; DROP TABLE records; --", "\\ \" \t\n", "Größe ✓ 𝄞", &"x".repeat(1 << 20)])
    {
        let record = RecoveryRecord { incarnation: 1, since_ms: 1, reason: text.to_owned() };
        backend.commit(revision, &[put(&record)], &[event(revision, text)]).unwrap();
        assert_eq!(backend.load().unwrap().recovery[RECOVERY_KEY].reason, text);
        assert_eq!(backend.events_after(revision - 1, 1).unwrap()[0].message, text);
    }
    // What an agent says must not stop the store, whatever it is.
    backend.commit(9, &[], &[event(9, "a\0b")]).unwrap();
}

fn any_sequence_of_writes_leaves_what_a_map_would_hold(place: &dyn Place) {
    let mut backend = place.open();
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let mut revision = 0;
    let step = prop::collection::vec((0u8..6, 0u32..100, any::<bool>()), 0..12);
    let config = Config { cases: 24, failure_persistence: None, ..Config::default() };
    let backend = std::cell::RefCell::new((&mut backend, &mut known, &mut revision));
    let outcome = TestRunner::new(config).run(&step, |steps| {
        let (backend, known, revision) = &mut *backend.borrow_mut();
        **revision += 1;
        let write = |(name, latest, is_put): &(u8, u32, bool)| {
            let (kind, name) = (Kind::Binding, format!("b{name}"));
            let record =
                DocumentRecord { kind, name, latest: *latest, given: *latest, before: None, deleted: false, vni: None };
            if *is_put { put(&record) } else { delete(&record) }
        };
        let writes: Vec<Write> = steps.iter().map(write).collect();
        for write in &writes {
            match write {
                Write::Put { key, body, .. } => _ = known.insert(key.clone(), body.text().into_owned()),
                Write::Delete { key, .. } => _ = known.remove(key),
                _ => unreachable!(),
            }
        }
        backend.commit(**revision, &writes, &[]).unwrap();
        let found: BTreeMap<String, String> =
            backend.load().unwrap().records().into_iter().map(|(_, key, body)| (key, body)).collect();
        prop_assert_eq!(&found, &**known);
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn who_follows_sees_what_the_leader_commits_and_takes_over_when_it_goes() {
    let Some(server) = PostgresServer::start() else { return };
    let mut leader = server.open();
    let open = || super::open(&server.config(), "http://another.manager").unwrap();
    let mut follower = open();
    let url = "http://this.manager".to_owned();
    assert_eq!(follower.stand().unwrap(), Standing::Follows { leader: Some(url) });
    let mut known = follower.load().unwrap();
    assert!(follower.catch_up(&known).unwrap().is_none());
    leader.commit(1, &[put(&agent("n1")), put(&agent("n2"))], &[event(1, "e")]).unwrap();
    follower.wait(Duration::from_secs(30));
    known = follower.catch_up(&known).unwrap().unwrap();
    assert_eq!((known.revision, known.agents.len(), known.event_last), (1, 2, 1));
    let mut draft = Draft::new(&leader.load().unwrap(), 5);
    put_identities(&mut draft);
    leader.commit(2, &[draft.finish().1, vec![delete(&agent("n1"))]].concat(), &[]).unwrap();
    known = follower.catch_up(&known).unwrap().unwrap();
    assert_eq!((known.revision, known.agents.len()), (2, 1));
    assert_eq!((known.roots.len(), known.access_tokens.len(), known.revocations.len()), (1, 1, 1));
    assert!(follower.commit(3, &[put(&agent("n3"))], &[]).is_err(), "who follows commits nothing");
    drop(follower);

    // The leader's session is cut off: it commits nothing any more, also not what it had begun.
    let mut follower = open();
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted");
    lead(follower.as_mut());
    assert!(leader.confirm(2).is_err());
    assert!(leader.commit(3, &[put(&agent("n3"))], &[]).is_err());
    assert!(!leader.stand().unwrap().leads());
    follower.commit(3, &[put(&agent("n4"))], &[]).unwrap();
    known = leader.load().unwrap();
    assert_eq!(known.agents.keys().map(|id| id.name.as_str()).collect::<Vec<_>>(), ["n2", "n4"]);
}

#[test]
fn who_follows_commits_beside_the_leader_what_was_decided_on_the_newest_state_and_nothing_else() {
    let Some(server) = PostgresServer::start() else { return };
    let mut leader = server.open();
    leader.commit(1, &[put(&agent("n1"))], &[event(1, "e")]).unwrap();
    let mut follower = super::open(&server.config(), "http://another.manager").unwrap();
    assert!(!follower.stand().unwrap().leads());
    let outrun = |outcome: Result<(), StoreError>| matches!(outcome, Err(StoreError::Outrun));
    assert!(outrun(follower.commit_beside(1, &[put(&agent("old"))], &[])), "the state before is not the newest");
    assert!(outrun(follower.commit_beside(3, &[put(&agent("odd"))], &[])), "nor is one that is not there");
    follower.commit_beside(2, &[put(&agent("n2"))], &[event(2, "e")]).unwrap();

    // The leader does not know of it: it commits nothing, leads on, and goes on from there.
    let known = leader.load().unwrap();
    assert!(outrun(leader.commit(2, &[put(&agent("stale"))], &[])) && outrun(leader.confirm(1)));
    leader.confirm(2).unwrap();
    leader.commit(3, &[put(&agent("n3"))], &[]).unwrap();
    let newest = follower.catch_up(&known).unwrap().unwrap();
    assert_eq!(newest.agents.keys().map(|id| id.name.as_str()).collect::<Vec<_>>(), ["n1", "n2", "n3"]);

    // Of two that decide on the same state one is refused.
    let mut third = super::open(&server.config(), "http://a.third").unwrap();
    follower.commit_beside(4, &[put(&agent("n4"))], &[]).unwrap();
    assert!(outrun(third.commit_beside(4, &[put(&agent("n5"))], &[])));
    third.commit_beside(5, &[put(&agent("n5"))], &[]).unwrap();
}

#[test]
fn an_epoch_that_is_over_commits_nothing_even_if_the_lock_was_lost_unnoticed() {
    let Some(server) = PostgresServer::start() else { return };
    let mut leader = server.open();
    leader.commit(1, &[put(&agent("n1"))], &[]).unwrap();
    server.sql_in_store("UPDATE leader SET epoch = epoch + 1");
    assert!(matches!(leader.commit(2, &[put(&agent("n2"))], &[]), Err(StoreError::Fenced)));
    assert_eq!(server.open().load().unwrap().agents.len(), 1);
}

#[test]
fn a_follower_that_was_away_for_long_reads_everything_anew() {
    let Some(server) = PostgresServer::start() else { return };
    let mut leader = server.open();
    leader.commit(1, &[put(&agent("n1"))], &[]).unwrap();
    let known = leader.load().unwrap();
    leader.commit(2, &[delete(&agent("n1")), put(&agent("n2"))], &[]).unwrap();
    leader.commit(20_000, &[put(&agent("n3"))], &[]).unwrap();
    let deleted = server.sql_in_store("SELECT count(*) FROM records WHERE body IS NULL");
    assert_eq!(deleted, "0", "what was deleted long ago is forgotten");
    let newest = leader.catch_up(&known).unwrap().unwrap();
    assert_eq!(newest.agents.keys().map(|id| id.name.as_str()).collect::<Vec<_>>(), ["n2", "n3"]);
}

#[test]
fn a_synchronous_standby_is_asked_for_and_a_promotion_is_noticed() {
    let Some(mut server) = PostgresServer::start() else { return };
    let config = StoreConfig { require_sync: true, ..server.config() };
    let mut backend = super::open(&config, "").unwrap();
    assert!(matches!(backend.stand(), Err(StoreError::NotSynchronous)));
    assert!(server.open().stand().is_ok());
    server.sql_in_store("UPDATE meta SET value = value + 6 WHERE name = 'timeline'");
    server.crash_and_restart();
    let mut backend = super::open(&server.config(), "").unwrap();
    let Standing::Leads { went_back } = backend.stand().unwrap() else { panic!("somebody else leads") };
    assert!(went_back.unwrap().contains("timeline"));
}

#[test]
fn a_store_is_carried_to_postgres_and_back_and_loses_nothing() {
    let Some(server) = PostgresServer::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file: StoreConfig = folder.path().join("store.sqlite").into();
    let mut sqlite = super::open(&file, "").unwrap();
    let mut draft = Draft::new(&sqlite.load().unwrap(), 5);
    for name in ["n1", "n2"] {
        draft.put(agent(name));
        draft.event("agent.registered", name, "test", "it did".into(), json!({}));
    }
    draft.grant_lease(lease(1, ports([203, 0, 113, 1], 10, &[1])));
    draft.grant_lease(lease(2, prefix("2001:db8:1::")));
    put_identities(&mut draft);
    let (made, writes, events) = draft.finish();
    sqlite.commit(7, &writes, &events).unwrap();
    let manager = crate::Config { store: file.clone(), ..crate::Config::default() };
    assert!(matches!(migrate(&manager, &server.config()), Err(StoreError::InUse { .. })), "a manager runs on it");
    drop(sqlite);
    let migrated = migrate(&manager, &server.config()).unwrap();
    assert_eq!((migrated.revision.as_str(), migrated.record_count, migrated.event_count), ("1.7", 10, 2));
    assert!(matches!(migrate(&manager, &server.config()), Err(StoreError::NotEmpty { .. })));
    let mut there = server.open();
    assert_eq!((there.load().unwrap().records(), there.events_after(0, 9).unwrap()), (made.records(), events.clone()));
    assert!(
        there.commit(8, &put_and_hold(&lease(3, prefix("2001:db8:1::"))), &[]).is_err(),
        "ports are held there too"
    );

    // A backup of a database is a file like any other, and either kind of store goes back to it.
    let backup_file: PathBuf = folder.path().join("backup.sqlite");
    assert_eq!(backup(&server.config(), &backup_file).unwrap().revision, "1.7");
    lead(there.as_mut());
    assert!(matches!(restore(&server.config(), &backup_file), Err(StoreError::InUse { .. })), "a manager runs on it");
    drop(there);
    let mut there = server.open();
    there.commit(9, &[put(&agent("n3")), Write::Free(LeaseId(1)), delete(&lease(1, prefix("::")))], &[]).unwrap();
    drop(there);
    let restored = restore(&server.config(), &backup_file).unwrap();
    assert_eq!((restored.from_revision.as_str(), restored.revision.as_str()), ("1.7", "2.10"));
    let found = server.open().load().unwrap();
    assert_eq!((found.agents.len(), found.leases.len(), found.recovery.len()), (2, 2, 1));
    assert!(found.numbers.lease > 1 << 32);
    assert_eq!((found.roots.len(), found.access_tokens.len(), found.revocations.len()), (1, 1, 1));
    let restored = restore(&file, &backup_file).unwrap();
    assert_eq!(restored.revision, "2.8");
    assert_eq!(super::open(&file, "").unwrap().load().unwrap().agents.len(), 2);
}

fn put<R: super::record::Record>(record: &R) -> Write {
    Write::Put { table: R::TABLE, key: R::key_text(&record.key()), body: serde_json::to_string(record).unwrap().into() }
}

fn delete<R: super::record::Record>(record: &R) -> Write {
    Write::Delete { table: R::TABLE, key: R::key_text(&record.key()) }
}

fn put_and_hold(lease: &LeaseRecord) -> Vec<Write> {
    vec![put(lease), Write::Hold(Arc::new(lease.clone()))]
}

fn event(number: u64, message: &str) -> EventRecord {
    let (name, about, actor, message) = ("e.f".into(), "store".into(), "test".into(), message.to_owned());
    let details = r#"{"a":[1,null,"b"]}"#.to_owned();
    EventRecord { number, time_ms: 1, name, about, actor, message, details, previous: None, hash: None }
}

fn agent(name: &str) -> AgentRecord {
    AgentRecord {
        id: AgentId { role: Role::Node, name: name.to_owned() },
        public_key: String::new(),
        registration_count: 1,
        certificate_expires_ms: 2,
        certificate_issuer: None,
        address: [10, 0, 0, 1].into(),
        tunnel: None,
        capabilities: Vec::new(),
        labels: BTreeMap::new(),
        bound_labels: BTreeMap::new(),
        version: String::new(),
        details: AgentDetails::Node(NodeDetails::default()),
    }
}

/// One record of each kind that says who may come.
fn put_identities(draft: &mut Draft) {
    let (id, certificate) = ("aa".to_owned(), "PEM".to_owned());
    draft.put(RootRecord {
        id: id.clone(),
        certificate,
        made_ms: 1,
        state: RootState::Signing,
        cross: None,
        sealed_key: None,
        stored_key: None,
        succession: None,
    });
    let role = persona_core::wire::api::AccessRole::Viewer;
    let (hash, name, created_by) = (id.clone(), "ann".to_owned(), "uid/0".to_owned());
    draft.put(AccessTokenRecord { id, hash, name, role, created_ms: 1, created_by, expires_ms: 2 });
    let owner = WebOwner { name: "uid/0".to_owned(), role, token: Some("7f".to_owned()) };
    draft.put(WebLinkRecord { id: "1a".to_owned(), hash: "2b".to_owned(), owner: owner.clone(), expires_ms: 2 });
    let (id, hash) = ("3c".to_owned(), "4d".to_owned());
    draft.put(WebSessionRecord { id, hash, owner, created_ms: 1, expires_ms: 2 });
    let (id, sender, request, answer) = ("0a".to_owned(), "uid/0".to_owned(), "1b".to_owned(), "AA==".to_owned());
    draft.put(OnceRecord { id, sender, request, answer, made_ms: 1 });
    let (public_key, agent, actor) = ("AA==".to_owned(), AgentId::edge("e1"), "uid/0".to_owned());
    draft.put(RevocationRecord { public_key, agent, revoked_ms: 1, actor, reason: "lost".to_owned() });
}

fn put_rollout(draft: &mut Draft) {
    let (name, subject): (persona_core::ids::RolloutName, SubjectId) =
        ("eu-2".parse().unwrap(), "workload/n1/web".parse().unwrap());
    let moved = serde_json::from_value(json!({
        "at_ms": 1, "generation": 1, "heard": true, "wore": "eu", "manual": null,
        "node": { "packets": 7, "drops": { "no-edge": 1 } }, "signs": { "sent": 3, "received": 2, "loss": 0.25 },
    }));
    draft.put(RolloutRecord {
        name: name.clone(),
        change: persona_core::wire::rollouts::RolloutChange::Personas(Vec::new()),
        spec: Default::default(),
        progress: Default::default(),
        member_count: 1,
        moved_count: 1,
        waiting: None,
        started_by: "access/ann".into(),
        started_ms: 1,
        changed_ms: 2,
    });
    draft.put(RolloutMemberRecord { rollout: name, subject, position: 0, moved: Some(moved.unwrap()) });
}

fn signal(name: &str) -> SignalRecord {
    let (subject, by) = (SubjectId::Node("n1".parse().unwrap()), "access/lb".to_owned());
    SignalRecord { subject, name: name.to_owned(), value: 0.1, pushed_ms: 1, until_ms: 2, by }
}

fn ports(address: [u8; 4], block_bits: u8, blocks: &[u16]) -> LeaseSpace {
    LeaseSpace::Ports { address: address.into(), block_bits, blocks: blocks.to_vec() }
}

fn prefix(text: &str) -> LeaseSpace {
    LeaseSpace::Prefix { prefix: text.parse().unwrap() }
}

fn lease(id: u64, space: LeaseSpace) -> LeaseRecord {
    LeaseRecord {
        id: LeaseId(id),
        subject: SubjectId::Node("n1".parse().unwrap()),
        persona: "p".parse().unwrap(),
        vni: persona_core::ids::Vni(1),
        group: "fra".parse().unwrap(),
        pool: "fra".parse().unwrap(),
        space,
        configured: false,
        encrypted: true,
        mtu: 1_400,
        grace_ms: None,
        quarantine_ms: 1,
        generation: Default::default(),
        fullness: Default::default(),
        claim: Claim::default(),
        state: LeaseState::Active,
    }
}
