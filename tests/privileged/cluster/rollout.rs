//! A rollout of a version that forgets a protocol, on two real nodes with traffic: it halts at the first wave by what the data
//! path counts, the others notice nothing, and a rollback mends it. The right version goes through.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use persona_core::rollout::Phase;
use persona_core::wire::api::{Explanation, PersonaView};
use persona_core::wire::rollouts::RolloutView;
use persona_tests::findings::Findings;
use persona_tests::load::echo::{EchoClient, EchoCount};
use persona_tests::netns::Namespace;
use persona_tests::world::{Hook, SECOND_NODE, World};

use super::{PERSONA, W3, check, start};

/// What forgets UDP.
const MISTAKE: &str = "protocols: [tcp, icmp]";
const RIGHT: &str = "protocols: [tcp, udp, icmp]";

/// How the rollouts go: a third first.
const WAVES: &str = "30%,100%";
const SOAK: &str = "6s";

/// How long a step may take.
const STEP_TIME: Duration = Duration::from_secs(60);

const SUBJECTS: [&str; 3] = ["workload/n1/w1", "workload/n1/w2", "workload/n2/w3"];

#[test]
fn a_version_that_drops_halts_at_the_first_wave_and_is_taken_back() {
    check(Hook::Auto, |world, findings| {
        start(world, findings);
        if findings.all_ok() {
            findings.run("rollout", |findings| run(world, findings));
        }
    });
}

fn run(world: &mut World, findings: &mut Findings) -> Result<()> {
    world.apply("rollout.yaml", PERSONA)?;
    world.add_node(SECOND_NODE, &[W3])?;
    for subject in SUBJECTS {
        let in_force = |answer: &Explanation| answer.assignment.in_force && answer.lease.is_some();
        world.ctl.wait_for("a lease", &["explain", subject], STEP_TIME, in_force)?;
    }
    let talks: Vec<Talk> = ["w1", "w2", "w3"].iter().map(|name| Talk::start(world.workload(name))).collect();

    let halted = roll_out(world, "mistake", &PERSONA.replace(RIGHT, MISTAKE), Phase::Halted)?;
    let reason = halted.reason.clone().unwrap_or_default();
    findings.note("the first wave halts it", &reason, reason.contains("protocol-denied"));
    let moved: Vec<String> = halted.moved_subjects.iter().map(ToString::to_string).collect();
    findings.note("one of three was moved", moved.join(", "), moved.len() == 1 && halted.wave == 1);
    let versions = versions(world)?;
    let is_apart = versions.iter().zip(SUBJECTS).all(|(version, subject)| (*version == 3) == (moved[0] == subject));
    findings.note("the others wear what they wore", format!("{versions:?}"), is_apart);

    world.ctl.text(&["rollout", "rollback", "mistake", "--reason", "UDP is missing"])?;
    let back = |answer: &Explanation| answer.assignment.in_force && version_of(answer) == 2;
    world.ctl.wait_for("the version of before", &["explain", &moved[0]], STEP_TIME, back)?;
    let client = EchoClient::start(world.workload(workload_of(&moved[0])), 100)?;
    std::thread::sleep(Duration::from_secs(2));
    let count = client.finish();
    findings.note("a rollback mends it", format!("{} of {} lost", count.lost(), count.sent), count.lost() == 0);

    let done = roll_out(world, "right", &PERSONA.replace("mtu: 1400", "mtu: 1380"), Phase::Done)?;
    findings.note("the right one goes through", format!("{} of {}", done.moved, done.members), done.moved == 3);
    let persona: PersonaView = world.ctl.json(&["persona", "get", "frankfurt-standard"])?;
    findings.note("and is in force for everybody", format!("version {}", persona.version), persona.version == 4);
    for (talk, subject) in talks.into_iter().zip(SUBJECTS) {
        let count = talk.finish()?;
        let is_whole = count.lost() == 0 || moved[0] == subject;
        findings.note(
            format!("{subject} notices nothing of it"),
            format!("{} of {} lost", count.lost(), count.sent),
            is_whole,
        );
    }
    Ok(())
}

/// Begins a rollout of a document, and waits for what it comes to.
fn roll_out(world: &World, name: &str, document: &str, expected: Phase) -> Result<RolloutView> {
    let path = world.path(&format!("{name}.yaml"));
    std::fs::write(&path, document).with_context(|| format!("{} cannot be written", path.display()))?;
    let file = path.display().to_string();
    let started: RolloutView =
        world.ctl.json(&["rollout", "start", "-f", &file, "--name", name, "--waves", WAVES, "--soak", SOAK])?;
    ensure!(started.members == 3, "{} subjects are members, not three", started.members);
    let is_there = |view: &RolloutView| !view.phase.is_running();
    let (view, _) = world.ctl.wait_for("the end of the rollout", &["rollout", "show", name], STEP_TIME, is_there)?;
    ensure!(view.phase == expected, "the rollout is {}: {:?}", view.phase, view.reason);
    Ok(view)
}

fn versions(world: &World) -> Result<Vec<u32>> {
    SUBJECTS.iter().map(|subject| Ok(version_of(&world.ctl.json::<Explanation>(&["explain", subject])?))).collect()
}

fn version_of(explanation: &Explanation) -> u32 {
    explanation.assignment.sections.get("network").map_or(0, |section| section.version)
}

fn workload_of(subject: &str) -> &str {
    subject.rsplit('/').next().unwrap_or_default()
}

/// UDP to the internet host, a new flow about twice a second.
struct Talk {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<EchoCount>>,
}

impl Talk {
    fn start(inside: &Namespace) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (inside, stopped) = (inside.clone(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut all = EchoCount { sent: 0, returned: 0, worst_gap: Duration::ZERO };
            while !stopped.load(Ordering::Relaxed) {
                let client = EchoClient::start(&inside, 50)?;
                std::thread::sleep(Duration::from_millis(500));
                let count = client.finish();
                (all.sent, all.returned) = (all.sent + count.sent, all.returned + count.returned);
            }
            Ok(all)
        });
        Self { stop, thread }
    }

    fn finish(self) -> Result<EchoCount> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the sender does not panic")
    }
}
