//! A scripted guest behind a real socket: what goes in, what is believed, and what odd ones are borne with.

use std::path::Path;

use persona_core::wire::guest::{GuestSecurity, GuestTell, GuestWant};
use persona_core::wire::security::{SecuritySettings, SettingReport, SettingState};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::*;

const LIMIT: Duration = Duration::from_secs(20);

fn web() -> WorkloadName {
    "web".parse().unwrap()
}

fn worn(version: u32) -> BTreeMap<WorkloadName, Worn> {
    let settings = SecuritySettings {
        sysctl: [("vm.swappiness".to_owned(), "10".to_owned())].into(),
        ..SecuritySettings::default()
    };
    let security = Some(SubjectSecurity { persona: "web".parse().unwrap(), version, settings });
    [(web(), Worn { security, software: None })].into()
}

fn start(path: &Path, stop: &CancellationToken) -> Guests {
    Guests::start("n1".parse().unwrap(), [(web(), path.to_owned())].into(), stop)
}

/// The guest's end of a connection.
struct Inside {
    stream: BufReader<UnixStream>,
}

impl Inside {
    async fn accept(listener: &UnixListener) -> Self {
        let (stream, _) = tokio::time::timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
        Self { stream: BufReader::new(stream) }
    }

    async fn want(&mut self) -> GuestWant {
        let mut line = String::new();
        tokio::time::timeout(LIMIT, self.stream.read_line(&mut line)).await.unwrap().unwrap();
        persona_core::guest::read_want(line.trim_end()).unwrap()
    }

    /// The first want that is as expected: each is said again and again.
    async fn want_until(&mut self, is_enough: impl Fn(&GuestWant) -> bool) -> GuestWant {
        for _ in 0..100 {
            let want = self.want().await;
            if is_enough(&want) {
                return want;
            }
        }
        panic!("it is never wanted");
    }

    async fn say(&mut self, line: &str) {
        self.stream.get_mut().write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    async fn tell(&mut self, want: &GuestWant, session: u64) {
        let worn = want.security.as_ref().unwrap();
        let setting = SettingReport {
            setting: "sysctl.vm.swappiness".to_owned(),
            wanted: "10".to_owned(),
            actual: Some("10".to_owned()),
            state: SettingState::InForce,
            reason: None,
        };
        let security = GuestSecurity {
            persona: Some(format!("{}@{}", worn.persona, worn.version)),
            state: SecurityState::InForce,
            reason: None,
            settings: vec![setting],
        };
        let tell = GuestTell {
            protocol: 1,
            session,
            generation: want.generation,
            security: Some(security),
            values: [("memory.usage".to_owned(), 0.25)].into(),
            ..GuestTell::default()
        };
        self.say(&serde_json::to_string(&tell).unwrap()).await;
    }
}

async fn until(guests: &mut Guests, state: SecurityState) -> (SecurityReport, Vec<Told>) {
    let mut all = Vec::new();
    for _ in 0..1_000 {
        let (mut settings, _, told) = guests.turn();
        all.extend(told);
        match settings.pop() {
            Some(report) if report.state == state => return (report, all),
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    panic!("never {state}: {:?}", guests.turn());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_worn_goes_in_and_what_became_of_it_comes_back() {
    let (folder, stop) = (tempfile::tempdir().unwrap(), CancellationToken::new());
    let path = folder.path().join("port");
    let mut guests = start(&path, &stop);
    guests.want(Generation(5), worn(1));
    let (report, told) = until(&mut guests, SecurityState::Unknown).await;
    assert!(report.reason.unwrap().contains("is not heard") && told.is_empty());

    let listener = UnixListener::bind(&path).unwrap();
    let mut inside = Inside::accept(&listener).await;
    inside.say("ion\":1,\"values\":{}}").await;
    let want = inside.want().await;
    assert_eq!((want.generation, want.security.as_ref().unwrap().version), (Generation(5), 1));
    inside.tell(&want, want.session).await;
    let (report, told) = until(&mut guests, SecurityState::InForce).await;
    assert_eq!((report.persona.as_str(), report.settings.len()), ("web@1", 1));
    assert_eq!(told.iter().map(|it| it.event).collect::<Vec<_>>(), ["security.in-force"]);
    assert_eq!(guests.heard().values(), [(web(), [("memory.usage".to_owned(), 0.25)].into())]);

    guests.want(Generation(6), worn(2));
    let (report, _) = until(&mut guests, SecurityState::Unknown).await;
    assert!(report.reason.unwrap().contains("not taken it up"), "what is said of an older version is not of this one");
    let next = inside.want_until(|next| next.generation == Generation(6)).await;
    assert_eq!((next.session, next.security.unwrap().version), (want.session, 2));
    guests.want(Generation(7), BTreeMap::new());
    let next = inside.want_until(|next| next.generation == Generation(7)).await;
    assert_eq!(next.security, None, "who wears nothing is told so");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_says_nonsense_or_answers_somebody_else_is_not_believed() {
    let (folder, stop) = (tempfile::tempdir().unwrap(), CancellationToken::new());
    let path = folder.path().join("port");
    let listener = UnixListener::bind(&path).unwrap();
    let mut guests = start(&path, &stop);
    guests.want(Generation(5), worn(1));
    let mut inside = Inside::accept(&listener).await;
    let want = inside.want().await;
    inside.tell(&want, want.session - 1).await;
    inside.say(&"x".repeat(300 << 10)).await;
    inside.stream.get_mut().write_all(b"\xff\xfe\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(guests.turn().0[0].state, SecurityState::Unknown);
    inside.tell(&want, want.session).await;
    until(&mut guests, SecurityState::InForce).await;
    for _ in 0..80 {
        inside.say("nonsense").await;
    }
    let mut again = Inside::accept(&listener).await;
    assert_ne!(again.want().await.session, want.session, "it hung up, and comes back as somebody new");
}
