//! Step 8: `detach` leaves every host as it was, checked against a snapshot from before.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::ctl::patient;
use crate::findings::Findings;
use crate::kernel::{Holdings, Snapshot};
use crate::process::Running;
use crate::world::{EDGES, NODE, World};

/// The kernel frees programs a moment after their last user is gone.
const FREE_TIME: Duration = Duration::from_secs(20);

/// Stops the agent and the edges cleanly, detaches them, and compares.
pub fn run(world: &mut World, before: &Snapshot, findings: &mut Findings) -> Result<()> {
    let folders: Vec<PathBuf> = roles().map(|name| world.bpffs(name)).collect();
    let held = Holdings::find(&folders)?;
    world.agent.as_mut().map(Running::stop).transpose()?;
    world.edges.values_mut().try_for_each(Running::stop)?;
    for name in roles() {
        world.detach_role(name)?;
    }
    let mut leftovers = pins(world)?;
    leftovers.extend(wait_until_free(world, before, &held)?);
    let measured = match leftovers.as_slice() {
        [] => format!("{} programs and {} maps were there, none is", held.programs.len(), held.maps.len()),
        some => some.join("; "),
    };
    let expected = "no program, map, pin, queue, route, rule or address of ours is left";
    findings.note(expected, measured, leftovers.is_empty() && !held.programs.is_empty());
    Ok(())
}

fn roles() -> impl Iterator<Item = &'static str> {
    EDGES.iter().map(|edge| edge.name).chain([NODE])
}

fn pins(world: &World) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for name in roles() {
        let path = world.bpffs(name);
        let entries = std::fs::read_dir(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        let paths = entries.filter_map(|entry| entry.ok()).map(|entry| entry.path());
        // The kernel itself puts `progs.debug` and `maps.debug` into every bpffs.
        let ours = paths.filter(|path| path.extension().is_none_or(|extension| extension != "debug"));
        found.extend(ours.map(|path| format!("pin {}", path.display())));
    }
    Ok(found)
}

fn wait_until_free(world: &World, before: &Snapshot, held: &Holdings) -> Result<Vec<String>> {
    let start = Instant::now();
    loop {
        let mut leftovers = Snapshot::take(&world.namespaces.all())?.differences(before);
        leftovers.extend(held.still_loaded());
        if leftovers.is_empty() || start.elapsed() > patient(FREE_TIME) {
            return Ok(leftovers);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
