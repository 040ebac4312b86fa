//! Which manager a command asks, how that is told from others, and as whom it is asked.
//!
//! Secrets come from files and variables, never from arguments, which everybody on the host can read.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use persona_core::wire::agent::roots_digest;
use persona_core::wire::credential::Credential;

use crate::client::{Access, ApiClient, Context, Contexts, MANAGER_DEFAULT};
use crate::trust::Trust;

/// The socket of a manager that runs with default paths.
const SOCKET_DEFAULT: &str = "/var/lib/persona/manager.state/admin.sock";

/// Flags of every command that asks the manager.
#[derive(Debug, Args)]
pub(super) struct AccessArgs {
    /// The manager to ask: https://HOST:PORT, or unix:PATH of a manager's own socket. By default those that the token
    /// or the context names, else this host's own socket where there is one, else https://127.0.0.1:7600. Several of one
    /// fleet stand with commas between them; the next is asked where one cannot be reached.
    #[arg(long, global = true, value_name = "URL", env = "PERSONA_MANAGER")]
    pub manager: Option<String>,
    /// The context to use, of those that `persona-ctl login` made. Default: the current one.
    #[arg(long, global = true, value_name = "NAME", env = "PERSONA_CONTEXT")]
    context: Option<String>,
    /// File with an access token, the whole line as it was printed.
    #[arg(long, global = true, value_name = "FILE", env = "PERSONA_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// File with root certificates in PEM that the manager's must verify under, instead of the token's pin.
    #[arg(long, global = true, value_name = "FILE", env = "PERSONA_CA_FILE")]
    ca_file: Option<PathBuf>,
    /// Go over the limit of what changes may reach of the fleet within an hour, and why; administrators may. The event log
    /// keeps it. `persona-ctl reach show` has the limit.
    #[arg(long, global = true, value_name = "REASON")]
    override_reach: Option<String>,
    /// Why something is changed, for commands that change something.
    #[arg(skip)]
    pub reason: Option<String>,
}

impl AccessArgs {
    /// Finds out all of it.
    pub(super) fn resolve(self) -> anyhow::Result<Access> {
        let (override_reach, reason) = (self.override_reach.clone(), self.reason.clone());
        Ok(Access { override_reach, reason, ..self.of_whom()? })
    }

    fn of_whom(self) -> anyhow::Result<Access> {
        let is_told = self.token_file.is_some() || self.manager.is_some();
        if !is_told && let Some(access) = self.of_context()? {
            return Ok(access);
        }
        let credential = self.token_file.as_deref().map(read_token).transpose()?;
        let named = credential.as_ref().map(|credential| credential.managers.join(","));
        let manager = self.manager.or(named).unwrap_or_else(|| local_manager(Path::new(SOCKET_DEFAULT)));
        let roots = self.ca_file.as_deref().map(read_roots).transpose()?;
        let pin = credential.as_ref().and_then(|credential| credential.pin).map(Trust::Pin);
        let token = credential.map(|credential| credential.bearer());
        Ok(Access { manager, trust: roots.or(pin), token, ..Access::default() })
    }
}

impl AccessArgs {
    /// The name of the context that says how the manager is asked. None: a flag or a variable does, or this host.
    pub(super) fn context(&self) -> anyhow::Result<Option<String>> {
        if self.token_file.is_some() || self.manager.is_some() || self.ca_file.is_some() {
            return Ok(None);
        }
        Ok(self.contexts()?.and_then(|contexts| self.context.clone().or(contexts.current)))
    }

    fn contexts(&self) -> anyhow::Result<Option<Contexts>> {
        match Contexts::path() {
            Ok(path) => Ok(Some(Contexts::load(&path)?)),
            Err(_) if self.context.is_none() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What a context says; a flag for the roots goes over it.
    fn of_context(&self) -> anyhow::Result<Option<Access>> {
        let Some(contexts) = self.contexts()? else { return Ok(None) };
        let Some(context) = contexts.find(self.context.as_deref())? else { return Ok(None) };
        let access = context.access().context("the context's token is not valid: log in again")?;
        let roots = self.ca_file.as_deref().map(read_roots).transpose()?;
        Ok(Some(Access { trust: roots.or(access.trust), ..access }))
    }
}

/// Keeps the roots that the manager wants trusted, if those of the context are others by now.
pub(super) async fn take_over_roots(name: &str, client: &ApiClient) -> anyhow::Result<()> {
    let Some(wanted) = client.roots_digest() else { return Ok(()) };
    let path = Contexts::path()?;
    let is_other = |context: &Context| {
        !context.roots.is_empty() && roots_digest(context.roots.iter().map(String::as_str)) != wanted
    };
    if !Contexts::load(&path)?.contexts.get(name).is_some_and(is_other) {
        return Ok(());
    }
    let roots = client.roots().await?.roots;
    let mut contexts = Contexts::load(&path)?;
    if let Some(context) = contexts.contexts.get_mut(name).filter(|_| !roots.is_empty()) {
        context.roots = roots;
        contexts.store(&path)?;
        eprintln!("context {name}: the fleet's root certificates have changed, the new ones are kept");
    }
    Ok(())
}

/// The manager of this host.
fn local_manager(socket: &Path) -> String {
    if socket.exists() { format!("unix:{}", socket.display()) } else { MANAGER_DEFAULT.to_owned() }
}

/// Reads an access token from a file.
pub(super) fn read_token(path: &Path) -> anyhow::Result<Credential> {
    let text = std::fs::read_to_string(path).with_context(|| format!("token file {}", path.display()))?;
    text.parse().with_context(|| format!("token file {}", path.display()))
}

fn read_roots(path: &Path) -> anyhow::Result<Trust> {
    let text = std::fs::read_to_string(path).with_context(|| format!("root certificates {}", path.display()))?;
    Trust::from_pem(&text).with_context(|| format!("root certificates {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_where_the_manager_is_and_a_flag_goes_over_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        let pin = "0a".repeat(32);
        std::fs::write(&file, format!("1f.aabb.{pin}@https://m1:1,https://m2:1\n")).unwrap();
        let args = |manager: Option<&str>| AccessArgs {
            manager: manager.map(str::to_owned),
            context: None,
            token_file: Some(file.clone()),
            ca_file: None,
            override_reach: None,
            reason: None,
        };
        let access = args(None).resolve().unwrap();
        assert_eq!((access.manager.as_str(), access.token.as_deref()), ("https://m1:1,https://m2:1", Some("1f.aabb")));
        assert_eq!(access.trust, Some(Trust::Pin(pin.parse().unwrap())));
        assert_eq!(args(Some("https://other:1")).resolve().unwrap().manager, "https://other:1");
        std::fs::write(&file, "1f.aabb").unwrap();
        let error = format!("{:#}", args(None).resolve().err().unwrap());
        assert!(error.contains("whole line") && !error.contains("aabb"), "{error}");
    }

    #[test]
    fn the_hosts_own_socket_is_asked_where_there_is_one() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(local_manager(&directory.path().join("none")), MANAGER_DEFAULT);
        assert_eq!(local_manager(directory.path()), format!("unix:{}", directory.path().display()));
    }
}
