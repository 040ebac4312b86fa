//! A process is killed (SIGKILL) between any two writes of a transaction; the next one completes it or puts it back.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use persona_core::limit::{InstanceKind, Knob, Knobs, Record, Surroundings, translate};
use persona_core::wire::limits::LimitState;
use persona_ctl::limits::{
    Backend, CgroupFiles, Instance, Journal, Kept, LimitError, LimitsConfig, MemoryState, Patience, Records,
    Whereabouts, Wish, apply,
};
use persona_tests::sys::{self, Signal};

use super::group::Group;
use super::{assert_in_force, child, six, wears};

/// More writes than any transaction here has.
const WRITE_COUNT_MAX: usize = 24;

#[test]
fn a_kill_between_any_two_writes_is_made_good() {
    let Some(group) = Group::new() else { return };
    let before = group.bytes();
    for at in 0..WRITE_COUNT_MAX {
        let whereabouts = Whereabouts {
            kind: InstanceKind::Processes,
            places: group.places.clone(),
            devices: group.devices.clone(),
            monitor: None,
            unit: None,
        };
        let file = group.state.path().join("whereabouts.json");
        std::fs::write(&file, serde_json::to_vec(&whereabouts).unwrap()).unwrap();
        let variables =
            [("PERSONA_TEST_STATE", group.state.path().display().to_string()), ("PERSONA_TEST_DIE_AT", at.to_string())];
        let status = child::start("limits::killed::writer", &variables).wait().unwrap();
        let was_killed = status.signal() == Some(9);
        assert!(was_killed || status.success(), "write {at}: {status}");
        let mut next = group.limited(LimitsConfig::default());
        next.turn(&Wish::Unknown);
        if was_killed {
            assert_eq!(group.bytes(), before, "killed at write {at}: put back at the start");
        }
        assert_in_force(&next.turn(&wears(six(&group.devices))));
        assert_eq!(next.turn(&Wish::Nothing).state, LimitState::Unlimited);
        assert_eq!(group.bytes(), before, "killed at write {at}");
        if !was_killed {
            println!("a transaction has {at} writes; killed before and after each");
            assert!(at > 4);
            return;
        }
    }
    panic!("a transaction of more than {WRITE_COUNT_MAX} writes");
}

#[test]
#[ignore = "a process that another test starts"]
fn writer() {
    let Some(state) = std::env::var_os("PERSONA_TEST_STATE").map(PathBuf::from) else { return };
    let at = std::env::var("PERSONA_TEST_DIE_AT").unwrap().parse().unwrap();
    let whereabouts: Whereabouts =
        serde_json::from_slice(&std::fs::read(state.join("whereabouts.json")).unwrap()).unwrap();
    write(&state, &whereabouts, at).unwrap();
}

fn write(state: &Path, whereabouts: &Whereabouts, at: usize) -> Result<(), LimitError> {
    let files = CgroupFiles::open(whereabouts.places.clone(), whereabouts.devices.clone(), whereabouts.kind);
    let mut instance = Instance::new(whereabouts.kind, vec![Box::new(Mortal { files, left: at })]);
    let record = Record::of(instance.identity()?);
    let base = instance.observe()?;
    let around = Surroundings { kind: whereabouts.kind, base: &base, page_bytes: 4_096 };
    let wanted = translate(&six(&whereabouts.devices), &around);
    let records = Records::in_directory(state);
    let name = "w".parse().unwrap();
    let mut store =
        |record: &Record| records.store(&name, &Kept { whereabouts: whereabouts.clone(), record: record.clone() });
    let mut journal = Journal { store: &mut store, patience: Patience::default() };
    apply(&mut instance, &record, base, &wanted.knobs, &mut journal).map(drop)
}

/// Control groups whose writer kills itself when it has written so often.
struct Mortal {
    files: CgroupFiles,
    left: usize,
}

impl Backend for Mortal {
    fn name(&self) -> &'static str {
        self.files.name()
    }

    fn identity(&mut self) -> Result<String, LimitError> {
        self.files.identity()
    }

    fn observe(&mut self) -> Result<Knobs, LimitError> {
        self.files.observe()
    }

    fn read(&mut self, knob: &Knob) -> Result<Option<String>, LimitError> {
        self.files.read(knob)
    }

    fn write(&mut self, knob: &Knob, value: &str) -> Result<bool, LimitError> {
        if self.left == 0 {
            sys::kill(std::process::id(), Signal::Kill).unwrap();
            std::thread::sleep(std::time::Duration::from_secs(60));
        }
        self.left -= 1;
        self.files.write(knob, value)
    }

    fn memory(&mut self) -> Result<Option<MemoryState>, LimitError> {
        self.files.memory()
    }
}
