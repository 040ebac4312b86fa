//! A process that holds a data plane and is killed: what it attached stays.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use persona_ctl::dataplane::{Coexistence, EdgeDataplane, EdgeOptions, Hook, PacketLogging};

use super::place::{INSIDE, OUTSIDE, Place};
use crate::programs::world::is_privileged;

/// Where the process below finds what to open; without it, it is no test.
const HOLDER: &str = "PERSONA_TEST_HOLDER";

#[test]
fn sigkill_keeps_programs_and_the_next_start_takes_over() {
    if !is_privileged() {
        return;
    }
    let place = Place::new();
    for hook in [Hook::Tc, Hook::Xdp] {
        let attached = |place: &Place| match hook {
            Hook::Xdp => [INSIDE, OUTSIDE].map(|device| place.xdp_program(device).unwrap() as u32),
            _ => place.only_programs(),
        };
        kill_holder(&place, hook);
        let left = attached(&place);
        drop(place.open(hook));
        let next = attached(&place);
        assert!(left.iter().all(|id| !next.contains(id)), "{left:?} was replaced by {next:?}");
        kill_holder(&place, hook);
        attached(&place);
    }
}

/// Starts this binary as the holder, waits until it holds, and kills it.
fn kill_holder(place: &Place, hook: Hook) {
    let (inside, outside) = (place.ifindex(INSIDE), place.ifindex(OUTSIDE));
    let name = if hook == Hook::Xdp { "xdp" } else { "tc" };
    let what = format!("{} {inside} {outside} {name}", place.bpffs().display());
    let program = std::env::current_exe().unwrap();
    // The test binary enters the namespace by itself, and the mount is seen as we see it.
    let mut command: Command = place.host.command(&program.display().to_string()).unwrap();
    command.args(["--exact", "lifecycle::holder::holds_until_it_is_killed", "--ignored", "--nocapture"]);
    let mut child = command.env(HOLDER, what).stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let holds = output.lines().map_while(Result::ok).any(|line| line.contains("it holds"));
    assert!(holds, "the holder ended: {:?}", child.wait());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
#[ignore = "a process for the test above, not a test"]
fn holds_until_it_is_killed() {
    let Ok(what) = std::env::var(HOLDER) else { return };
    let words: Vec<&str> = what.split(' ').collect();
    let [bpffs, inside, outside, hook] = words[..] else { panic!("{what}") };
    let options = EdgeOptions {
        bpffs: bpffs.into(),
        inside: inside.parse().unwrap(),
        outside: outside.parse().unwrap(),
        hook: if hook == "xdp" { Hook::Xdp } else { Hook::Tc },
        coexist: Coexistence::default(),
        logging: PacketLogging::Off,
    };
    let _edge = EdgeDataplane::open(&options).unwrap();
    println!("it holds");
    loop {
        std::thread::park();
    }
}
