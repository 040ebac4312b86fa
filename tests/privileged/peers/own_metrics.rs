//! A workload's own page of metrics in a whole system: nginx serves it inside the workload's namespace, the agent asks for it there, and what
//! it says puts a persona on and takes it off again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use persona_core::wire::api::{ActivationView, EventView, SignalsView};
use persona_core::wire::limits::LimitState;
use persona_tests::cgroups::{self, differences, limit_files};
use persona_tests::peers::nginx;
use persona_tests::world::World;

use super::in_cluster_with;
use super::limits::{note_kernel, wait_for_state};

const SUBJECT: &str = "workload/n1/w2";

/// Where the page is, inside.
const PORT: u16 = 9_100;

/// How long a value may take to be seen and to be acted upon, on a machine that others use too.
const TURN_TIME: Duration = Duration::from_secs(40);

/// Series of one selection are added up; the other one is nobody's business.
const CONFIG: &str = "limit_cgroup = \"/GROUP\"\n[workload.metrics]\nurl = \"http://127.0.0.1:PORT/metrics\"\ninside = true\n\
                      signals = { queue = 'queue_length{kind=\"job\"}' }\n";

const DOCUMENTS: &str = "
apiVersion: persona/v1
kind: Persona
metadata: { name: jobs-wait }
spec:
  resources: { pids: 300 }
  activation: [ { when: 'metric.queue > 100', leave: 'metric.queue < 10' } ]
---
apiVersion: persona/v1
kind: Binding
metadata: { name: jobs }
spec:
  selector: { kind: workload, names: [workload/n1/w2] }
  personas: [jobs-wait]
";

#[test]
fn what_a_workload_says_of_itself_puts_a_persona_on_and_off() {
    let prepare = |world: &mut World| {
        let group = group_of(world);
        cgroups::make(&world.ledger, &group).expect("a control group can be made");
        world.extra_agent_config = CONFIG.replace("GROUP", &group).replace("PORT", &PORT.to_string());
    };
    in_cluster_with("activation by a workload's own metrics", prepare, |world, findings| {
        let (group, page) = (group_of(world), make_page(world)?);
        world.apply("jobs.yaml", DOCUMENTS)?;
        say(&page, 1)?;
        let before = limit_files(&group)?;
        let servers =
            format!("  server {{ listen 127.0.0.1:{PORT}; root {}; }}", page.parent().expect("a folder").display());
        let inside = world.workload("w2").clone();
        let mut nginx = nginx::start(&world.ledger, &inside, &world.path(""), "own-metrics", &servers, PORT)?;
        cgroups::enter(&group, nginx.pid().context("nginx runs")?)?;
        world
            .ctl
            .wait_for("the signal", &["signal", "list", SUBJECT], TURN_TIME, |told| queue_in(told) == Some(2.0))?;
        findings.note("the page is a signal, its two series of jobs added up", "metric.queue 2", true);

        say(&page, 100)?;
        let status = ["activation", "status", SUBJECT];
        let is_on = |status: &ActivationView| status.reason.is_some();
        world.ctl.wait_for("the persona", &status, TURN_TIME, is_on)?;
        wait_for_state(world, SUBJECT, LimitState::InForce)?;
        let why = world.ctl.json::<ActivationView>(&status)?.reason.unwrap_or_default();
        findings.note("more jobs put a persona on, with what it saw", &why, why.contains("metric.queue > 100 ("));
        note_kernel(findings, &group, "pids", &["pids.max"], "300")?;

        say(&page, 0)?;
        wait_for_state(world, SUBJECT, LimitState::Unlimited)?;
        let after = limit_files(&group)?;
        findings.note("they are done: every file is as it was", differences(&before, &after), before == after);
        let events: Vec<EventView> = world.ctl.list(&["events"])?;
        let told: Vec<&str> =
            events.iter().map(|event| event.name.as_str()).filter(|name| name.starts_with("activation.")).collect();
        findings.note("both are events", told.join(", "), told == ["activation.entered", "activation.left"]);
        nginx.check()
    });
}

fn group_of(world: &World) -> String {
    format!("{}-jobs", world.folder.file_name().unwrap_or_default().to_string_lossy())
}

/// Where nginx finds the page.
fn make_page(world: &World) -> Result<PathBuf> {
    let folder = world.path("own-metrics");
    std::fs::create_dir(&folder)?;
    Ok(folder.join("metrics"))
}

/// Writes the page at once, as a program would answer with it.
fn say(page: &Path, jobs: u32) -> Result<()> {
    let text = format!(
        "# HELP queue_length What waits.\n# TYPE queue_length gauge\nqueue_length{{kind=\"job\",of=\"a\"}} {jobs}\n\
         queue_length{{kind=\"job\",of=\"b\"}} {jobs}\nqueue_length{{kind=\"mail\"}} 5000\n"
    );
    let new = page.with_extension("new");
    std::fs::write(&new, text)?;
    std::fs::rename(&new, page).context("the page cannot be put in its place")
}

/// What criteria read, while it is fresh.
fn queue_in(told: &SignalsView) -> Option<f64> {
    told.signals.iter().find(|signal| signal.name == "metric.queue").map(|signal| signal.value)
}
