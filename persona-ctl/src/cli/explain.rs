//! `persona-ctl explain`: what a subject wears, and how that came about.

use clap::{Args, Subcommand};
use persona_core::ids::SubjectId;
use persona_core::wire::api::{Considered, ConsideredEdge, EdgeExplanation, Explanation, LeaseView};
use persona_core::wire::planning::PlanMode;
use persona_core::wire::security::{SecurityReport, SettingReport};
use persona_core::wire::software::SoftwareReport;

use super::explain_packet::ExplainPacketArgs;
use super::print::table_of;
use super::switch::assignment_text;
use super::{Output, Session, activation, alerts};

/// Arguments of `explain`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:\n  persona-ctl explain workload/n1/web\n  persona-ctl explain packet 10.0.0.5:1234 tcp 93.184.216.34:443"
)]
pub(super) struct ExplainArgs {
    /// Who: node/NAME or workload/NODE/NAME.
    #[arg(required = true)]
    subject: Option<SubjectId>,
    /// What else can be explained.
    #[command(subcommand)]
    command: Option<ExplainCommand>,
}

#[derive(Debug, Subcommand)]
enum ExplainCommand {
    Packet(ExplainPacketArgs),
}

impl ExplainArgs {
    /// Whether this host alone can answer.
    pub(super) fn is_local(&self) -> bool {
        self.command.is_some()
    }

    /// Answers without the manager.
    pub(super) fn run_local(self, output: Output) -> anyhow::Result<()> {
        match self.command {
            Some(ExplainCommand::Packet(args)) => args.run(output),
            None => unreachable!("`is_local` was asked"),
        }
    }

    pub(super) async fn run(self, session: &Session) -> anyhow::Result<()> {
        let subject = self.subject.expect("clap requires it without a subcommand");
        session.output.show(&session.client.explain(&subject).await?, tell)
    }
}

/// An explanation for people.
pub(super) fn tell(explanation: &Explanation) -> String {
    let leases: Vec<String> = explanation.lease.iter().chain(&explanation.lease6).map(tell_lease).collect();
    let lease = if leases.is_empty() { "no lease".to_owned() } else { leases.join("\n") };
    let lease =
        [Some(lease), tell_preference(explanation).map(str::to_owned)].into_iter().flatten().collect::<Vec<_>>();
    let lease = lease.join("\n");
    let considered: Vec<String> = explanation.considered.iter().map(tell_considered).collect();
    let considered = if considered.is_empty() { nothing_considered(explanation) } else { considered.join("\n") };
    let fields = explanation.effective.iter().map(|field| {
        let value = field.value.as_str().map_or_else(|| field.value.to_string(), str::to_owned);
        [field.path.clone(), value, field.persona.clone(), field.layer.clone()]
    });
    let activation = explanation.activation.as_ref();
    let activation = activation.map(|view| format!("\n\nBy activation:\n{}", activation::told(view)));
    let monitoring = explanation.monitoring.as_ref().map(|view| format!("\n\n{}", alerts::told(view)));
    format!(
        "{}\n\n{lease}\n\nConsidered for the network section, best first:\n{considered}{}{}{}{}{}\n\n{}",
        assignment_text(&explanation.assignment),
        explanation.edges.as_ref().map(|edges| format!("\n\n{}", tell_edges(edges))).unwrap_or_default(),
        activation.unwrap_or_default(),
        monitoring.unwrap_or_default(),
        explanation.software.as_ref().map(tell_software).unwrap_or_default(),
        explanation.security.as_ref().map(tell_security).unwrap_or_default(),
        table_of(&["FIELD", "VALUE", "FROM", "BY"], fields, "no field is in force")
    )
}

/// Packages, wanted and installed.
fn tell_software(report: &SoftwareReport) -> String {
    let reason = report.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let rows = report.packages.iter().map(|package| {
        let wanted = package.wanted.clone().unwrap_or_else(|| "any".to_owned());
        let installed = package.installed.clone().unwrap_or_else(|| "not installed".to_owned());
        let note = match (package.is_as_wanted, package.is_held) {
            (false, _) => "drifted",
            (true, true) => "held",
            (true, false) => "",
        };
        [package.package.clone(), wanted, installed, note.to_owned()]
    });
    let head = format!("\n\nsoftware of {} is {}{reason}", report.persona, report.state);
    if report.packages.is_empty() {
        return head;
    }
    format!("{head}\n{}", table_of(&["PACKAGE", "WANTED", "INSTALLED", ""], rows, "no packages"))
}

/// Security settings beside the firewall, wanted and actual.
fn tell_security(report: &SecurityReport) -> String {
    let reason = report.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let rows = report.settings.iter().map(|report| {
        let SettingReport { setting, wanted, actual, state, reason } = report.clone();
        let note = reason.map_or_else(|| state.to_string(), |reason| format!("{state}: {reason}"));
        [setting, wanted, actual.unwrap_or_else(|| "not known".to_owned()), note]
    });
    let head = format!("\n\nsecurity of {} is {}{reason}", report.persona, report.state);
    if report.settings.is_empty() {
        return head;
    }
    format!("{head}\n{}", table_of(&["SETTING", "WANTED", "ACTUAL", ""], rows, "no settings"))
}

/// What `prefer-ipv6` has come to, for a subject that asks for it.
fn tell_preference(explanation: &Explanation) -> Option<&'static str> {
    let is_preferred =
        |path: &str, value: &serde_json::Value| path == "network.egress.family" && value == "prefer-ipv6";
    explanation.effective.iter().find(|field| is_preferred(&field.path, &field.value))?;
    Some(match (&explanation.lease6, &explanation.lease) {
        (Some(_), Some(_)) => "prefers IPv6: names lead to IPv6 first where the subject's address selection can be set",
        (Some(_), None) => "prefers IPv6, and has nothing else",
        (None, _) => "prefers IPv6, but has no IPv6 lease: its pool has no prefixes, or none free; IPv4 only",
    })
}

fn tell_lease(lease: &LeaseView) -> String {
    format!(
        "lease {} ({}): leaves as {} from pool {}, VNI {}",
        lease.id, lease.state, lease.space, lease.pool, lease.vni
    )
}

/// One persona: chosen or not, its score by terms, why it was refused, and what would change that.
/// Why there was nothing to consider.
fn nothing_considered(explanation: &Explanation) -> String {
    match &explanation.nearest {
        Some(nearest) => format!("no persona was considered, for no binding selects it: {nearest}"),
        None if explanation.bindings.is_empty() => "no persona was considered, for no binding selects it".to_owned(),
        None => "no persona was considered".to_owned(),
    }
}

fn tell_considered(persona: &Considered) -> String {
    let verdict = match (persona.chosen, persona.refusals.is_empty()) {
        (true, _) => "chosen",
        (false, true) => "possible",
        (false, false) => "refused",
    };
    let total: f64 = persona.scores.values().sum();
    let terms: Vec<String> = persona.scores.iter().map(|(term, points)| format!("{term} {points:+.2}")).collect();
    let terms = if terms.is_empty() { String::new() } else { format!(" = {}", terms.join(", ")) };
    let mut lines = vec![format!("  {}@{}: {verdict}, score {total:.2}{terms}", persona.persona, persona.version)];
    lines.extend(persona.refusals.iter().map(|refusal| format!("    because {refusal}")));
    lines.extend(persona.hint.iter().map(|hint| format!("    to change that: {hint}")));
    lines.join("\n")
}

/// Every edge that was considered; those of other groups are counted only.
fn tell_edges(edges: &EdgeExplanation) -> String {
    let is_other = |edge: &&ConsideredEdge| edge.refusals.first().is_some_and(|it| it.starts_with("group: "));
    let (others, own): (Vec<_>, Vec<_>) = edges.considered.iter().partition(is_other);
    let planned = edges.edge.as_ref().map_or_else(|| "no edge".to_owned(), |edge| format!("edge {edge}"));
    let effect = match edges.mode {
        PlanMode::Steer => "",
        PlanMode::Advise => " (advice: flows are spread by weights)",
    };
    let mut lines = vec![format!("Planned onto {planned}{effect}: {}", edges.reason)];
    lines.extend(own.into_iter().map(tell_edge));
    if !others.is_empty() {
        lines.push(format!("  {} edges of other groups", others.len()));
    }
    lines.join("\n")
}

fn tell_edge(edge: &ConsideredEdge) -> String {
    let verdict = match (edge.chosen, edge.refusals.is_empty()) {
        (true, _) => "planned",
        (false, true) => "possible",
        (false, false) => "refused",
    };
    let total: f64 = edge.scores.values().sum();
    let terms: Vec<String> = edge.scores.iter().map(|(term, points)| format!("{term} {points:+.2}")).collect();
    let terms = if terms.is_empty() { String::new() } else { format!(" = {}", terms.join(", ")) };
    let full = edge.fullness * 100.0;
    let mut lines = vec![format!("  {}: {verdict}, score {total:.2}{terms}, {full:.1} % full with it", edge.edge)];
    lines.extend(edge.refusals.iter().map(|refusal| format!("    because {refusal}")));
    lines.extend(edge.hint.iter().map(|hint| format!("    to change that: {hint}")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn considered_edges_are_told_and_those_of_other_groups_counted() {
        let edge = |name: &str, refusals: &[&str], points: f64| ConsideredEdge {
            edge: name.parse().unwrap(),
            chosen: name == "fra1",
            refusals: refusals.iter().map(ToString::to_string).collect(),
            scores: BTreeMap::from([("latency".to_owned(), points)]),
            fullness: 0.25,
            hint: (name == "fra2").then(|| "repair fra2".to_owned()),
        };
        let edges = EdgeExplanation {
            mode: PlanMode::Advise,
            edge: Some("fra1".parse().unwrap()),
            reason: "the only edge that can take it".to_owned(),
            demand: Default::default(),
            considered: vec![
                edge("fra1", &[], -1.5),
                edge("fra2", &["service: it is down"], -2.0),
                edge("tok1", &["group: another"], 0.0),
            ],
        };
        let told = "Planned onto edge fra1 (advice: flows are spread by weights): the only edge that can take it\n  \
                    fra1: planned, score -1.50 = latency -1.50, 25.0 % full with it\n  \
                    fra2: refused, score -2.00 = latency -2.00, 25.0 % full with it\n    \
                    because service: it is down\n    to change that: repair fra2\n  1 edges of other groups";
        assert_eq!(tell_edges(&edges), told);
    }

    #[test]
    fn what_prefer_ipv6_has_come_to_is_told() {
        let lease = |space: serde_json::Value| {
            let mut lease = serde_json::json!({ "id": 1, "subject": "workload/n1/w1", "persona": "p", "vni": 4096,
                "pool": "fra", "ports": [], "configured": false, "state": "active", "generation": 1 });
            let fields = lease.as_object_mut().unwrap();
            fields.extend(space.as_object().unwrap().clone());
            lease
        };
        let prefix = || lease(serde_json::json!({ "family": "ipv6", "prefix": "2001:db8::" }));
        let ports =
            || lease(serde_json::json!({ "family": "ipv4", "address": "203.0.113.9", "blockBits": 10, "blocks": [1] }));
        for (family, four, six, expected) in [
            ("prefer-ipv6", Some(ports()), Some(prefix()), Some("names lead to IPv6 first")),
            ("prefer-ipv6", Some(ports()), None, Some("no IPv6 lease")),
            ("prefer-ipv6", None, Some(prefix()), Some("nothing else")),
            ("ipv4", Some(ports()), None, None),
        ] {
            let explanation: Explanation = serde_json::from_value(serde_json::json!({
                "assignment": { "subject": "workload/n1/w1", "sections": {}, "lease": null, "lease6": null,
                    "inForce": true, "changed": false },
                "lease": four, "lease6": six, "considered": [],
                "effective": [{ "path": "network.egress.family", "value": family, "persona": "p@1", "layer": "binding" }],
            }))
            .unwrap();
            let told = tell(&explanation);
            match expected {
                Some(expected) => assert!(told.contains(expected), "{told}"),
                None => assert!(!told.contains("prefers IPv6"), "{told}"),
            }
        }
    }

    #[test]
    fn a_considered_persona_is_told_with_score_reason_and_remedy() {
        let considered = Considered {
            persona: "tokyo".parse().unwrap(),
            version: 3,
            chosen: false,
            refusals: vec!["edge group tokyo has 0 serving edges".into()],
            scores: BTreeMap::from([("order".into(), -10.0), ("stickiness".into(), 4.0)]),
            hint: Some("bring an edge of tokyo up".into()),
        };
        let told = "  tokyo@3: refused, score -6.00 = order -10.00, stickiness +4.00\n    \
                    because edge group tokyo has 0 serving edges\n    to change that: bring an edge of tokyo up";
        assert_eq!(tell_considered(&considered), told);
    }
}
