//! Real containers of runc and crun: from the state file of the runtime to the control groups, limits in force, others' changes
//! put right, a container that is made anew taken up, and everything back byte by byte.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use persona_core::limit::Limits;
use persona_core::wire::limits::{LimitState, SubjectResources};
use persona_ctl::limits::{Common, InstanceConfig, Limited, LimitsConfig, Records, Source, Wish};
use persona_tests::cgroups::{differences, folder_of, limit_files, read_first};
use persona_tests::ledger::Ledger;
use persona_tests::peers::oci::Runtime;

#[test]
fn what_runc_and_crun_run_is_limited_live_and_put_back() {
    if std::fs::create_dir(probe_folder()).is_err() {
        assert!(std::env::var_os("PERSONA_REQUIRE_PRIVILEGED").is_none(), "control groups are required");
        return eprintln!("SKIP: needs root and control groups");
    }
    std::fs::remove_dir(probe_folder()).unwrap();
    for runtime in Runtime::ALL {
        let ledger = Ledger::default();
        let outcome = hold(runtime, &ledger);
        let left = ledger.undo_all();
        outcome.unwrap_or_else(|error| panic!("{}: {error:#}", runtime.name()));
        assert!(left.is_empty(), "{}: {left:?}", runtime.name());
    }
}

fn hold(runtime: Runtime, ledger: &Ledger) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let name = format!("persona-{}-{}", runtime.name(), std::process::id());
    let container = runtime.start(ledger, folder.path(), &name)?;
    let before = limit_files(&name)?;
    let instance = InstanceConfig { source: Source::Oci(container.state_file()), io_devices: Vec::new() };
    let common = Common::new(LimitsConfig::default(), Records::in_directory(folder.path()));
    let mut limited = Limited::new("w".parse()?, Some(instance), Arc::new(common));

    see_in_force(&mut limited, &name)?;
    let pids = folder_of(&name, "pids")?.join("pids.max");
    std::fs::write(&pids, "77").with_context(|| format!("{} cannot be written", pids.display()))?;
    see_in_force(&mut limited, &name)?;
    let told: Vec<&str> = limited.take_told().iter().map(|told| told.event).collect();
    ensure!(told == ["limits.applied", "limits.changed-by-others"], "{told:?}");

    container.start_anew(folder.path())?;
    see_in_force(&mut limited, &name)?;

    let report = limited.turn(&Wish::Nothing);
    ensure!(report.state == LimitState::Unlimited, "{report:?}");
    let after = limit_files(&name)?;
    ensure!(after == before, "{}", differences(&before, &after));
    Ok(())
}

/// A turn, and what the kernel says afterwards.
fn see_in_force(limited: &mut Limited, group: &str) -> Result<()> {
    let limits = Limits {
        cpu_us_per_sec: Some(500_000),
        memory_max_bytes: Some(128 << 20),
        pids_max: Some(200),
        ..Limits::default()
    };
    let report = limited.turn(&Wish::Wears(SubjectResources { persona: "p".parse()?, version: 1, limits }));
    ensure!(report.state == LimitState::InForce, "{report:?}");
    let memory = read_first(group, "memory", &["memory.limit_in_bytes", "memory.max"])?;
    let quota = read_first(group, "cpu", &["cpu.cfs_quota_us", "cpu.max"])?;
    let pids = read_first(group, "pids", &["pids.max"])?;
    ensure!(
        memory == (128 << 20).to_string() && quota.starts_with("50000") && pids == "200",
        "{memory} {quota} {pids}"
    );
    Ok(())
}

/// A group that only tells whether groups can be made.
fn probe_folder() -> std::path::PathBuf {
    let name = format!("persona-probe-{}", std::process::id());
    let tree = persona_tests::cgroups::trees().into_iter().next().unwrap_or_else(|| "/sys/fs/cgroup".into());
    tree.join(name)
}
