//! Step 8: `detach` leaves every host as it was, checked against a snapshot from before.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::findings::Findings;
use crate::kernel::Snapshot;
use crate::process::Running;
use crate::world::{EDGES, NODE, World};

/// The kernel frees programs a moment after their last user is gone.
const FREE_TIME: Duration = Duration::from_secs(5);

/// Stops the agent and the edges cleanly, detaches them, and compares.
pub fn run(world: &mut World, before: &Snapshot, findings: &mut Findings) -> Result<()> {
    let during = Snapshot::take(&world.namespaces.all())?;
    let (programs, maps) = during.loaded_since(before);
    world.agent.as_mut().map(Running::stop).transpose()?;
    world.edges.values_mut().try_for_each(Running::stop)?;
    for name in EDGES.iter().map(|edge| edge.name).chain([NODE]) {
        world.detach_role(name)?;
    }
    let mut leftovers = pins(world)?;
    leftovers.extend(wait_until_free(world, before, &during)?);
    let measured = match leftovers.as_slice() {
        [] => format!("{programs} programs and {maps} maps were there, none is"),
        some => some.join("; "),
    };
    let expected = "no program, map, pin, queue, route, rule or address of ours is left";
    findings.note(expected, measured, leftovers.is_empty() && programs > 0);
    Ok(())
}

fn pins(world: &World) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for name in EDGES.iter().map(|edge| edge.name).chain([NODE]) {
        let path = world.bpffs(name);
        let entries = std::fs::read_dir(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        let paths = entries.filter_map(|entry| entry.ok()).map(|entry| entry.path());
        // The kernel itself puts `progs.debug` and `maps.debug` into every bpffs.
        let ours = paths.filter(|path| path.extension().is_none_or(|extension| extension != "debug"));
        found.extend(ours.map(|path| format!("pin {}", path.display())));
    }
    Ok(found)
}

fn wait_until_free(world: &World, before: &Snapshot, during: &Snapshot) -> Result<Vec<String>> {
    let start = Instant::now();
    loop {
        let leftovers = Snapshot::take(&world.namespaces.all())?.leftovers(before, during);
        if leftovers.is_empty() || start.elapsed() > FREE_TIME {
            return Ok(leftovers);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
