//! Transactions on an instance in memory that fails, or dies, at any write.

use std::sync::{Arc, Mutex};

use persona_core::limit::{InstanceKind, Knob};
use proptest::prelude::*;

use super::super::backend::{Backend, MemoryState};
use super::super::progress::Progress;
use super::*;

/// What an instance in memory is like.
#[derive(Debug, Default)]
struct World {
    knobs: Knobs,
    used_bytes: u64,
    /// How far its processes are, and what each look finds them further.
    progress: Progress,
    step: Progress,
    /// Writes until one is refused.
    refused_at: Option<usize>,
    /// Writes until the process is dead: nothing works any more.
    dead_at: Option<usize>,
    write_count: usize,
    record: Option<Record>,
    log: Vec<String>,
}

#[derive(Clone)]
struct Fake(Arc<Mutex<World>>);

fn broken(what: &str) -> LimitError {
    LimitError::Monitor { path: "fake".into(), what: what.to_owned() }
}

impl Fake {
    fn of(pairs: &[(&str, &str)]) -> Self {
        let knobs = pairs.iter().map(|(name, value)| (Knob::new(name), (*value).to_owned())).collect();
        Self(Arc::new(Mutex::new(World { knobs, ..World::default() })))
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut World) -> T) -> T {
        use_it(&mut self.0.lock().unwrap())
    }

    fn alive<T>(&self, use_it: impl FnOnce(&mut World) -> T) -> Result<T, LimitError> {
        self.with(|world| match world.dead_at {
            Some(at) if world.write_count >= at => Err(broken("dead")),
            _ => Ok(use_it(world)),
        })
    }

    fn apply(&self, wanted: &[(&str, &str)]) -> Result<usize, LimitError> {
        let wanted = wanted.iter().map(|(name, value)| (Knob::new(name), (*value).to_owned())).collect();
        let record = self.with(|world| world.record.clone()).unwrap_or_else(|| Record::of("fake".into()));
        let mut store = |record: &Record| self.alive(|world| world.record = Some(record.clone()));
        let patience = Patience { shrink: Duration::from_millis(20), settle: Duration::ZERO };
        let mut journal = Journal { store: &mut store, patience };
        let mut instance = Instance::new(InstanceKind::Processes, vec![Box::new(self.clone())]);
        let record = recover(&mut instance, &record, &mut journal)?;
        let observed = instance.observe()?;
        apply(&mut instance, &record, observed, &wanted, &mut journal).map(|applied| applied.step_count)
    }

    fn knobs(&self) -> Knobs {
        self.with(|world| world.knobs.clone())
    }
}

impl Backend for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn identity(&mut self) -> Result<String, LimitError> {
        Ok("fake".to_owned())
    }

    fn observe(&mut self) -> Result<Knobs, LimitError> {
        self.alive(|world| world.knobs.clone())
    }

    fn read(&mut self, knob: &Knob) -> Result<Option<String>, LimitError> {
        self.alive(|world| world.knobs.get(knob).cloned())
    }

    fn write(&mut self, knob: &Knob, value: &str) -> Result<bool, LimitError> {
        let is_refused = self.alive(|world| {
            world.write_count += 1;
            world.refused_at == Some(world.write_count)
        })?;
        if is_refused {
            return Err(broken("refused"));
        }
        // A process that dies after its write has written.
        self.with(|world| {
            world.log.push(format!("{knob}={value}"));
            world.knobs.insert(knob.clone(), value.to_owned()).map(|_| true).ok_or_else(|| broken("no such knob"))
        })
    }

    fn memory(&mut self) -> Result<Option<MemoryState>, LimitError> {
        self.alive(|world| {
            let used_bytes = world.used_bytes;
            Some(MemoryState { used_bytes, peak_bytes: used_bytes, has_waiting: false })
        })
    }

    fn progress(&mut self) -> Option<Progress> {
        let further = |world: &mut World| {
            world.progress.ran_ns += world.step.ran_ns;
            world.progress.waited_ns += world.step.waited_ns;
            world.progress.fault_count += world.step.fault_count;
            world.progress
        };
        self.alive(further).ok()
    }
}

const BEFORE: [(&str, &str); 5] = [
    ("cpu.max", "max 100000"),
    ("cpu.weight", "100"),
    ("memory.high", "max"),
    ("memory.max", "max"),
    ("pids.max", "max"),
];
const WANTED: [(&str, &str); 4] =
    [("cpu.max", "50000 100000"), ("cpu.weight", "200"), ("memory.max", "67108864"), ("pids.max", "512")];

#[test]
fn what_is_in_force_is_not_written_again() {
    let fake = Fake::of(&BEFORE);
    assert_eq!(fake.apply(&WANTED).unwrap(), 7);
    assert_eq!(fake.apply(&WANTED).unwrap(), 0);
    assert_eq!(fake.apply(&[]).unwrap(), 4, "memory that grows needs no care");
    assert_eq!(fake.knobs(), Fake::of(&BEFORE).knobs());
}

#[test]
fn a_step_that_fails_is_named_and_everything_is_as_before() {
    for at in 1..=6 {
        let fake = Fake::of(&BEFORE);
        fake.with(|world| world.refused_at = Some(at));
        let error = fake.apply(&WANTED).unwrap_err();
        assert!(matches!(error, LimitError::Step { .. }), "{at}: {error}");
        assert!(error.to_string().contains(" = "), "{error}");
        assert_eq!(fake.knobs(), Fake::of(&BEFORE).knobs(), "{at}");
        assert_eq!(fake.apply(&WANTED).unwrap(), 7, "{at}");
    }
}

#[test]
fn memory_that_does_not_shrink_changes_nothing_at_all() {
    let fake = Fake::of(&BEFORE);
    fake.with(|world| world.used_bytes = 80 << 20);
    let error = crate::host::error_chain(&fake.apply(&WANTED).unwrap_err());
    assert!(error.contains("did not shrink") && error.contains("83886080"), "{error}");
    assert_eq!(fake.knobs(), Fake::of(&BEFORE).knobs());
    let log = fake.with(|world| world.log.clone());
    assert_eq!(log, ["memory.high=62914560", "memory.high=max"], "nothing else was tried");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A process dies before or after any write, several times in a row; the next start puts back what was, and in the end
    /// limits come true and go back to what was there before the first persona.
    #[test]
    fn whatever_dies_when_is_made_good_at_the_next_start(deaths in proptest::collection::vec(0_usize..8, 0..4)) {
        let fake = Fake::of(&BEFORE);
        fake.with(|world| world.used_bytes = 1 << 20);
        for (index, at) in deaths.iter().enumerate() {
            fake.with(|world| (world.dead_at, world.write_count) = (Some(*at), 0));
            let wanted: &[_] = if index % 2 == 0 { &WANTED } else { &[] };
            drop(fake.apply(wanted));
        }
        fake.with(|world| world.dead_at = None);
        fake.apply(&WANTED).unwrap();
        let mut expected = Fake::of(&BEFORE).knobs();
        expected.extend(Fake::of(&WANTED).knobs());
        prop_assert_eq!(fake.knobs(), expected);
        fake.apply(&[]).unwrap();
        prop_assert_eq!(fake.knobs(), Fake::of(&BEFORE).knobs());
    }
}

#[test]
fn memory_does_not_shrink_while_the_instance_hardly_runs() {
    let patience = Patience { shrink: Duration::from_millis(60), settle: Duration::from_millis(10) };
    let outcome_of = |ran_ns, waited_ns| {
        let fake = Fake::of(&BEFORE);
        fake.with(|world| world.step = Progress { ran_ns, waited_ns, fault_count: 0 });
        let mut instance = Instance::new(InstanceKind::Processes, vec![Box::new(fake)]);
        let fit = wait_until_fit(&mut instance, 4_096, patience).map_err(|error| error.to_string());
        let endured = endure(&mut instance, patience).map_err(|error| error.to_string());
        assert_eq!(fit.is_ok(), endured.is_ok());
        fit
    };
    assert_eq!(outcome_of(0, 0), Ok(()), "it wants no processor");
    assert_eq!(outcome_of(1, 1), Ok(()), "it takes twice the time");
    let starved = outcome_of(1, 1_000).unwrap_err();
    assert!(starved.contains("hardly got to run"), "{starved}");
}
