//! The container: load, night and a signal from outside, each with the persona that its criteria choose.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::Instances;
use super::limits::{apply_documents, is_unlimited, minute_in, note_worn, wait_for};
use crate::cgroups::{differences, limit_files};
use crate::findings::Findings;
use crate::load::iperf::{self, Carrier, Direction};
use crate::process::Running;
use crate::world::{CONTAINER, World};

/// The container, as the manager knows it.
pub(super) const SUBJECT: &str = "workload/n1/c1";

/// How long the load lasts, seconds.
const LOAD_SECS: u32 = 15;

/// What the container keeps in memory meanwhile, MiB.
const MEMORY_MIB: &str = "48";

/// How far away the night is at least: the documents have to arrive before it.
const NIGHT_DELAY: Duration = Duration::from_secs(5);

/// A processor, memory and the network are busy: it wears what a busy web server wears, and then everything is as before.
pub(super) fn under_load(world: &World, instances: &Instances, findings: &mut Findings) -> Result<()> {
    let before = limit_files(&instances.group)?;
    thread::scope(|scope| {
        let traffic = scope.spawn(|| iperf::run(world, CONTAINER.name, Direction::Up, Carrier::Tcp, LOAD_SECS));
        let _burner = exec(
            world,
            instances,
            &["timeout", "-s", "KILL", &LOAD_SECS.to_string(), "sh", "-c", "while :; do :; done"],
        )?;
        let _writer = exec(
            world,
            instances,
            &["dd", "if=/dev/zero", "of=/dev/shm/load", "bs=1M", &format!("count={MEMORY_MIB}")],
        )?;
        note_worn(world, SUBJECT, &instances.group, "high-traffic-web-server", findings)?;
        let run = traffic.join().expect("the sender does not panic")?;
        findings.note(
            "its traffic goes on meanwhile",
            format!("{:.1} Mbit/s", run.received_bps / 1e6),
            run.received_bps > 1e6,
        );
        anyhow::Ok(())
    })?;
    instances.docker.client(&["exec", "web", "/bin/busybox", "rm", "/dev/shm/load"])?;
    note_put_back(world, instances, &before, "the load is over", findings)
}

/// At night it wears what a backup wears; somebody announces a training, which stands above; then all is over.
pub(super) fn at_night(world: &World, instances: &Instances, findings: &mut Findings) -> Result<()> {
    let before = limit_files(&instances.group)?;
    apply_documents(world, minute_in(NIGHT_DELAY)?)?;
    note_worn(world, SUBJECT, &instances.group, "nightly-backup-processor", findings)?;
    world.ctl.text(&["signal", "push", SUBJECT, "external.training", "1", "--for", "10s"])?;
    note_worn(world, SUBJECT, &instances.group, "ai-training-node", findings)?;
    note_worn(world, SUBJECT, &instances.group, "nightly-backup-processor", findings)?;
    note_put_back(world, instances, &before, "the night is over", findings)
}

fn note_put_back(
    world: &World,
    instances: &Instances,
    before: &crate::cgroups::LimitFiles,
    what: &str,
    findings: &mut Findings,
) -> Result<()> {
    wait_for(world, SUBJECT, is_unlimited)?;
    let after = limit_files(&instances.group)?;
    findings.note(format!("{what}: every file is as it was"), differences(before, &after), *before == after);
    Ok(())
}

/// Starts one of busybox's programs in the container.
fn exec(world: &World, instances: &Instances, arguments: &[&str]) -> Result<Running> {
    let command = instances.docker.exec("web", &[&["/bin/busybox"], arguments].concat())?;
    Running::start(&world.ledger, arguments[0], &world.path("container-load.log"), command)
}
