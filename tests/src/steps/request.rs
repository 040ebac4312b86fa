//! Step 6: an application says what it needs; the manager chooses, does nothing where nothing is needed, or refuses.

use std::time::Duration;

use anyhow::Result;
use persona_core::wire::api::{AssignmentView, Explanation};

use super::{FRANKFURT, FRANKFURT_LOW_LATENCY, TOKYO, view};
use crate::findings::Findings;
use crate::world::World;

/// How long a request may take to come into force.
const REQUEST_TIME: Duration = Duration::from_secs(30);

/// The subject that asks.
const SUBJECT: &str = "workload/n1/w2";

/// The exit code of a refusal, as persona-ctl documents it.
const REFUSED: i32 = 3;

/// Asks three times.
pub fn run(world: &mut World, findings: &mut Findings) -> Result<()> {
    world.ctl.text(&["request", SUBJECT, "--capability", "low-latency"])?;
    let wears_it = |answer: &Explanation| {
        let network = answer.assignment.sections.get("network");
        answer.assignment.in_force && network.is_some_and(|section| section.persona.as_str() == FRANKFURT_LOW_LATENCY)
    };
    let (answer, time) =
        world.ctl.wait_for("the request to be in force", &["explain", SUBJECT], REQUEST_TIME, wears_it)?;
    let reason = answer.assignment.sections.get("network").map_or("", |section| section.reason.as_str());
    let measured = format!("{FRANKFURT_LOW_LATENCY} after {}: {reason}", view::ms(time));
    findings.note("a request for low-latency moves w2 to a persona that has it", measured, true);
    let lease = view::lease_of(world, SUBJECT)?;
    let client = view::seen_by_server(world, "w2")?;
    let measured = format!("{}:{}", client.0, client.1);
    findings.note(format!("the server sees {}", view::describe(&lease)), measured, view::is_inside(&lease, client));

    let again: AssignmentView = world.ctl.json(&["request", SUBJECT, "--capability", "low-latency"])?;
    findings.note("the same request again changes nothing", format!("changed: {}", again.changed), !again.changed);

    let refusal = world.ctl.refusal(&["request", SUBJECT, "--capability", "quantum-link"])?;
    let names_all = [FRANKFURT, FRANKFURT_LOW_LATENCY, TOKYO].iter().all(|name| refusal.text.contains(name));
    let one_line = refusal.text.split_whitespace().collect::<Vec<_>>().join(" ");
    let measured = format!("exit code {:?}: {one_line}", refusal.code.unwrap_or(-1));
    let expected = "a request that nothing satisfies is refused, with a reason per persona";
    findings.note(expected, measured, refusal.code == Some(REFUSED) && names_all);
    Ok(())
}
