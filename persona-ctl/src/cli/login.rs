//! `persona-ctl login`, `persona-ctl context`: managers that somebody has logged in at.

use std::io::Read as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use persona_core::wire::api::WhoAmI;
use persona_core::wire::credential::Credential;
use serde::Serialize;

use super::Output;
use super::access::read_token;
use super::print::{ahead, now_ms, show_done, table_of};
use crate::client::{Access, ApiClient, Context, Contexts};
use crate::trust::Trust;

/// Arguments of `login`.
#[derive(Debug, Args)]
#[command(after_help = "\
The token is the whole line that `persona-ctl access create` printed; it says where the manager is and which root its
certificate must verify under. It is kept in ~/.config/persona/contexts.toml, for its owner only.

Examples:
  persona-ctl login < token
  persona-ctl login --name prod --from token")]
pub(super) struct LoginArgs {
    /// Name of the context, to tell several managers apart.
    #[arg(long, default_value = "default")]
    name: String,
    /// File that holds the access token. Default: standard input.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

/// What to do with contexts.
#[derive(Debug, Subcommand)]
pub(super) enum ContextCommand {
    /// List contexts, without their tokens.
    List,
    /// Use another context from now on.
    Use {
        /// Its name.
        name: String,
    },
    /// Forget a context. Its token stays good: `persona-ctl access revoke` ends it.
    Remove {
        /// Its name.
        name: String,
    },
}

/// What `context list` tells of one.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ContextView {
    name: String,
    manager: String,
    token: String,
    is_current: bool,
}

impl LoginArgs {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<()> {
        let credential = self.read()?;
        let trust = credential.pin.map(Trust::Pin);
        let manager = credential.managers.join(",");
        let access = Access { manager, trust, token: Some(credential.bearer()), ..Access::default() };
        let client = ApiClient::open(&access)?;
        let known = client.whoami().await?;
        let roots = if access.trust.is_some() { client.roots().await?.roots } else { Vec::new() };
        let path = Contexts::path()?;
        let mut contexts = Contexts::load(&path)?;
        contexts.contexts.insert(self.name.clone(), Context { token: credential.to_string(), roots });
        contexts.current = Some(self.name.clone());
        contexts.store(&path)?;
        output.show(&known, |known| format!("context {}: {}", self.name, told(known)))
    }

    fn read(&self) -> anyhow::Result<Credential> {
        match &self.from {
            Some(path) => read_token(path),
            None => {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).context("standard input")?;
                text.parse().context("standard input")
            }
        }
    }
}

/// As whom the manager knows somebody, for people.
pub(super) fn told(known: &WhoAmI) -> String {
    let role = known.role.map_or_else(String::new, |role| format!(", {role}"));
    let expires = known.expires_ms.map_or_else(String::new, |at| format!(", expires {}", ahead(Some(at), now_ms())));
    format!("{}{role}{expires}", known.actor)
}

impl ContextCommand {
    pub(super) fn run(self, output: Output) -> anyhow::Result<()> {
        let path = Contexts::path()?;
        let mut contexts = Contexts::load(&path)?;
        match self {
            Self::List => output.show(&views(&contexts), |views| list(views)),
            Self::Use { name } => {
                contexts.find(Some(&name))?;
                contexts.current = Some(name.clone());
                contexts.store(&path)?;
                show_done(output, "context", &name, "in use")
            }
            Self::Remove { name } => {
                if contexts.contexts.remove(&name).is_none() {
                    bail!("there is no context {name}; `persona-ctl context list` shows what there is");
                }
                contexts.current = contexts.current.filter(|current| *current != name);
                contexts.store(&path)?;
                show_done(output, "context", &name, "forgotten")
            }
        }
    }
}

fn views(contexts: &Contexts) -> Vec<ContextView> {
    let view = |(name, context): (&String, &Context)| {
        let credential = context.token.parse::<Credential>().ok();
        let (token, managers) = credential.map(|it| (it.id, it.managers.join(","))).unwrap_or_default();
        ContextView {
            name: name.clone(),
            manager: managers,
            token,
            is_current: contexts.current.as_ref() == Some(name),
        }
    };
    contexts.contexts.iter().map(view).collect()
}

fn list(views: &[ContextView]) -> String {
    let rows = views.iter().map(|view| {
        let current = if view.is_current { "*" } else { "" };
        [current, &view.name, &view.manager, &view.token]
    });
    table_of(&["", "CONTEXT", "MANAGER", "TOKEN"], rows, "no contexts; `persona-ctl login` makes one")
}
