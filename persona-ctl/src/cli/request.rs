//! `persona-ctl request`: an application says what it needs, the manager chooses. With `--local` it asks as the application that it
//! is, over the socket of this node's agent.

use std::path::PathBuf;

use clap::Args;
use persona_core::content::ContentSource;
use persona_core::ids::{Capability, SubjectId};
use persona_core::units::Span;
use persona_core::wire::api::{AssignmentView, CapabilityRequest};
use persona_core::wire::ask::Ask;

use super::switch::{Wait, assignment_text};
use super::{Output, Session, on_runtime};
use crate::agent::ask_agent;

/// Where agents are told to serve applications (packaging/examples/agent.toml).
const SOCKET: &str = "/run/persona/requests.sock";

/// Arguments of `request`.
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing changes if the persona that is worn already has the capabilities.

Examples:
  persona-ctl request workload/n1/web --capability low-latency --for 1h
  persona-ctl request workload/n1/web --capability low-latency --content cdn.example.com
  persona-ctl request workload/n1/web --release
  persona-ctl request --local --capability low-latency --for 90m     for the workload that this process is in
  persona-ctl request --local                                        what it wears")]
pub(super) struct RequestArgs {
    /// Who: node/NAME or workload/NODE/NAME.
    #[arg(required_unless_present = "local", conflicts_with = "local")]
    subject: Option<SubjectId>,
    /// Ask this node's agent for the workload that this process is in; no manager and no token are needed.
    #[arg(long)]
    local: bool,
    /// The agent's socket.
    #[arg(long, value_name = "PATH", default_value = SOCKET, requires = "local", conflicts_with = "subject")]
    socket: PathBuf,
    /// What its persona must have; may be given several times.
    #[arg(long, value_name = "CAPABILITY", required_unless_present_any = ["release", "local"], conflicts_with = "release")]
    capability: Vec<Capability>,
    /// The content that its edge should be close to: the name of a host, a prefix, or a place as degrees north and east.
    #[arg(long, value_name = "CONTENT", requires = "capability", allow_hyphen_values = true)]
    content: Option<ContentSource>,
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
    /// Whether it asks the agent of this host, not the manager.
    pub(super) fn is_local(&self) -> bool {
        self.local
    }

    /// Asks the agent of this host.
    pub(super) fn run_local(self, output: Output) -> anyhow::Result<()> {
        let ask = self.ask()?;
        let mut view = None;
        on_runtime(async {
            view = Some(ask_agent(&self.socket, &ask).await?);
            Ok(())
        })?;
        let view: AssignmentView = view.expect("the agent has answered");
        if matches!(ask, Ask::Request { .. }) && !view.changed && output == Output::Table {
            eprintln!("nothing changed: what {} wears satisfies the request already", view.subject);
        }
        output.show(&view, assignment_text)
    }

    fn ask(&self) -> anyhow::Result<Ask> {
        let capabilities = self.capability.clone();
        match (self.release, capabilities.is_empty(), self.duration) {
            (true, ..) => Ok(Ask::Release),
            (false, true, _) => Ok(Ask::Show),
            (false, false, Some(duration)) => {
                Ok(Ask::Request { capabilities, duration, content: self.content.clone() })
            }
            (false, false, None) => anyhow::bail!("say for how long, such as --for 90m: applications ask for a while"),
        }
    }

    pub(super) async fn run(self, session: &Session) -> anyhow::Result<()> {
        let subject = self.subject.expect("clap requires a subject where --local is not given");
        let answer = if self.release {
            session.client.release_request(&subject).await?
        } else {
            let request = CapabilityRequest {
                subject: subject.clone(),
                capabilities: self.capability,
                content: self.content,
                for_ms: self.duration.map(|span| span.0),
            };
            Some(session.client.request_capabilities(&request).await?)
        };
        let unchanged = answer.as_ref().is_some_and(|answer| !answer.changed);
        if unchanged && !self.release && session.output == Output::Table {
            eprintln!("nothing changed: what {subject} wears satisfies the request already");
        }
        self.wait.show(session, &subject, answer).await
    }
}
