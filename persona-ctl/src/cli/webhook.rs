//! `persona-ctl webhook`: where events are sent, and what did not get there.

use clap::{Args, Subcommand};
use persona_core::webhook::EventPattern;
use persona_core::wire::api::{DeadLetterView, NewWebhook, RetryDeadLetters, WebhookSecret, WebhookView};

use super::print::{ago, now_ms, show_done, table_of};
use super::{Output, Session};

/// What to do with webhooks.
#[derive(Debug, Subcommand)]
pub(super) enum WebhookCommand {
    /// Have events sent somewhere from now on; the secret that signs them is shown only now.
    Create(CreateArgs),
    /// List webhooks, without their secrets, and how they fare.
    List,
    /// Send nothing there any more, and forget its dead letters.
    Delete {
        /// The webhook's name.
        name: String,
    },
    /// List events that the receiver did not take.
    DeadLetters {
        /// The webhook's name.
        name: String,
    },
    /// Have dead letters tried again, each once.
    Retry {
        /// The webhook's name.
        name: String,
        /// Only that of the event with this number.
        #[arg(long)]
        event: Option<u64>,
    },
}

/// Arguments of `webhook create`.
#[derive(Debug, Args)]
#[command(after_help = "\
Events are posted as JSON, in order, and tried again for about two minutes while the receiver does not take them; then they are
dead letters. The header persona-signature is v1= and HMAC-SHA256(secret, TIMESTAMP.BODY) in hex, with the header
persona-timestamp; an event may come twice under the same persona-delivery.

Example:
  persona-ctl webhook create --name chat --url https://hooks.example/persona --event 'activation.*' --event edge.down > secret")]
pub(super) struct CreateArgs {
    /// Its name.
    #[arg(long)]
    name: String,
    /// Where events are posted.
    #[arg(long)]
    url: String,
    /// Which: a name such as edge.down, a family such as activation.*, or *; once for each.
    #[arg(long = "event", value_name = "PATTERN", required = true)]
    events: Vec<EventPattern>,
}

impl WebhookCommand {
    pub(super) async fn run(self, session: &Session) -> anyhow::Result<()> {
        let Session { client, output } = session;
        match self {
            Self::Create(args) => args.run(session).await,
            Self::List => output.show(&client.webhooks().await?, |webhooks| list(webhooks)),
            Self::Delete { name } => {
                client.delete_webhook(&name).await?;
                show_done(*output, "webhook", &name, "deleted")
            }
            Self::DeadLetters { name } => output.show(&client.dead_letters(&name).await?, |letters| dead(letters)),
            Self::Retry { name, event } => {
                let retried = client.retry_dead_letters(&name, &RetryDeadLetters { event }).await?;
                output.show(&retried, |retried| format!("dead letters that are tried again: {}", retried.count))
            }
        }
    }
}

impl CreateArgs {
    async fn run(self, session: &Session) -> anyhow::Result<()> {
        let new = NewWebhook { name: self.name, url: self.url, events: self.events };
        let made = session.client.create_webhook(&new).await?;
        // The secret alone on standard output, so that it can go straight into a file.
        if session.output == Output::Table {
            eprintln!("webhook {}; the secret is shown only now:", made.name);
        }
        session.output.show(&made, |made: &WebhookSecret| made.secret.clone())
    }
}

fn list(webhooks: &[WebhookView]) -> String {
    let rows = webhooks.iter().map(|webhook| {
        let events: Vec<String> = webhook.events.iter().map(EventPattern::to_string).collect();
        let trouble = webhook.trouble.clone().unwrap_or_else(|| "-".to_owned());
        let (done, dead) = (webhook.done_event.to_string(), webhook.dead_letter_count.to_string());
        [webhook.name.clone(), webhook.url.clone(), events.join(" "), done, dead, trouble]
    });
    table_of(&["WEBHOOK", "URL", "EVENTS", "DONE UP TO", "DEAD", "TROUBLE"], rows, "no webhooks")
}

fn dead(letters: &[DeadLetterView]) -> String {
    let now = now_ms();
    let rows = letters.iter().map(|letter| {
        let retried = if letter.is_retried { "is tried again" } else { "-" };
        let (event, tried) = (letter.event.to_string(), letter.attempt_count.to_string());
        let (name, about, reason) = (letter.name.clone(), letter.about.clone(), letter.reason.clone());
        [event, name, about, ago(letter.failed_ms, now), tried, reason, retried.to_owned()]
    });
    table_of(&["EVENT", "NAME", "ABOUT", "GIVEN UP", "TRIED", "WHY", "NOW"], rows, "no dead letters")
}
