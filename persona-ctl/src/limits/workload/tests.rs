//! A workload in a folder that looks like a control group.

use std::path::Path;

use persona_core::limit::Limits;

use super::super::config::Source;
use super::*;

const FILES: [(&str, &str); 7] = [
    ("cgroup.procs", "4194304\n"), // no process can have that number
    ("cpu.max", "max 100000\n"),
    ("cpu.weight", "100\n"),
    ("memory.current", "1048576\n"),
    ("memory.events", "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\n"),
    ("memory.max", "max\n"),
    ("pids.max", "max\n"),
];

struct Place {
    root: tempfile::TempDir,
    drift: Drift,
}

impl Place {
    fn new(drift: Drift) -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("cgroup/web")).unwrap();
        std::fs::write(root.path().join("cgroup/cgroup.controllers"), "cpu memory pids\n").unwrap();
        FILES.iter().for_each(|(name, text)| std::fs::write(root.path().join("cgroup/web").join(name), text).unwrap());
        Self { root, drift }
    }

    fn limited(&self) -> Limited {
        let config = LimitsConfig {
            drift: self.drift,
            shrink_secs: 0,
            cgroup_root: self.root.path().join("cgroup"),
            sys_block: self.root.path().join("block"),
        };
        let records = Records::in_directory(&self.root.path().join("state"));
        let instance = InstanceConfig { source: Source::Cgroup("/web".into()), io_devices: Vec::new() };
        Limited::new("web".parse().unwrap(), Some(instance), Arc::new(Common::new(config, records)))
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.group().join(file)).unwrap().trim().to_owned()
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.group().join(file), text).unwrap();
    }

    fn group(&self) -> std::path::PathBuf {
        self.root.path().join("cgroup/web")
    }

    fn has_record(&self) -> bool {
        Path::new(&self.root.path().join("state/limits/web.json")).exists()
    }
}

fn wears(weight: u32, pids: Option<u64>) -> Wish {
    let limits = Limits {
        cpu_us_per_sec: Some(500_000),
        cpu_weight: Some(weight),
        memory_max_bytes: Some(64 << 20),
        pids_max: pids,
        ..Limits::default()
    };
    Wish::Wears(SubjectResources { persona: "small".parse().unwrap(), version: 3, limits })
}

fn events(limited: &mut Limited) -> Vec<&'static str> {
    limited.take_told().into_iter().map(|told| told.event).collect()
}

#[test]
fn limits_come_into_force_and_go_back_to_what_was_there() {
    let place = Place::new(Drift::Repair);
    let mut limited = place.limited();
    let report = limited.turn(&wears(200, Some(512)));
    assert_eq!((report.state, report.reason), (LimitState::InForce, None));
    assert_eq!((report.actual, report.persona.as_deref()), (report.wanted, Some("small@3")));
    assert_eq!([place.read("cpu.max"), place.read("memory.max")], ["50000 100000", "67108864"]);
    limited.turn(&wears(300, None));
    assert_eq!(
        [place.read("cpu.weight"), place.read("pids.max")],
        ["300", "max"],
        "what is not wanted any more goes back"
    );
    assert!(place.has_record());
    assert_eq!(limited.turn(&Wish::Nothing).state, LimitState::Unlimited);
    for (file, text) in FILES {
        assert_eq!(place.read(file), text.trim(), "{file}");
    }
    assert!(!place.has_record());
    assert_eq!(events(&mut limited), ["limits.applied", "limits.applied", "limits.reverted"]);
}

#[test]
fn a_new_process_takes_up_the_record_and_waits_to_be_told() {
    let place = Place::new(Drift::Repair);
    place.limited().turn(&wears(200, None));
    let mut next = place.limited();
    next.turn(&Wish::Unknown);
    assert_eq!(place.read("cpu.weight"), "200", "an agent that stops or starts changes nothing");
    let mut orphan = Limited { instance: None, ..place.limited() };
    orphan.turn(&Wish::Nothing);
    assert_eq!(place.read("cpu.weight"), "100", "a workload that left the configuration goes back");
}

#[test]
fn another_instance_in_the_configuration_leaves_nothing_behind_on_the_old_one() {
    let place = Place::new(Drift::Repair);
    place.limited().turn(&wears(200, None));
    let other = place.root.path().join("cgroup/other");
    std::fs::create_dir(&other).unwrap();
    FILES.iter().for_each(|(name, text)| std::fs::write(other.join(name), text).unwrap());
    let mut next = place.limited();
    next.instance = Some(InstanceConfig { source: Source::Cgroup("/other".into()), io_devices: Vec::new() });
    assert_eq!(next.turn(&wears(200, None)).state, LimitState::InForce);
    assert_eq!(place.read("cpu.weight"), "100");
    assert_eq!(std::fs::read_to_string(other.join("cpu.weight")).unwrap(), "200");
}

#[test]
fn a_tree_that_is_not_mounted_is_no_proof_that_the_instance_is_gone() {
    let place = Place::new(Drift::Repair);
    place.limited().turn(&wears(200, None));
    let (here, away) = (place.root.path().join("cgroup"), place.root.path().join("away"));
    std::fs::rename(&here, &away).unwrap();
    let report = Limited { instance: None, ..place.limited() }.turn(&Wish::Nothing);
    assert_eq!(report.state, LimitState::Failed);
    assert!(report.reason.unwrap().contains("no control groups are mounted"));
    std::fs::rename(&away, &here).unwrap();
    assert_eq!(Limited { instance: None, ..place.limited() }.turn(&Wish::Nothing).state, LimitState::Unlimited);
    assert_eq!(place.read("cpu.weight"), "100");
}

#[test]
fn what_others_change_is_put_back_and_told() {
    let place = Place::new(Drift::Repair);
    let mut limited = place.limited();
    limited.turn(&wears(200, None));
    events(&mut limited);
    place.write("cpu.weight", "7");
    place.write("pids.max", "9");
    assert_eq!(limited.turn(&wears(200, None)).state, LimitState::InForce);
    assert_eq!([place.read("cpu.weight"), place.read("pids.max")], ["200", "9"], "others' own knobs are theirs");
    let told = limited.take_told();
    assert_eq!(told.len(), 1);
    assert!(told[0].message.contains("cpu.weight from 200 to 7"), "{told:?}");
}

#[test]
fn by_policy_it_is_told_and_left_until_the_persona_changes() {
    let place = Place::new(Drift::Report);
    let mut limited = place.limited();
    limited.turn(&wears(200, None));
    place.write("cpu.weight", "7");
    for _turn in 0..2 {
        let report = limited.turn(&wears(200, None));
        assert_eq!((report.state, report.actual.cpu_weight), (LimitState::Changed, Some(7)));
    }
    assert_eq!(place.read("cpu.weight"), "7");
    limited.turn(&wears(300, None));
    assert_eq!(place.read("cpu.weight"), "300");
}

#[test]
fn memory_in_use_is_told_and_nothing_is_half_done() {
    let place = Place::new(Drift::Repair);
    place.write("memory.current", "99999999\n");
    let mut limited = place.limited();
    for _turn in 0..3 {
        let report = limited.turn(&wears(200, None));
        assert_eq!(report.state, LimitState::Failed);
        assert!(report.reason.unwrap().contains("99999999 bytes are in use"));
    }
    assert_eq!([place.read("cpu.weight"), place.read("memory.max")], ["100", "max"]);
    assert_eq!(events(&mut limited), ["limits.failed"], "told once");
    place.write("memory.current", "1\n");
    assert_eq!(limited.turn(&wears(201, None)).state, LimitState::InForce, "something else is tried at once");
}

#[test]
fn an_instance_that_is_made_anew_is_limited_anew() {
    let place = Place::new(Drift::Repair);
    let mut limited = place.limited();
    limited.turn(&wears(200, None));
    std::fs::rename(place.group(), place.root.path().join("old")).unwrap();
    let report = limited.turn(&wears(200, None));
    assert_eq!(report.state, LimitState::Failed, "it is gone");
    std::fs::create_dir(place.group()).unwrap();
    FILES.iter().for_each(|(name, text)| place.write(name, text));
    assert_eq!(limited.turn(&wears(201, None)).state, LimitState::InForce);
    assert_eq!(place.read("cpu.weight"), "201");
}

#[test]
fn a_workload_is_settled_until_somebody_writes_or_something_else_is_wanted() {
    let place = Place::new(Drift::Repair);
    let (mut limited, wish) = (place.limited(), wears(300, Some(9)));
    let is_settled = |limited: &mut Limited, wish: &Wish| {
        limited.common.read_writes();
        limited.is_settled(wish)
    };
    assert!(!is_settled(&mut limited, &wish), "nobody has looked yet");
    limited.turn(&wish);
    assert!(is_settled(&mut limited, &wish) && is_settled(&mut limited, &wish), "we have written ourselves");
    assert!(!is_settled(&mut limited, &wears(400, Some(9))) && !is_settled(&mut limited, &Wish::Nothing));
    place.write("pids.max", "7");
    assert!(!is_settled(&mut limited, &wish));
    limited.turn(&wish);
    assert_eq!(place.read("pids.max"), "9");
    assert!(is_settled(&mut limited, &wish));
    place.write("pids.max", "9\n");
    assert!(is_settled(&mut limited, &wish), "what was written is what there was");
    place.write("memory.max", "max");
    assert!(!is_settled(&mut limited, &wish));
    limited.turn(&wish);
    assert!(is_settled(&mut limited, &wish));
    std::fs::remove_dir_all(place.group()).unwrap();
    assert!(!is_settled(&mut limited, &wish), "it is gone");
}

#[test]
fn who_wears_nothing_rests_and_others_knobs_are_seen() {
    let place = Place::new(Drift::Repair);
    let mut limited = place.limited();
    assert!(!limited.is_settled(&Wish::Nothing), "there may be a record of an earlier process");
    limited.turn(&Wish::Nothing);
    assert!(limited.is_settled(&Wish::Nothing) && !limited.is_settled(&wears(200, None)));
    let own = Limits { cpu_weight: Some(200), ..Limits::default() };
    let wish = Wish::Wears(SubjectResources { persona: "small".parse().unwrap(), version: 3, limits: own });
    let is_settled = |limited: &mut Limited, wish: &Wish| {
        limited.common.read_writes();
        limited.is_settled(wish)
    };
    limited.turn(&wish);
    assert!(is_settled(&mut limited, &wish));
    place.write("pids.max", "9");
    assert!(!is_settled(&mut limited, &wish), "no knob of ours, but what there is has changed");
    assert_eq!(limited.turn(&wish).actual.pids_max, Some(9));
    assert!(is_settled(&mut limited, &wish) && !is_settled(&mut limited, &Wish::Nothing));
    assert_eq!(limited.turn(&Wish::Nothing).state, LimitState::Unlimited);
    assert!(is_settled(&mut limited, &Wish::Nothing), "put back, it rests");
    assert_eq!(limited.turn(&Wish::Nothing).state, LimitState::Unlimited);
    limited.turn(&wish);
    assert_eq!(place.read("cpu.weight"), "200");
    assert_eq!(events(&mut limited), ["limits.applied", "limits.reverted", "limits.applied"]);
}
