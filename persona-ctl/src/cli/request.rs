//! `persona-ctl request`: an application says what it needs, the manager chooses.

use clap::Args;
use persona_core::ids::{Capability, SubjectId};
use persona_core::units::Span;
use persona_core::wire::api::CapabilityRequest;

use super::switch::Wait;
use super::{Output, Session};

/// Arguments of `request`.
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing changes if the persona that is worn already has the capabilities.

Examples:
  persona-ctl request workload/n1/web --capability low-latency --for 1h
  persona-ctl request workload/n1/web --release")]
pub(super) struct RequestArgs {
    /// Who: node/NAME or workload/NODE/NAME.
    subject: SubjectId,
    /// What its persona must have; may be given several times.
    #[arg(long, value_name = "CAPABILITY", required_unless_present = "release", conflicts_with = "release")]
    capability: Vec<Capability>,
    /// For how long, such as 1h.
    #[arg(long = "for", value_name = "TIME", conflicts_with = "release")]
    duration: Option<Span>,
    /// Take the request back.
    #[arg(long)]
    release: bool,
    #[command(flatten)]
    wait: Wait,
}

impl RequestArgs {
    pub(super) async fn run(self, session: &Session) -> anyhow::Result<()> {
        let answer = if self.release {
            session.client.release_request(&self.subject).await?
        } else {
            let request = CapabilityRequest {
                subject: self.subject.clone(),
                capabilities: self.capability,
                for_ms: self.duration.map(|span| span.0),
            };
            Some(session.client.request_capabilities(&request).await?)
        };
        let unchanged = answer.as_ref().is_some_and(|answer| !answer.changed);
        if unchanged && !self.release && session.output == Output::Table {
            eprintln!("nothing changed: what {} wears satisfies the request already", self.subject);
        }
        self.wait.show(session, &self.subject, answer).await
    }
}
