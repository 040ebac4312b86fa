//! `persona-ctl alerts`: what is raised, and what a subject is watched for.

use clap::Args;
use persona_core::alert::AlertStory;
use persona_core::ids::SubjectId;
use persona_core::wire::api::{AlertView, MonitoringView};

use super::Session;
use super::print::{table_of, utc};

/// Arguments of `alerts`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  persona-ctl alerts\n  persona-ctl alerts workload/n1/web -o json")]
pub(super) struct AlertsArgs {
    /// Only those of this subject: node/NAME or workload/NODE/NAME.
    subject: Option<SubjectId>,
}

impl AlertsArgs {
    pub(super) async fn run(self, session: &Session) -> anyhow::Result<()> {
        let mut all = session.client.alerts().await?;
        all.retain(|alert| self.subject.as_ref().is_none_or(|subject| *subject == alert.subject));
        session.output.show(&all, |all| raised(all))
    }
}

fn raised(all: &[AlertView]) -> String {
    let rows = all.iter().map(|it| {
        let persona = format!("{}@{}", it.persona, it.version);
        [it.subject.to_string(), it.alert.clone(), utc(it.since_ms), persona, it.reason.clone()]
    });
    table_of(&["SUBJECT", "ALERT", "SINCE", "WATCHED BY", "WHY"], rows, "no alert is raised")
}

/// What a subject is watched for, for people.
pub(super) fn told(view: &MonitoringView) -> String {
    let alerts: Vec<String> = view.alerts.iter().map(tell).collect();
    format!("Watched by {}@{}:\n{}", view.persona, view.version, alerts.join("\n"))
}

fn tell(alert: &AlertStory) -> String {
    let clear = alert.clear.as_ref().map(|clear| format!(", cleared by {clear}")).unwrap_or_default();
    format!("  {}: {} (when {}{clear})", alert.alert, alert.verdict, alert.when)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_subject_is_watched_for_is_told_with_its_criteria() {
        let view: MonitoringView =
            serde_json::from_value(serde_json::json!({ "persona": "web", "version": 3, "alerts": [
            { "alert": "memory-high", "when": "memory.usage > 0.9", "clear": "memory.usage < 0.7", "holds": "true",
                "isRaised": true, "verdict": "raised for 5s", "seen": [] },
            { "alert": "drops", "when": "network.drops > 1 / 1s", "clear": null, "holds": "unknown", "isRaised": false,
                "verdict": "cannot be told", "seen": [] }] }))
            .unwrap();
        let expected = "Watched by web@3:\n  memory-high: raised for 5s (when memory.usage > 0.9, cleared by memory.usage < 0.7)\n  \
                        drops: cannot be told (when network.drops > 1 / 1s)";
        assert_eq!(told(&view), expected);
    }
}
