//! A judge at the server: while leases change hands (switches back and forth, an edge cut off and back, a node deleted),
//! each packet that arrives comes from a block that its sender's subject held at that moment, and no answer reaches anybody
//! else.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use persona_core::wire::api::{Explanation, LeaseView};
use persona_tests::ctl::patient;
use persona_tests::findings::Findings;
use persona_tests::netns::Namespace;
use persona_tests::steps::switch::switch_to;
use persona_tests::sys;
use persona_tests::world::{Hook, INTERNET_ADDRESS, LinkState, SECOND_NODE, World};

use super::{W3, check, start};

/// Seven leases fit, so that what one subject gives back another soon has.
const DOCUMENTS: &str = "
apiVersion: persona/v1
kind: EgressPool
metadata: { name: small }
spec: { addresses: [203.0.113.128/31], group: frankfurt, quarantine: 1s }
---
apiVersion: persona/v1
kind: Persona
metadata: { name: one }
spec:
  network:
    egress: { pools: [small], portsPerSubject: 16384 }
    mtu: 1400
    edges: { group: frankfurt }
---
apiVersion: persona/v1
kind: Persona
metadata: { name: other }
spec:
  network:
    egress: { pools: [small], portsPerSubject: 16384 }
    mtu: 1400
    edges: { group: frankfurt }
---
apiVersion: persona/v1
kind: Binding
metadata: { name: workloads }
spec:
  selector: { kind: workload }
  personas: [one, other]
  default: one
";

/// Who sends.
const SUBJECTS: [&str; 3] = ["workload/n1/w1", "workload/n1/w2", "workload/n2/w3"];

/// Where the judge listens.
const PORT: u16 = 7_781;

/// Sockets that a workload has at a time, packets that each sends before another takes its place, and the pause between.
const SOCKET_COUNT: usize = 8;
const PACKETS_PER_SOCKET: u64 = 40;
const PAUSE: Duration = Duration::from_millis(3);

/// UDP flows are forgotten after less.
const AFTER_UDP_SECS: u32 = 400;

/// Long enough for every socket that was there before to be replaced.
const OLD_SOCKETS_TIME: Duration = Duration::from_millis(1_200);

/// Rounds of switches.
const ROUND_COUNT: u32 = 7;

/// How long what a step waits for may take.
const STEP_TIME: Duration = Duration::from_secs(20);

/// The judge's clock is read when a packet has been received, the manager's before it tells anybody.
const CLOCK_SLACK_MS: u64 = 50;

#[test]
fn a_block_never_goes_to_the_wrong_subject() {
    check(Hook::Auto, |world, findings| {
        start(world, findings);
        if !findings.all_ok() {
            return; // nothing that follows could say anything
        }
        findings.run("judge", |findings| {
            world.add_node(SECOND_NODE, &[W3])?;
            world.apply("small.yaml", DOCUMENTS)?;
            judge(world, findings)
        });
        findings.run("logs", |findings| destinations_are_in_no_log(world, findings));
    });
}

/// RFC 6888 REQ-12: after all that traffic to one server, nothing that is kept names it.
fn destinations_are_in_no_log(world: &World, findings: &mut Findings) -> Result<()> {
    for name in ["manager", "n1", "n2", "fra1", "fra2"] {
        let text = std::fs::read_to_string(world.path(&format!("{name}.log")))?;
        let lines: Vec<&str> = text.lines().filter(|line| line.contains(INTERNET_ADDRESS)).collect();
        let is_silent = lines.is_empty() && !text.is_empty();
        findings.note(format!("{name}'s log names no destination"), lines.join("; "), is_silent);
    }
    let events = world.ctl.text(&["events", "--output", "json"])?;
    let measured = format!("{} events", events.matches("timeMs").count());
    let is_silent = !events.contains(INTERNET_ADDRESS) && events.contains("lease.granted");
    findings.note("nor do the events", measured, is_silent);
    Ok(())
}

fn judge(world: &World, findings: &mut Findings) -> Result<()> {
    for subject in SUBJECTS {
        let has_lease = |answer: &Explanation| answer.assignment.in_force && answer.lease.is_some();
        world.ctl.wait_for("the subject", &["explain", subject], STEP_TIME, has_lease)?;
        switch_to(world, subject, "one")?;
        world.ctl.wait_for("a lease", &["explain", subject], STEP_TIME, has_lease)?;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let server = Server::start(&world.namespaces.internet, &stop)?;
    let senders = SUBJECTS.map(|subject| Sender::start(world, subject, &stop));
    let mut history = History::default();
    churn(world, &mut history)?;
    stop.store(true, Ordering::Relaxed);
    let mut foreign = 0;
    for sender in senders {
        let (subject, returned, misdelivered) = sender?.finish();
        foreign += misdelivered;
        findings.note(format!("{subject} gets answers"), returned.to_string(), returned > 500);
    }
    findings.note("nobody gets another's answer", foreign.to_string(), foreign == 0);
    history.close(world)?;
    let seen = server.thread.join().expect("the judge's thread does not panic");
    let wrong: Vec<&Seen> = seen.iter().filter(|packet| !history.allows(packet)).collect();
    let measured = format!("{} of {} packets not: {:?}", wrong.len(), seen.len(), wrong.first());
    findings.note("each packet comes from a block that its sender held then", measured, wrong.is_empty());
    let reused = history.reused();
    findings.note("blocks changed hands meanwhile", format!("{reused} times, {} leases", history.0.len()), reused > 0);
    Ok(())
}

fn churn(world: &World, history: &mut History) -> Result<()> {
    for round in 0..ROUND_COUNT {
        let persona = if round % 2 == 0 { "other" } else { "one" };
        // Subjects of a node that was deleted are nobody's any more.
        let subjects = if round < 5 { &SUBJECTS[..] } else { &SUBJECTS[..2] };
        for subject in subjects {
            switch_once_there_is_room(world, history, subject, persona).with_context(|| format!("round {round}"))?;
        }
        match round {
            1 => world.namespaces.set_edge_links("fra1", LinkState::Cut)?,
            3 => world.namespaces.set_edge_links("fra1", LinkState::Whole)?,
            4 => drop(world.ctl.text(&["node", "delete", "n2", "--force", "--reason", "a test"])?),
            _ => {}
        }
        std::thread::sleep(OLD_SOCKETS_TIME);
        world.age_flows(AFTER_UDP_SECS)?;
        for _look in 0..9 {
            std::thread::sleep(Duration::from_millis(250));
            history.look(world)?;
        }
    }
    Ok(())
}

/// Switches a subject; where the pool is full, what the last round gave up is still resting on a slow machine.
fn switch_once_there_is_room(world: &World, history: &mut History, subject: &str, persona: &str) -> Result<()> {
    let start = Instant::now();
    loop {
        let switched = world.ctl.text(&["switch", subject, persona]);
        history.look(world)?;
        match switched {
            Err(error)
                if format!("{error:#}").contains("pool small is full") && start.elapsed() < patient(STEP_TIME) =>
            {
                std::thread::sleep(Duration::from_millis(250));
            }
            switched => return switched.map(drop),
        }
    }
}

/// A lease and when it was anybody's, milliseconds of the manager's clock.
struct Held {
    lease: LeaseView,
    from_ms: u64,
    /// When every edge had let go of it.
    until_ms: u64,
}

/// Leases by number.
#[derive(Default)]
struct History(BTreeMap<String, Held>);

impl History {
    /// Notes leases that are new.
    fn look(&mut self, world: &World) -> Result<()> {
        for lease in world.ctl.list::<LeaseView>(&["lease", "list"])? {
            let held = |lease| Held { lease, from_ms: u64::MAX, until_ms: u64::MAX };
            self.0.entry(format!("lease/{}", lease.id)).or_insert_with(|| held(lease));
        }
        Ok(())
    }

    /// Takes the times out of the event log.
    fn close(&mut self, world: &World) -> Result<()> {
        self.look(world)?;
        for event in world.ctl.list::<persona_core::wire::api::EventView>(&["events"])? {
            let Some(held) = self.0.get_mut(&event.about) else { continue };
            match event.name.as_str() {
                "lease.granted" => held.from_ms = event.time_ms,
                "lease.quarantine" => held.until_ms = event.time_ms,
                _ => {}
            }
        }
        Ok(())
    }

    fn allows(&self, packet: &Seen) -> bool {
        self.0.values().any(|held| {
            let is_theirs = held.lease.subject.to_string() == packet.subject;
            let has_port = held.lease.ports.iter().any(|(first, last)| (*first..=*last).contains(&packet.from.port()));
            let is_then =
                held.from_ms <= packet.time_ms && packet.time_ms <= held.until_ms.saturating_add(CLOCK_SLACK_MS);
            is_theirs && is_then && has_port && held.lease.space.address().map(IpAddr::V4) == Some(packet.from.ip())
        })
    }

    /// Pairs of leases of different subjects that had ports in common, one after the other.
    fn reused(&self) -> usize {
        let all: Vec<&Held> = self.0.values().collect();
        let pairs = all.iter().enumerate().flat_map(|(index, one)| all[..index].iter().map(move |two| (one, two)));
        let share = |one: &Held, two: &Held| {
            let mut ports = one.lease.ports.iter();
            one.lease.space.address() == two.lease.space.address()
                && one.lease.subject != two.lease.subject
                && ports.any(|(first, last)| two.lease.ports.iter().any(|(from, to)| first <= to && from <= last))
        };
        pairs.filter(|(one, two)| share(one, two)).count()
    }
}

/// A packet that arrived.
#[derive(Debug)]
struct Seen {
    time_ms: u64,
    from: SocketAddr,
    subject: String,
}

/// Writes down who says to have sent what from where, and sends it back.
struct Server {
    thread: JoinHandle<Vec<Seen>>,
}

impl Server {
    fn start(inside: &Namespace, stop: &Arc<AtomicBool>) -> Result<Self> {
        let socket = inside.run_inside(|| UdpSocket::bind(("0.0.0.0", PORT)))??;
        sys::enlarge_receive_buffer(&socket)?;
        socket.set_read_timeout(Some(Duration::from_millis(300)))?;
        let stop = Arc::clone(stop);
        let thread = std::thread::spawn(move || {
            let (mut seen, mut buffer) = (Vec::new(), [0; 128]);
            loop {
                match socket.recv_from(&mut buffer) {
                    Ok((length, from)) => {
                        let time_ms = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
                        let subject = String::from_utf8_lossy(&buffer[..length]).into_owned();
                        seen.push(Seen { time_ms: time_ms as u64, from, subject });
                        socket.send_to(&buffer[..length], from).ok(); // a lost answer says nothing here
                    }
                    Err(_) if stop.load(Ordering::Relaxed) => return seen,
                    Err(_) => {}
                }
            }
        });
        Ok(Self { thread })
    }
}

/// A workload that says who it is, by ever new flows.
struct Sender {
    subject: &'static str,
    counts: Arc<[AtomicU64; 2]>,
    thread: JoinHandle<()>,
}

impl Sender {
    fn start(world: &World, subject: &'static str, stop: &Arc<AtomicBool>) -> Result<Self> {
        let name = subject.rsplit('/').next().context("a subject's last part is its name")?;
        let (inside, stop) = (world.workload(name).clone(), Arc::clone(stop));
        let counts = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let shared = Arc::clone(&counts);
        let thread = std::thread::spawn(move || {
            inside.run_inside(|| send(subject, &stop, &shared)).expect("the namespace is there");
        });
        Ok(Self { subject, counts, thread })
    }

    /// Who, answers of its own, and answers of others.
    fn finish(self) -> (&'static str, u64, u64) {
        self.thread.join().expect("the sender does not panic");
        let [own, foreign] = &*self.counts;
        (self.subject, own.load(Ordering::Relaxed), foreign.load(Ordering::Relaxed))
    }
}

fn send(subject: &str, stop: &AtomicBool, [own, foreign]: &[AtomicU64; 2]) {
    let open = || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a port is free");
        socket.connect((INTERNET_ADDRESS, PORT)).expect("a route to the internet");
        socket.set_nonblocking(true).expect("a socket can be asked not to wait");
        socket
    };
    let mut sockets: Vec<UdpSocket> = (0..SOCKET_COUNT).map(|_| open()).collect();
    let mut buffer = [0; 128];
    for number in 0u64.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let index = number as usize % SOCKET_COUNT;
        if (number / SOCKET_COUNT as u64) % PACKETS_PER_SOCKET == index as u64 {
            sockets[index] = open();
        }
        sockets[index].send(subject.as_bytes()).ok(); // refused while there is no edge
        while let Ok(length) = sockets[index].recv(&mut buffer) {
            let count = if buffer[..length] == *subject.as_bytes() { own } else { foreign };
            count.fetch_add(1, Ordering::Relaxed);
        }
        std::thread::sleep(PAUSE);
    }
}
