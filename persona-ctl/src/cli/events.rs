//! `persona-ctl events`: what happened, and what happens.

use clap::Args;
use futures_util::TryStreamExt;
use persona_core::wire::api::EventView;

use super::print::{print_text, utc};
use super::{Output, Session};

/// Arguments of `events`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  persona-ctl events --since 120\n  persona-ctl events --follow --output json | jq .message"
)]
pub(super) struct EventsArgs {
    /// Go on with every event as it happens.
    #[arg(long)]
    follow: bool,
    /// Only events with a higher number.
    #[arg(long, value_name = "NUMBER")]
    since: Option<u64>,
}

impl EventsArgs {
    pub(super) async fn run(self, session: &Session) -> anyhow::Result<()> {
        if self.follow {
            return follow(session, self.since).await;
        }
        let events = session.client.events(self.since).await?;
        session.output.show(&events, |events| events.iter().map(tell).collect::<Vec<_>>().join("\n"))
    }
}

/// One line or YAML document per event, until somebody ends it.
async fn follow(session: &Session, since: Option<u64>) -> anyhow::Result<()> {
    let mut events = std::pin::pin!(session.client.follow_events(since).await?);
    while let Some(event) = events.try_next().await? {
        match session.output {
            Output::Table => print_text(&tell(&event))?,
            Output::Json => print_text(&serde_json::to_string(&event)?)?,
            Output::Yaml => print_text(&format!("---\n{}", serde_saphyr::to_string(&event)?))?,
        }
    }
    anyhow::bail!("the manager ended the stream of events")
}

/// Number, time, name, what it is about, who did it, and the sentence.
fn tell(event: &EventView) -> String {
    format!(
        "{:>6}  {}  {:<22} {:<24} by {}: {}",
        event.number,
        utc(event.time_ms),
        event.name,
        event.about,
        event.actor,
        event.message
    )
}
