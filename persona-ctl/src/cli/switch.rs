//! `persona-ctl switch`: a person decides what a subject wears.

use std::time::Duration;

use clap::Args;
use persona_core::ids::{PersonaName, SubjectId};
use persona_core::units::Span;
use persona_core::wire::api::{AssignmentView, Switch, SwitchEnd};

use super::Session;
use super::print::{ahead, now_ms, show_done, table_of};
use super::wait::until_in_force;

/// Arguments of `switch`.
#[derive(Debug, Args)]
#[command(after_help = "\
New connections follow the switch; established ones go on through their old lease until they end, unless its persona
has a grace (egress.grace) or --cut says otherwise. What is cut is announced in the events, and counted there.

Examples:
  persona-ctl switch workload/n1/web tokyo --for 2h     takes itself back
  persona-ctl switch workload/n1/web tokyo --wait       returns when it is in force
  persona-ctl switch workload/n1/web tokyo --cut=30s    old connections have 30 s to end, then they are cut
  persona-ctl switch workload/n1/web --release          back to what would be worn otherwise")]
pub(super) struct SwitchArgs {
    /// Who: node/NAME or workload/NODE/NAME.
    subject: SubjectId,
    /// The persona to wear in every section that it has.
    #[arg(required_unless_present = "release", conflicts_with = "release")]
    persona: Option<PersonaName>,
    /// Take it back by itself after this time, such as 2h.
    #[arg(long = "for", value_name = "TIME", conflicts_with = "release")]
    duration: Option<Span>,
    /// Take a switch back.
    #[arg(long)]
    release: bool,
    /// Cut what is left of old connections after this time, such as 30s; without a time at once.
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "0s")]
    cut: Option<Span>,
    #[command(flatten)]
    wait: Wait,
}

/// Whether and how long to wait for an assignment to come into force.
#[derive(Debug, Args)]
pub(super) struct Wait {
    /// Return when node and edges have it in force.
    #[arg(long)]
    wait: bool,
    /// How long to wait at most.
    #[arg(long, value_name = "TIME", default_value = "10s", requires = "wait")]
    wait_limit: Span,
}

impl SwitchArgs {
    pub(super) async fn run(self, session: &Session) -> anyhow::Result<()> {
        let cut_after_ms = self.cut.map(|span| span.0);
        let answer = match self.persona {
            Some(persona) => {
                let (subject, for_ms) = (self.subject.clone(), self.duration.map(|span| span.0));
                Some(session.client.switch(&Switch { subject, persona, for_ms, cut_after_ms }).await?)
            }
            None => session.client.release_switch(&self.subject, SwitchEnd { cut_after_ms }).await?,
        };
        self.wait.show(session, &self.subject, answer).await
    }
}

impl Wait {
    /// Waits if asked to, then prints what is worn.
    pub(super) async fn show(
        &self,
        session: &Session,
        subject: &SubjectId,
        answer: Option<AssignmentView>,
    ) -> anyhow::Result<()> {
        let answer = match answer {
            Some(answer) if self.wait && !answer.in_force => {
                let settled = until_in_force(session, subject, Duration::from_millis(self.wait_limit.0)).await?;
                Some(AssignmentView { changed: answer.changed, ..settled })
            }
            None if self.wait => {
                Some(until_in_force(session, subject, Duration::from_millis(self.wait_limit.0)).await?)
            }
            answer => answer,
        };
        match answer {
            Some(answer) => session.output.show(&answer, assignment_text),
            None => show_done(session.output, "decision for", subject, "taken back"),
        }
    }
}

/// What a subject wears, for people.
pub(super) fn assignment_text(assignment: &AssignmentView) -> String {
    let now = now_ms();
    let rows = assignment.sections.iter().map(|(section, worn)| {
        let persona = format!("{}@{}", worn.persona, worn.version);
        let until = worn.until_ms.map_or_else(|| "-".to_owned(), |until| ahead(Some(until), now));
        [section.clone(), persona, worn.layer.clone(), until, worn.reason.clone()]
    });
    let force = match (assignment.in_force, assignment.lease) {
        (true, Some(lease)) => format!("in force with lease {lease}"),
        (true, None) => "in force".to_owned(),
        (false, _) => "not in force yet".to_owned(),
    };
    let table = table_of(&["SECTION", "PERSONA", "BY", "REVERTS", "WHY"], rows, "nothing");
    format!("{} wears, {force}:\n{table}", assignment.subject)
}
