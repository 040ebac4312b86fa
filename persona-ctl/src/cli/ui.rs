//! `persona-ctl ui`: the way to the manager's page, and who is at it.

use clap::{Args, Subcommand};
use persona_core::units::Span;
use persona_core::wire::api::{NewWebLink, WebLink, WebSessionView};

use super::print::{ahead, now_ms, show_done, table_of};
use super::{Output, Session};

/// Print a link to the manager's page that logs a browser in as you, once.
///
/// It is good for a minute, for whoever opens it first. The session may what you may, lasts eight hours, and ends with your
/// access token.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct UiArgs {
    /// Sessions at the page.
    #[command(subcommand)]
    command: Option<UiCommand>,
    /// How long the link is good for, up to 10m.
    #[arg(long, value_name = "TIME", default_value = "1m")]
    ttl: Span,
}

/// What to do with sessions at the page.
#[derive(Debug, Subcommand)]
enum UiCommand {
    /// List sessions, without their secrets.
    List,
    /// End a session: whoever is there is out at once.
    Revoke {
        /// The session's id.
        id: String,
    },
}

impl UiArgs {
    pub(super) async fn run(self, session: &Session) -> anyhow::Result<()> {
        match self.command {
            None => print_link(session, self.ttl).await,
            Some(UiCommand::List) => session.output.show(&session.client.web_sessions().await?, |all| list(all)),
            Some(UiCommand::Revoke { id }) => {
                session.client.delete_web_session(&id).await?;
                show_done(session.output, "session", &id, "ended")
            }
        }
    }
}

async fn print_link(session: &Session, ttl: Span) -> anyhow::Result<()> {
    let link = session.client.create_web_link(&NewWebLink { ttl_ms: Some(ttl.0) }).await?;
    // The link alone on standard output, so that it can go straight to a browser.
    if session.output == Output::Table {
        let which = if link.urls.len() > 1 { " (one of them, for the manager that you reach)" } else { "" };
        eprintln!("open this within {ttl}; it works once{which}:");
    }
    session.output.show(&link, |link: &WebLink| link.urls.join("\n"))
}

fn list(sessions: &[WebSessionView]) -> String {
    let now = now_ms();
    let rows = sessions.iter().map(|session| {
        let (role, expires) = (session.role.to_string(), ahead(Some(session.expires_ms), now));
        [session.id.clone(), session.owner.clone(), role, expires]
    });
    table_of(&["SESSION", "WHOSE", "ROLE", "ENDS"], rows, "nobody is at the page")
}
