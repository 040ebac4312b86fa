//! `persona-ctl status`: how things stand, and what needs a person's eye.

use clap::Args;
use persona_core::wire::api::Status;

use super::Session;

/// Arguments of `status`.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {}

impl StatusArgs {
    pub(super) async fn run(self, session: &Session) -> anyhow::Result<()> {
        session.output.show(&session.client.status().await?, tell)
    }
}

fn tell(status: &Status) -> String {
    let mut lines = vec![
        format!("manager    version {}, revision {}", status.version, status.revision),
        format!("nodes      {} of {} up", status.nodes.0, status.nodes.1),
        format!("edges      {} of {} up", status.edges.0, status.edges.1),
        format!("workloads  {}", status.workloads),
    ];
    let concerns = status
        .unassigned
        .iter()
        .map(|(subject, reason)| format!("{subject} has no network persona: {reason}"))
        .chain(status.behind.iter().map(|who| format!("{who} has not acknowledged what is published for it")))
        .chain((status.alerts > 0).then(|| format!("{} alerts are raised: persona-ctl alerts", status.alerts)))
        .chain(
            status
                .drifted
                .iter()
                .map(|who| format!("{who} has not the software that it shall have: persona-ctl explain {who}")),
        )
        .chain(
            status.restart.iter().map(|who| {
                format!("{who} has not every security setting that it shall have: persona-ctl explain {who}")
            }),
        )
        .chain(
            status.rejected.iter().map(|(who, reason)| format!("{who} rejected what is published for it: {reason}")),
        );
    let concerns: Vec<String> = concerns.map(|concern| format!("  {concern}")).collect();
    lines.push(if concerns.is_empty() { "all is well".to_owned() } else { "needs attention:".to_owned() });
    lines.extend(concerns);
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn what_needs_attention_is_named_with_its_reason() {
        let mut status = Status {
            version: "0.1.0".into(),
            revision: persona_core::ids::Generation::new(1, 7),
            event_last: 9,
            nodes: (1, 1),
            edges: (2, 3),
            workloads: 2,
            unassigned: BTreeMap::new(),
            behind: Vec::new(),
            rejected: BTreeMap::new(),
            alerts: 0,
            restart: Vec::new(),
            drifted: Vec::new(),
        };
        assert!(tell(&status).ends_with("all is well"));
        status.unassigned.insert("workload/n1/web".into(), "pool eu has no free block".into());
        let told = tell(&status);
        assert!(told.contains("edges      2 of 3 up"), "{told}");
        assert!(told.contains("workload/n1/web has no network persona: pool eu has no free block"), "{told}");
    }
}
