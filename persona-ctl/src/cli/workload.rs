//! `persona-ctl workload`: VMs and containers on nodes.

use std::collections::BTreeMap;

use clap::Subcommand;
use comfy_table::Cell;
use persona_core::ids::SubjectId;
use persona_core::units::ByteCount;
use persona_core::wire::api::WorkloadView;
use persona_core::wire::limits::{LimitReport, LimitState};

use super::Session;
use super::labels::{self, LabelArgs, SelectArgs};
use super::print::{listed, state_cell, table_of};
use super::switch::assignment_text;

/// What to do with workloads.
#[derive(Debug, Subcommand)]
pub(super) enum WorkloadCommand {
    /// List workloads and what they wear.
    List(SelectArgs),
    /// Show a workload.
    Get {
        /// The workload, as workload/NODE/NAME.
        #[arg(value_parser = parse_workload)]
        subject: SubjectId,
    },
    /// Bind labels to a workload, also before its node reports it, or show by whose word it has which.
    Label {
        /// The workload, as workload/NODE/NAME.
        #[arg(value_parser = parse_workload)]
        subject: SubjectId,
        #[command(flatten)]
        args: LabelArgs,
    },
}

fn parse_workload(text: &str) -> Result<SubjectId, String> {
    match text.parse() {
        Ok(subject @ SubjectId::Workload(..)) => Ok(subject),
        Ok(SubjectId::Node(_)) => Err(format!("{text} is a node: write workload/NODE/NAME")),
        Err(error) => Err(error.to_string()),
    }
}

impl WorkloadCommand {
    pub(super) async fn run(self, session: &Session) -> anyhow::Result<()> {
        match self {
            Self::List(args) => {
                let all = session.client.workloads_with(args.selector.as_ref()).await?;
                session.output.show(&all, |workloads| list(workloads))
            }
            Self::Label { subject, args } => args.run(session, &subject.to_string()).await,
            Self::Get { subject } => {
                let view = session.client.workload(&subject).await?;
                let table = |view: &WorkloadView| {
                    let limits = view.limits.as_ref().map(limits_text).unwrap_or_default();
                    format!("{}\n\n{}{limits}", list(std::slice::from_ref(view)), assignment_text(&view.assignment))
                };
                session.output.show(&view, table)
            }
        }
    }
}

/// The address and the prefix that a workload may send from.
fn addresses_text(workload: &WorkloadView) -> String {
    let address = workload.address.map(|address| address.to_string());
    let prefix = workload.prefix6.map(|prefix| prefix.to_string());
    listed(address.into_iter().chain(prefix))
}

/// Limits, wanted and actual, in the words and units of the document.
fn limits_text(report: &LimitReport) -> String {
    let by = if report.backends.is_empty() { String::new() } else { format!(", by {}", report.backends.join(" and ")) };
    let reason = report.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let persona = report.persona.as_ref().map(|persona| format!(" of {persona}")).unwrap_or_default();
    let head = format!("\n\nlimits{persona} are {}{by}{reason}", report.state);
    if report.state == LimitState::Unlimited {
        return head;
    }
    let actual: BTreeMap<&str, u64> = report.actual.fields().into_iter().collect();
    let rows = report.wanted.fields().into_iter().map(|(field, wanted)| {
        let found = actual.get(field).map_or_else(|| "no limit".to_owned(), |found| quantity(field, *found));
        let why = report.unsupported.get(field).cloned().unwrap_or_default();
        [field.to_owned(), quantity(field, wanted), found, why]
    });
    format!("{head}\n{}", table_of(&["LIMIT", "WANTED", "ACTUAL", "WHY NOT"], rows, "no limits"))
}

fn quantity(field: &str, number: u64) -> String {
    match field {
        "cpu.limit" => (number as f64 / 1e6).to_string(),
        "memory.max" | "memory.high" => ByteCount(number).to_string(),
        "io.readBps" | "io.writeBps" => format!("{}/s", ByteCount(number)),
        "io.readIops" | "io.writeIops" => format!("{number}/s"),
        _ => number.to_string(),
    }
}

fn list(workloads: &[WorkloadView]) -> String {
    let rows = workloads.iter().map(|workload| {
        let network = workload.assignment.sections.get("network");
        [
            Cell::new(&workload.subject),
            state_cell(if workload.attached { "attached" } else { "gone" }),
            Cell::new(&workload.device),
            Cell::new(addresses_text(workload)),
            Cell::new(network.map_or_else(|| "-".to_owned(), |worn| format!("{}@{}", worn.persona, worn.version))),
            Cell::new(network.map_or("-", |worn| worn.layer.as_str())),
            Cell::new(workload.assignment.lease.map_or_else(|| "-".to_owned(), |lease| lease.to_string())),
            Cell::new(if workload.assignment.in_force { "yes" } else { "not yet" }),
            Cell::new(labels::line(&workload.labels, &workload.bound_labels)),
        ]
    });
    let header = ["WORKLOAD", "STATE", "DEVICE", "ADDRESS", "NETWORK PERSONA", "BY", "LEASE", "IN FORCE", "LABELS"];
    table_of(&header, rows, "no workloads; agents report those that they are configured with")
}
