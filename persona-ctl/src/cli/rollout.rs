//! `persona-ctl rollout`: changes for many subjects that are made in waves, watched, and taken back.

use std::time::Duration;

use anyhow::bail;
use clap::{Args, Subcommand, ValueEnum};
use comfy_table::Cell;
use indicatif::{ProgressBar, ProgressStyle};
use persona_core::document::{Selector, SelectorKind};
use persona_core::ids::{PersonaName, RolloutName};
use persona_core::rollout::{Command, Gate, Health, Phase, RolloutSpec};
use persona_core::units::{Share, Span};
use persona_core::wire::rollouts::{RolloutChange, RolloutOrder, RolloutView, StartRollout, SwitchMany};

use super::Session;
use super::documents::read_files;
use super::persona_file::as_read;
use super::print::{ago, listed, now_ms, share, short_time, table_of};
use super::token::parse_label;

/// Time between two looks at a rollout that is watched.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// What to do with rollouts.
#[derive(Debug, Subcommand)]
pub(super) enum RolloutCommand {
    Start(Box<StartArgs>),
    /// Show a rollout: its waves, how many are moved, how those do.
    Show(ShowArgs),
    /// List rollouts under way, and those that were over lately.
    List,
    /// Have a rollout wait where it is.
    Pause(OrderArgs),
    /// Have it go on, also after it halted: its wave is watched anew.
    Resume(OrderArgs),
    /// Give it up: nobody else is moved, who was moved stays until it is rolled back.
    Abort(OrderArgs),
    /// Take it back: everybody has again what it had.
    Rollback(OrderArgs),
}

/// Begin to roll out new versions of personas, or a switch of many subjects.
#[derive(Debug, Args)]
#[command(after_help = "\
Each wave is watched for the soak time. What speaks against going on halts the rollout: packets dropped for one reason, or \
probes lost, by more than the allowance over before and over those not moved; subjects that hear nothing any more; states that \
nodes reject; what is not in force in time. Then resume, abort or rollback decide.

Examples:
  persona-ctl rollout start -f eu.yaml --watch
  persona-ctl rollout start -f eu.yaml --waves 2%,50%,100% --soak 10m --max-drops 0.5%
  persona-ctl rollout start --switch tokyo --label tier=gold --soak 1m
  persona-ctl rollout rollback eu-4 --reason 'customers complain'")]
pub(super) struct StartArgs {
    /// A file with personas (YAML, JSON or TOML); `-` is standard input.
    #[arg(long = "file", short = 'f', value_name = "FILE", required_unless_present = "switch")]
    files: Vec<std::path::PathBuf>,
    /// Switch those who are selected to this persona.
    #[arg(long, value_name = "PERSONA", conflicts_with = "files")]
    switch: Option<PersonaName>,
    /// Nodes or workloads.
    #[arg(long, value_enum, default_value_t, requires = "switch", conflicts_with = "files")]
    kind: SubjectKind,
    /// Subjects such as workload/n1/*; may be given several times.
    #[arg(long = "subject", value_name = "PATTERN", requires = "switch", conflicts_with = "files")]
    subjects: Vec<String>,
    /// A label that is bound to them; may be given several times.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label, requires = "switch", conflicts_with = "files")]
    labels: Vec<(String, String)>,
    /// A label that they have by their node's own word; may be given several times.
    #[arg(long = "claimed-label", value_name = "KEY=VALUE", value_parser = parse_label, requires = "switch", conflicts_with = "files")]
    claimed_labels: Vec<(String, String)>,
    /// What it is called; the persona's name and version otherwise.
    #[arg(long)]
    name: Option<RolloutName>,
    /// What part of the subjects each wave leaves moved.
    #[arg(long, value_name = "SHARES", value_delimiter = ',')]
    waves: Vec<Share>,
    /// How long each wave is watched.
    #[arg(long, value_name = "TIME")]
    soak: Option<Span>,
    /// So much more of packets may be dropped.
    #[arg(long, value_name = "SHARE")]
    max_drops: Option<Share>,
    /// So much more of probes may be lost.
    #[arg(long, value_name = "SHARE")]
    max_loss: Option<Share>,
    /// Of those who were answered before, so many may hear nothing.
    #[arg(long, value_name = "SHARE")]
    max_unanswered: Option<Share>,
    /// Everybody moved must have it in force after this time.
    #[arg(long, value_name = "TIME")]
    settle: Option<Span>,
    /// Go over what others have changed since the documents were read.
    #[arg(long, conflicts_with = "switch")]
    force_conflicts: bool,
    /// Watch it until it is done or halts.
    #[arg(long)]
    watch: bool,
}

/// Arguments of `rollout show`.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// Which.
    name: RolloutName,
    /// Watch it until it is done or halts.
    #[arg(long)]
    watch: bool,
}

/// Arguments of what a rollout is told.
#[derive(Debug, Args)]
pub(super) struct OrderArgs {
    /// Which.
    name: RolloutName,
    /// Why, for the events.
    #[arg(long)]
    reason: Option<String>,
}

/// What kind of subject is switched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum SubjectKind {
    /// Hosts' own processes.
    Node,
    /// VMs and containers.
    #[default]
    Workload,
}

impl RolloutCommand {
    pub(super) async fn run(self, session: &Session) -> anyhow::Result<()> {
        let (command, args) = match self {
            Self::Start(args) => return args.run(session).await,
            Self::List => return session.output.show(&session.client.rollouts().await?, |all| list(all)),
            Self::Show(args) if args.watch => return watch(session, &args.name).await,
            Self::Show(args) => return session.output.show(&session.client.rollout(&args.name).await?, show),
            Self::Pause(args) => (Command::Pause, args),
            Self::Resume(args) => (Command::Resume, args),
            Self::Abort(args) => (Command::Abort, args),
            Self::Rollback(args) => (Command::RollBack, args),
        };
        let order = RolloutOrder { reason: args.reason };
        let view = session.client.order_rollout(&args.name, command.as_str(), &order).await?;
        session.output.show(&view, show)
    }
}

impl StartArgs {
    async fn run(self, session: &Session) -> anyhow::Result<()> {
        let start = self.request()?;
        let view = session.client.start_rollout(&start, self.force_conflicts).await?;
        if self.watch {
            return watch(session, &view.name).await;
        }
        session.output.show(&view, show)
    }

    fn request(&self) -> anyhow::Result<StartRollout> {
        let documents = match &self.switch {
            Some(_) => Vec::new(),
            None => read_files(&self.files)?.iter().map(as_read).collect(),
        };
        let switch = self.switch.clone().map(|persona| SwitchMany { selector: self.selector(), persona });
        Ok(StartRollout { name: self.name.clone(), documents, switch, spec: self.spec() })
    }

    fn selector(&self) -> Selector {
        let kind = match self.kind {
            SubjectKind::Node => SelectorKind::Node,
            SubjectKind::Workload => SelectorKind::Workload,
        };
        let labels = |given: &[(String, String)]| given.iter().cloned().collect();
        let (labels, claimed_labels) = (labels(&self.labels), labels(&self.claimed_labels));
        Selector { kind, names: self.subjects.clone(), labels, claimed_labels }
    }

    fn spec(&self) -> RolloutSpec {
        let default = RolloutSpec::default();
        let gate = Gate {
            drops: self.max_drops.unwrap_or(default.gate.drops),
            loss: self.max_loss.unwrap_or(default.gate.loss),
            unanswered: self.max_unanswered.unwrap_or(default.gate.unanswered),
            settle: self.settle.unwrap_or(default.gate.settle),
        };
        let waves = if self.waves.is_empty() { default.waves } else { self.waves.clone() };
        RolloutSpec { waves, soak: self.soak.unwrap_or(default.soak), gate }
    }
}

/// Shows a bar until the rollout goes on by itself no more; one that does not end well is an error.
async fn watch(session: &Session, name: &RolloutName) -> anyhow::Result<()> {
    let template = "{spinner} {bar:30} {pos}/{len} {msg} ({elapsed})";
    let bar =
        ProgressBar::new(0).with_style(ProgressStyle::with_template(template).expect("the template is a constant"));
    bar.enable_steady_tick(Duration::from_millis(100));
    let view = loop {
        let view = session.client.rollout(name).await?;
        bar.set_length(view.members.into());
        bar.set_position(view.moved.into());
        bar.set_message(stage(&view));
        if !view.phase.is_running() {
            break view;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    };
    bar.finish_and_clear();
    session.output.show(&view, show)?;
    match view.phase {
        Phase::Done => Ok(()),
        phase => bail!("rollout {name} is {phase}: {}", view.reason.as_deref().unwrap_or("somebody told it so")),
    }
}

/// What it is at, in a few words.
fn stage(view: &RolloutView) -> String {
    let soaked = view.watched_ms.map(|ms| format!(", watched {} of {}", short_time(ms), view.spec.soak));
    let soaked = soaked.filter(|_| view.phase.is_running()).unwrap_or_default();
    let waiting = view.waiting.as_ref().map(|why| format!(", waits: {why}")).unwrap_or_default();
    format!("{}, wave {} of {}{soaked}{waiting}", view.phase, view.wave, view.waves.len())
}

fn change(view: &RolloutView) -> String {
    match &view.change {
        RolloutChange::Personas(steps) => {
            listed(steps.iter().map(|step| format!("{}@{} → {}@{}", step.persona, step.from, step.persona, step.to)))
        }
        RolloutChange::Switch(switch) => {
            let selector = &switch.selector;
            let labels = selector.labels.iter().map(|(key, value)| format!("{key}={value}"));
            let claimed = selector.claimed_labels.iter().map(|(key, value)| format!("claimed {key}={value}"));
            let who = listed(selector.names.iter().cloned().chain(labels).chain(claimed));
            format!("switch of {}s {who} to {}", switch.selector.kind.as_str(), switch.persona)
        }
    }
}

fn list(all: &[RolloutView]) -> String {
    let now = now_ms();
    let rows = all.iter().map(|view| {
        [
            Cell::new(&view.name),
            super::print::state_cell(view.phase.as_str()),
            Cell::new(format!("{} of {}", view.wave, view.waves.len())),
            Cell::new(format!("{} of {}", view.moved, view.members)),
            Cell::new(change(view)),
            Cell::new(ago(view.changed_ms, now)),
            Cell::new(view.reason.as_deref().or(view.waiting.as_deref()).unwrap_or("-")),
        ]
    });
    let header = ["ROLLOUT", "PHASE", "WAVE", "MOVED", "CHANGE", "SINCE", "WHY"];
    table_of(&header, rows, "no rollouts; persona-ctl rollout start begins one")
}

fn show(view: &RolloutView) -> String {
    let now = now_ms();
    let begun = |index: usize| match (index + 1).cmp(&(view.wave as usize)) {
        std::cmp::Ordering::Less => "passed",
        std::cmp::Ordering::Equal if view.phase == Phase::Done => "passed",
        std::cmp::Ordering::Equal => view.phase.as_str(),
        std::cmp::Ordering::Greater => "-",
    };
    let waves = view.waves.iter().enumerate().map(|(index, wave)| {
        [(index + 1).to_string(), wave.share.to_string(), wave.subjects.to_string(), begun(index).to_owned()]
    });
    let waves = table_of(&["WAVE", "SHARE", "SUBJECTS", "STATE"], waves, "no waves");
    let why = view.reason.as_ref().map(|reason| format!("\nwhy: {reason}")).unwrap_or_default();
    let moved = match view.moved_subjects.len() {
        0 => String::new(),
        _ => format!("\nmoved: {}", listed(&view.moved_subjects)),
    };
    let behind = if view.behind == 0 { String::new() } else { format!(", {} not in force yet", view.behind) };
    format!(
        "rollout {}, {}\n{}: {} of {} moved{behind}; started {} by {}{why}\n\n{waves}\n{}{moved}",
        view.name,
        change(view),
        stage(view),
        view.moved,
        view.members,
        ago(view.started_ms, now),
        view.started_by,
        view.health.as_ref().map(health).unwrap_or_default(),
    )
}

/// How those moved do, beside before and beside the others.
fn health(health: &Health) -> String {
    let part = |part: Option<f32>| share(part.map(f64::from));
    let rows = [
        ["packets dropped", &share(Some(health.drops)), &share(Some(health.drops_before)), &share(health.drops_others)]
            .map(str::to_owned),
        ["probes lost", &part(health.loss), &part(health.loss_before), &part(health.loss_others)].map(str::to_owned),
        [
            "hear nothing".to_owned(),
            format!("{} of {}", health.unanswered, health.answered_before),
            "-".to_owned(),
            "-".to_owned(),
        ],
        ["nodes that reject".to_owned(), health.rejections.to_string(), "-".to_owned(), "-".to_owned()],
    ];
    format!("\n{}", table_of(&["SIGN", "MOVED", "BEFORE", "OTHERS"], rows, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollout_is_told_with_waves_signs_and_the_reason() {
        let view: RolloutView = serde_json::from_value(serde_json::json!({
            "name": "eu-4", "change": { "personas": [{ "persona": "eu", "from": 3, "to": 4 }] },
            "spec": { "waves": ["5%", "100%"], "soak": "1m" }, "phase": "halted", "wave": 1,
            "waves": [{ "share": "5%", "subjects": 2 }, { "share": "100%", "subjects": 40 }],
            "members": 40, "moved": 2, "behind": 1, "movedSubjects": ["workload/n1/web"],
            "reason": "it burns", "waiting": null, "watchedMs": 2_500,
            "health": { "drops": 0.25, "dropsBefore": 0.0, "dropsOthers": 0.01, "loss": null, "lossBefore": null,
                "lossOthers": null, "answeredBefore": 2, "unanswered": 1, "rejections": 0 },
            "startedBy": "access/ann", "startedMs": 1, "changedMs": 1,
        }))
        .unwrap();
        let told = show(&view);
        for part in [
            "eu@3 → eu@4",
            "halted, wave 1 of 2",
            "2 of 40 moved, 1 not in force",
            "why: it burns",
            "25.0%",
            "1 of 2",
            "workload/n1/web",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert!(list(&[view]).contains("it burns") && list(&[]).contains("rollout start"));
    }
}
