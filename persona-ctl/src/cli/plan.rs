//! `persona-ctl plan show|history|settings|set`: the plan of the live fleet, as the manager keeps it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use comfy_table::Cell;
use persona_core::document::Format;
use persona_core::wire::api::EventView;
use persona_core::wire::planning::{PlanMode, PlanSettings, PlanView};

use super::Session;
use super::documents::read_text;
use super::print::{ago, bit_rate, now_ms, share, state_cell, table_of, utc};

/// What to do with the plan.
#[derive(Debug, Subcommand)]
pub(super) enum PlanCommand {
    /// Show every edge with what is planned onto it and what it measures, and every subject with its edge.
    Show,
    /// Show the last moves, the newest first.
    History {
        /// At most so many.
        #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        limit: u32,
    },
    /// Show how the fleet is planned.
    Settings,
    Set(SetArgs),
}

/// Set how the fleet is planned, and whether the plan takes effect.
#[derive(Debug, Args)]
#[command(
    after_help = "A file of rules is YAML, JSON or TOML with planning, policies, contents as in a fleet; docs/planning.md has all keys.\n\nExamples:\n  persona-ctl plan set --mode steer\n  persona-ctl plan set -f rules.yaml"
)]
pub(super) struct SetArgs {
    /// Whether nodes are told each subject's planned edge.
    #[arg(long, value_enum, required_unless_present = "file")]
    mode: Option<Mode>,
    /// Rules in the place of those that are set; `-` is standard input.
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Whether the plan takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// The plan is advice; flows are spread over a group's edges by weights.
    Advise,
    /// Each subject's planned edge carries it as long as it lives.
    Steer,
}

impl From<Mode> for PlanMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Advise => Self::Advise,
            Mode::Steer => Self::Steer,
        }
    }
}

impl PlanCommand {
    pub(super) async fn run(self, session: &Session) -> anyhow::Result<()> {
        match self {
            Self::Show => session.output.show(&session.client.plan().await?, show),
            Self::History { limit } => {
                session.output.show(&session.client.plan_history(limit).await?, |events| history(events))
            }
            Self::Settings => session.output.show(&session.client.plan_settings().await?.value, settings_text),
            Self::Set(args) => session.output.show(&args.set(session).await?, settings_text),
        }
    }
}

impl SetArgs {
    async fn set(self, session: &Session) -> anyhow::Result<PlanSettings> {
        let known = session.client.plan_settings().await?;
        let rules = match &self.file {
            Some(path) => read_rules(path, known.value.mode)?,
            None => known.value.clone(),
        };
        let mode = self.mode.map_or(rules.mode, PlanMode::from);
        Ok(session.client.set_plan_settings(&known, &PlanSettings { mode, ..rules }).await?)
    }
}

/// Rules from a file; one that says nothing of the mode leaves it.
fn read_rules(path: &Path, mode: PlanMode) -> anyhow::Result<PlanSettings> {
    let (text, name) = read_text(path)?;
    let mut rules: serde_json::Value = match Format::from_path(path) {
        Format::Yaml => serde_saphyr::from_str(&text).with_context(|| format!("{name} is not valid YAML"))?,
        Format::Json => serde_json::from_str(&text).with_context(|| format!("{name} is not valid JSON"))?,
        Format::Toml => toml::from_str(&text).with_context(|| format!("{name} is not valid TOML"))?,
    };
    if let Some(fields) = rules.as_object_mut() {
        fields.entry("mode").or_insert_with(|| mode.as_str().into());
    }
    serde_json::from_value(rules).with_context(|| format!("{name} has no rules of planning"))
}

/// A plan for people.
fn show(plan: &PlanView) -> String {
    let edges = plan.edges.iter().map(|edge| {
        [
            Cell::new(&edge.edge),
            Cell::new(&edge.group),
            state_cell(&edge.service),
            Cell::new(edge.subjects),
            Cell::new(bit_rate(edge.planned.rate.0)),
            Cell::new(edge.planned.packets_per_sec),
            Cell::new(edge.planned.flows),
            Cell::new(share(Some(edge.planned_fullness))),
            Cell::new(share(edge.measured_fullness)),
        ]
    });
    let header = ["EDGE", "GROUP", "STATE", "SUBJECTS", "RATE", "PACKETS/S", "FLOWS", "PLANNED FULL", "MEASURED FULL"];
    let edges = table_of(&header, edges, "no edges");
    let now = now_ms();
    let subjects = plan.subjects.iter().map(|it| {
        [
            it.subject.to_string(),
            it.persona.to_string(),
            it.edge.as_ref().map_or_else(|| format!("any of {}", it.group), ToString::to_string),
            it.since_ms.map_or_else(|| "-".to_owned(), |since_ms| ago(since_ms, now)),
            bit_rate(it.demand.rate.0),
            it.reason.clone(),
        ]
    });
    let header = ["SUBJECT", "PERSONA", "EDGE", "SINCE", "RESERVED", "REASON"];
    let subjects = table_of(&header, subjects, "nobody wears a persona with a network section");
    format!("{}\n\n{edges}\n\n{subjects}", mode_text(plan.mode))
}

fn mode_text(mode: PlanMode) -> &'static str {
    match mode {
        PlanMode::Steer => "The plan steers: each subject's planned edge carries it as long as it lives.",
        PlanMode::Advise => {
            "The plan is advice: flows are spread over a group's edges by weights. `persona-ctl plan set --mode steer` has it take effect."
        }
    }
}

fn history(events: &[EventView]) -> String {
    let rows = events.iter().map(|event| [utc(event.time_ms), event.name.clone(), event.message.clone()]);
    table_of(&["TIME", "EVENT", "WHAT"], rows, "nothing moved by plan yet")
}

fn settings_text(settings: &PlanSettings) -> String {
    let rules = PlanSettings { mode: PlanMode::default(), ..settings.clone() };
    let rules = serde_saphyr::to_string(&rules).unwrap_or_default();
    let rules: Vec<&str> = rules.lines().filter(|line| !line.starts_with("mode:")).collect();
    format!("{}\n\n{}", mode_text(settings.mode), rules.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_leave_the_mode_unless_they_name_it_and_mistakes_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rules.yaml");
        for (text, expected) in [
            ("planning: { stickiness: 7 }", Ok(PlanMode::Steer)),
            ("mode: advise", Ok(PlanMode::Advise)),
            ("polices: []", Err("unknown field `polices`")),
        ] {
            std::fs::write(&path, text).unwrap();
            match (read_rules(&path, PlanMode::Steer), expected) {
                (Ok(rules), Ok(mode)) => assert_eq!(rules.mode, mode, "{text}"),
                (Err(error), Err(expected)) => assert!(format!("{error:#}").contains(expected), "{error:#}"),
                (read, _) => panic!("{text}: {read:?}"),
            }
        }
    }

    #[test]
    fn a_plan_is_told_with_edges_and_subjects() {
        let plan: PlanView = serde_json::from_value(serde_json::json!({
            "mode": "advise",
            "edges": [{ "edge": "fra1", "group": "fra", "service": "serving", "subjects": 1,
                "planned": { "rate": "2mbit", "packetsPerSec": 3, "flows": 4, "leases": 1 },
                "plannedFullness": 0.25, "measuredFullness": null }],
            "subjects": [{ "subject": "workload/n1/web", "persona": "p", "group": "fra", "edge": null, "sinceMs": null,
                "demand": {}, "reason": "no edge has room" }],
            "plan": { "edges": ["fra1"], "subjects": {} },
        }))
        .unwrap();
        let told = show(&plan);
        for part in ["plan is advice", "2.0 Mbit/s", "25.0%", "any of fra", "no edge has room"] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert!(history(&[]).contains("nothing moved"));
    }
}
