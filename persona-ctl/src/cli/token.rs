//! `persona-ctl token`: what nodes and edges register with.

use clap::{Args, Subcommand, ValueEnum};
use persona_core::units::Span;
use persona_core::wire::agent::Role;
use persona_core::wire::api::{JoinTokenSecret, JoinTokenView, NewJoinToken};

use super::Session;
use super::print::{ahead, listed, now_ms, show_done, table_of};

/// What to do with join tokens.
#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make a join token; the secret is shown only now.
    Create(CreateArgs),
    /// List join tokens, without their secrets.
    List,
    /// Revoke a join token; who has joined with it stays.
    #[command(alias = "delete")]
    Revoke {
        /// The token's id.
        id: String,
    },
}

/// Arguments of `token create`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  persona-ctl token create --role node --name n1 --ttl 1h > join-token")]
pub(super) struct CreateArgs {
    /// What may join with it.
    #[arg(long, value_enum)]
    role: JoinRole,
    /// The only name that may join with it.
    #[arg(long)]
    name: Option<String>,
    /// How many different keys may join with it.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    uses: u32,
    /// A label that who joins with it has, whatever it says of itself, once for each.
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_label)]
    label: Vec<(String, String)>,
    /// How long it is good for, such as 1h.
    #[arg(long, value_name = "TIME", default_value = "1h")]
    ttl: Span,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum JoinRole {
    /// A host that runs the agent.
    Node,
    /// A device that owns egress addresses.
    Edge,
}

/// Reads `KEY=VALUE`.
pub(super) fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE, such as tier=gold".to_owned()),
    }
}

impl From<JoinRole> for Role {
    fn from(role: JoinRole) -> Role {
        match role {
            JoinRole::Node => Role::Node,
            JoinRole::Edge => Role::Edge,
        }
    }
}

impl TokenCommand {
    pub(super) async fn run(self, session: &Session) -> anyhow::Result<()> {
        match self {
            Self::Create(args) => args.run(session).await,
            Self::List => session.output.show(&session.client.join_tokens().await?, |tokens| list(tokens)),
            Self::Revoke { id } => {
                session.client.delete_join_token(&id).await?;
                show_done(session.output, "join token", &id, "revoked")
            }
        }
    }
}

impl CreateArgs {
    async fn run(self, session: &Session) -> anyhow::Result<()> {
        let token = NewJoinToken {
            role: self.role.into(),
            name: self.name,
            uses: self.uses,
            ttl_ms: self.ttl.0,
            labels: self.label.into_iter().collect(),
        };
        let secret = session.client.create_join_token(&token).await?;
        // The secret alone on standard output, so that it can go straight into a file.
        if session.output == super::Output::Table {
            eprintln!("join token {}, good for {}; the secret is shown only now:", secret.id, self.ttl);
        }
        session.output.show(&secret, |secret: &JoinTokenSecret| secret.token.clone())
    }
}

fn list(tokens: &[JoinTokenView]) -> String {
    let now = now_ms();
    let rows = tokens.iter().map(|token| {
        let role = if token.role == Role::Node { "node" } else { "edge" };
        let name = token.name.clone().unwrap_or_else(|| "any".to_owned());
        let labels = listed(token.labels.iter().map(|(key, value)| format!("{key}={value}")));
        let uses_left = token.uses_left.to_string();
        [token.id.clone(), role.to_owned(), name, labels, uses_left, ahead(Some(token.expires_ms), now)]
    });
    table_of(&["TOKEN", "ROLE", "NAME", "LABELS", "USES LEFT", "EXPIRES"], rows, "no join tokens")
}
