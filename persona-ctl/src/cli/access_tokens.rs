//! `persona-ctl access`: who may ask the manager for what.

use clap::{Args, Subcommand, ValueEnum};
use persona_core::units::Span;
use persona_core::wire::api::{AccessRole, AccessTokenSecret, AccessTokenView, NewAccessToken};

use super::print::{ahead, now_ms, show_done, table_of};
use super::{Output, Session};

/// What to do with access tokens.
#[derive(Debug, Subcommand)]
pub(super) enum AccessCommand {
    /// Make an access token for a person or a program; the secret is shown only now.
    Create(CreateArgs),
    /// List access tokens, without their secrets.
    List,
    /// Revoke an access token: whoever uses it is out at once.
    Revoke {
        /// The token's id.
        id: String,
    },
}

/// Arguments of `access create`.
#[derive(Debug, Args)]
#[command(after_help = "\
Roles: viewer looks; operator also switches, drains, weighs and deletes nodes and edges; author also writes personas,
bindings and pools; automation looks and requests capabilities; admin does everything, tokens included.

Example:
  persona-ctl access create --name alice --role operator --ttl 90d > token      # then: persona-ctl login < token")]
pub(super) struct CreateArgs {
    /// Who will use it; events name it.
    #[arg(long)]
    name: String,
    /// What it allows.
    #[arg(long, value_enum)]
    role: RoleName,
    /// How long it is good for, such as 90d.
    #[arg(long, value_name = "TIME", default_value = "30d")]
    ttl: Span,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleName {
    /// Look at everything but tokens.
    Viewer,
    /// Look; switch, request, drain, weigh, delete nodes and edges.
    Operator,
    /// Look; write personas, bindings and pools.
    Author,
    /// Look; request capabilities.
    Automation,
    /// Everything.
    Admin,
}

impl From<RoleName> for AccessRole {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Viewer => Self::Viewer,
            RoleName::Operator => Self::Operator,
            RoleName::Author => Self::Author,
            RoleName::Automation => Self::Automation,
            RoleName::Admin => Self::Admin,
        }
    }
}

impl AccessCommand {
    pub(super) async fn run(self, session: &Session) -> anyhow::Result<()> {
        match self {
            Self::Create(args) => args.run(session).await,
            Self::List => session.output.show(&session.client.access_tokens().await?, |tokens| list(tokens)),
            Self::Revoke { id } => {
                session.client.delete_access_token(&id).await?;
                show_done(session.output, "access token", &id, "revoked")
            }
        }
    }
}

impl CreateArgs {
    async fn run(self, session: &Session) -> anyhow::Result<()> {
        let token = NewAccessToken { name: self.name, role: self.role.into(), ttl_ms: self.ttl.0 };
        let secret = session.client.create_access_token(&token).await?;
        // The secret alone on standard output, so that it can go straight into a file.
        if session.output == Output::Table {
            eprintln!("access token {}, good for {}; the secret is shown only now:", secret.id, self.ttl);
        }
        session.output.show(&secret, |secret: &AccessTokenSecret| secret.token.clone())
    }
}

fn list(tokens: &[AccessTokenView]) -> String {
    let now = now_ms();
    let rows = tokens.iter().map(|token| {
        let (role, expires) = (token.role.to_string(), ahead(Some(token.expires_ms), now));
        [token.id.clone(), token.name.clone(), role, token.created_by.clone(), expires]
    });
    table_of(&["TOKEN", "NAME", "ROLE", "MADE BY", "EXPIRES"], rows, "no access tokens")
}
