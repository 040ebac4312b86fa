//! `persona-ctl authority`: the fleet's root certificates, and one taking over from another.

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use persona_core::wire::api::{AuthorityView, Retire, RootState, RootView, Rotate};

use super::Session;
use super::print::{ago, ahead, now_ms, table_of};

/// Digits of an id that tables show; as many are enough to name a root.
const SHORT_ID_LENGTH: usize = 16;

/// So many of those that need a root are named.
const NAMED_COUNT_MAX: usize = 3;

/// What to do with the authority.
#[derive(Debug, Subcommand)]
pub(super) enum AuthorityCommand {
    /// Show the roots, and who would be cut off without each.
    Show,
    /// Make a new root, which signs from now on. The one before stays trusted until it is retired.
    Rotate(RotateArgs),
    /// Take a root out of trust once another has followed it and nobody needs it any more.
    Retire(RetireArgs),
}

/// Arguments of `authority rotate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Nodes and edges that are up renew within seconds; contexts of `persona-ctl login` take the new root at their next command. \
Look at `persona-ctl authority show`, then retire the old root.

Example:
  persona-ctl authority rotate --reason 'the yearly rotation'")]
pub(super) struct RotateArgs {
    /// Why; the event has it.
    #[arg(long)]
    reason: String,
    /// Do not give the new root's key to the other managers through the store, sealed with the old one: the old key may be
    /// known to others. Copy root-ID.key between the managers' state directories then.
    #[arg(long)]
    keep_key: bool,
}

/// Arguments of `authority retire`.
#[derive(Debug, Args)]
pub(super) struct RetireArgs {
    /// The root's id or its beginning. Default: the one that another has followed.
    id: Option<String>,
    /// Why; the event has it.
    #[arg(long)]
    reason: String,
    /// Also if nodes, edges or join tokens still need it: those must join again with new tokens.
    #[arg(long)]
    force: bool,
}

impl AuthorityCommand {
    pub(super) async fn run(self, session: &Session) -> anyhow::Result<()> {
        let view = match self {
            Self::Show => session.client.authority().await?,
            Self::Rotate(args) => {
                let rotate = Rotate { reason: args.reason, share_key: !args.keep_key };
                session.client.rotate_authority(&rotate).await?
            }
            Self::Retire(args) => {
                let id = args.find(&session.client.authority().await?)?;
                let retire = Retire { reason: args.reason, force: args.force };
                session.client.retire_root(&id, &retire).await?
            }
        };
        session.output.show(&view, |view| table(view, now_ms()))
    }
}

impl RetireArgs {
    fn find(&self, view: &AuthorityView) -> anyhow::Result<String> {
        let is_meant = |root: &&RootView| match &self.id {
            Some(beginning) => root.id.starts_with(beginning.as_str()),
            None => root.state == RootState::Trusted,
        };
        let mut found = view.roots.iter().filter(is_meant);
        let first = found.next().with_context(|| match &self.id {
            Some(id) => format!("there is no root {id}; `persona-ctl authority show` lists them"),
            None => "no root has been followed by another: `persona-ctl authority rotate` comes first".to_owned(),
        })?;
        if found.next().is_some() {
            bail!("several roots begin so: write more of the id");
        }
        Ok(first.id.clone())
    }
}

fn table(view: &AuthorityView, now_ms: u64) -> String {
    let rows = view.roots.iter().map(|root| {
        let state = match root.state {
            RootState::Signing => "signing",
            RootState::Trusted => "trusted",
            RootState::Retired => "retired",
        };
        let needed = match root.state {
            RootState::Trusted => needed(root),
            RootState::Signing | RootState::Retired => "-".to_owned(),
        };
        let id = root.id.get(..SHORT_ID_LENGTH).unwrap_or(&root.id);
        let (made, ends) = (ago(root.made_ms, now_ms), ahead(Some(root.expires_ms), now_ms));
        let sealed = root.sealed_with.clone().unwrap_or_else(|| "-".to_owned());
        [id.to_owned(), state.to_owned(), made, ends, sealed, needed]
    });
    table_of(&["ROOT", "STATE", "MADE", "ENDS", "SEALED WITH", "STILL NEEDED BY"], rows, "no roots")
}

fn needed(root: &RootView) -> String {
    let all: Vec<&str> = root.agents.iter().chain(&root.join_tokens).map(String::as_str).collect();
    let named = all.get(..NAMED_COUNT_MAX).unwrap_or(&all);
    match all.len() - named.len() {
        0 if all.is_empty() => "nobody: it can be retired".to_owned(),
        0 => named.join(", "),
        others => format!("{} and {others} more", named.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(id: &str, state: RootState, agents: usize) -> RootView {
        let agents = (1..=agents).map(|number| format!("node/n{number}")).collect();
        let (id, join_tokens) = (id.repeat(64), Vec::new());
        let (sealed_with, seals_until) = (None, None);
        RootView { id, state, made_ms: 0, expires_ms: 90_000_000, agents, join_tokens, sealed_with, seals_until }
    }

    #[test]
    fn who_still_needs_a_root_is_named() {
        let needed_by = |agents| needed(&root("a", RootState::Trusted, agents));
        assert_eq!(needed_by(0), "nobody: it can be retired");
        assert_eq!(needed_by(3), "node/n1, node/n2, node/n3");
        assert_eq!(needed_by(5), "node/n1, node/n2, node/n3 and 2 more");
        let view = AuthorityView { roots: vec![root("a", RootState::Signing, 0), root("b", RootState::Trusted, 1)] };
        let told = table(&view, 1_000);
        assert!(told.contains("aaaaaaaaaaaaaaaa ") && told.contains("trusted") && told.contains("node/n1"), "{told}");
    }

    #[test]
    fn the_root_to_retire_is_the_followed_one_or_the_one_that_is_named() {
        let find = |id: Option<&str>, view: &AuthorityView| {
            RetireArgs { id: id.map(str::to_owned), reason: String::new(), force: false }.find(view).ok()
        };
        let (signing, trusted) = (root("a", RootState::Signing, 0), root("b", RootState::Trusted, 0));
        let alone = AuthorityView { roots: vec![signing.clone()] };
        assert_eq!(find(None, &alone), None);
        let both = AuthorityView { roots: vec![signing, trusted] };
        assert_eq!(find(None, &both), Some("b".repeat(64)));
        assert_eq!(find(Some("aaaa"), &both), Some("a".repeat(64)));
        assert_eq!((find(Some("c"), &both), find(Some(""), &both)), (None, None));
    }
}
