//! `persona-ctl audit`: whether the chain of events is what was written, and a checkpoint of it to keep elsewhere.
//!
//! Everything is checked here, by the roots that this host trusts; the manager is asked for what is stored only.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use persona_core::audit::{self, AuditEntry, AuditReport, AuditSeal, Exported, Walk};
use persona_core::wire::api::{AuditCheckpoint, Roots};
use persona_manager::{SealKeys, verify_audit};
use serde::{Deserialize, Serialize};

use super::Output;
use super::access::AccessArgs;
use super::manager_store::StoreArgs;
use crate::client::{Access, ApiClient};
use crate::trust::Trust;

/// How often everything is read anew because old events were dropped meanwhile.
const READ_COUNT_MAX: u32 = 3;

/// What to do with the chain of events.
#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Check every event and every signature, and say which event was altered, removed, inserted or moved.
    ///
    /// Who can write to the store can cut the end off, and who has the fleet's key too can write all of it anew: a checkpoint
    /// kept elsewhere (`audit export`) shows that.
    #[command(
        after_help = "Examples:\n  persona-ctl audit verify\n  persona-ctl audit verify --against /media/usb/audit-monday.jsonl\n  persona-ctl audit verify --offline --store backup.sqlite --roots roots.pem\n\nExit codes: 0 whole, 1 not checked, 3 something is wrong."
    )]
    Verify(VerifyArgs),
    /// Write a signed checkpoint, and the events since one if asked for, to be kept where the manager cannot write.
    #[command(
        after_help = "Examples:\n  persona-ctl audit export --to audit-monday.jsonl\n  persona-ctl audit export --since 0 --to audit-all.jsonl"
    )]
    Export(ExportArgs),
}

/// Arguments of `audit verify`.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// What `audit export` wrote: the chain must go on from there. May be given several times.
    #[arg(long, value_name = "FILE")]
    against: Vec<PathBuf>,
    /// Root certificates in PEM that signatures must be by; those that the manager is known by otherwise.
    #[arg(long, value_name = "FILE")]
    roots: Option<PathBuf>,
    /// Read the store itself, or a backup of it, instead of asking the manager.
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    store: StoreArgs,
}

/// Arguments of `audit export`.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// Write the events after this number too; 0 is all that are kept.
    #[arg(long, value_name = "NUMBER")]
    since: Option<u64>,
    /// The new file; standard output otherwise.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

/// A line of an export: events, then the checkpoint.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Line {
    Event(AuditEntry),
    Checkpoint(AuditSeal),
}

/// A chain that is not what was written.
#[derive(Debug)]
pub(super) struct BrokenChain(usize);

impl fmt::Display for BrokenChain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.0 == 1 { "finding" } else { "findings" };
        write!(formatter, "the chain of events is not what was written: {} {word}", self.0)
    }
}

impl std::error::Error for BrokenChain {}

impl AuditCommand {
    pub(super) fn run(self, access: AccessArgs, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Verify(args) if args.offline => args.run_offline(output),
            Self::Verify(args) => super::on_runtime(args.run(access.resolve()?, output)),
            Self::Export(args) => super::on_runtime(args.run(access.resolve()?)),
        }
    }
}

impl VerifyArgs {
    async fn run(self, access: Access, output: Output) -> anyhow::Result<()> {
        let client = ApiClient::open(&access)?;
        let keys = match &self.roots {
            Some(path) => read_keys(path)?,
            None => keys_of(&client, &access).await?,
        };
        let kept = read_exports(&self.against)?;
        show(&verify(&client, &keys, kept).await?, output)
    }

    fn run_offline(self, output: Output) -> anyhow::Result<()> {
        let roots = match &self.roots {
            Some(path) => path.clone(),
            None => self.store.state_dir()?.join("roots.pem"),
        };
        let report = verify_audit(&self.store.resolve()?, &read_keys(&roots)?, &read_exports(&self.against)?)?;
        show(&report, output)
    }
}

impl ExportArgs {
    async fn run(self, access: Access) -> anyhow::Result<()> {
        let client = ApiClient::open(&access)?;
        let AuditCheckpoint { checkpoint, .. } = client.audit_checkpoint().await?;
        let events = match self.since {
            Some(since) => client.audit_entries(since).await?,
            None => Vec::new(),
        };
        let events = events.into_iter().filter(|event| event.number <= checkpoint.number);
        let lines = events.map(Line::Event).chain([Line::Checkpoint(checkpoint.clone())]);
        let text: String =
            lines.map(|line| serde_json::to_string(&line).map(|line| line + "\n")).collect::<Result<_, _>>()?;
        match &self.to {
            None => std::io::stdout().lock().write_all(text.as_bytes())?,
            Some(path) => {
                write_new(path, &text).with_context(|| format!("{} cannot be written", path.display()))?;
                eprintln!("{} holds a checkpoint of event {}: keep it elsewhere", path.display(), checkpoint.number);
            }
        }
        Ok(())
    }
}

/// Reads everything from the manager and checks it, with what the manager itself says that it wrote last.
async fn verify(client: &ApiClient, keys: &SealKeys, kept: Vec<Exported>) -> anyhow::Result<AuditReport> {
    for _ in 0..READ_COUNT_MAX {
        let AuditCheckpoint { checkpoint, stub } = client.audit_checkpoint().await?;
        let since = stub.as_ref().map_or(0, |stub| stub.number);
        let events = client.audit_entries(since).await?;
        if client.audit_checkpoint().await?.stub != stub {
            continue;
        }
        let mut walk = Walk::new(stub, |seal, purpose| keys.is_signed(seal, purpose));
        events.iter().for_each(|event| walk.take(event));
        let told = Exported { name: "what the manager says it wrote".to_owned(), checkpoint, entries: Vec::new() };
        return Ok(walk.finish(&[kept, vec![told]].concat()));
    }
    bail!("events were dropped for their age again and again while they were read: try again");
}

/// The keys of the roots that this client trusts; on the manager's own socket, those that it names.
async fn keys_of(client: &ApiClient, access: &Access) -> anyhow::Result<SealKeys> {
    let Roots { roots: told, retired } = client.roots().await?;
    let told = || SealKeys::read(&told.concat());
    let keys = match &access.trust {
        Some(Trust::Roots(roots)) => SealKeys::read(&roots.concat())?,
        Some(Trust::Pin(pin)) => told()?.only(&pin.to_string()),
        None => told()?,
    };
    Ok(keys.and_retired(&retired))
}

fn read_keys(path: &Path) -> anyhow::Result<SealKeys> {
    let text = std::fs::read_to_string(path).with_context(|| format!("root certificates {}", path.display()))?;
    SealKeys::read(&text).with_context(|| format!("root certificates {}", path.display()))
}

fn read_exports(paths: &[PathBuf]) -> anyhow::Result<Vec<Exported>> {
    paths.iter().map(|path| read_export(path).with_context(|| format!("checkpoint {}", path.display()))).collect()
}

fn read_export(path: &Path) -> anyhow::Result<Exported> {
    let (mut entries, mut checkpoint) = (Vec::new(), None);
    for line in std::fs::read_to_string(path)?.lines() {
        match serde_json::from_str(line)? {
            Line::Event(event) => entries.extend(event.hash.map(|hash| (event.number, hash))),
            Line::Checkpoint(seal) => checkpoint = Some(seal),
        }
    }
    let checkpoint = checkpoint.context("it has no checkpoint at its end: use what `audit export` wrote, whole")?;
    Ok(Exported { name: path.display().to_string(), checkpoint, entries })
}

fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = std::fs::File::create_new(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn show(report: &AuditReport, output: Output) -> anyhow::Result<()> {
    output.show(report, tell)?;
    if report.is_whole() { Ok(()) } else { Err(BrokenChain(report.findings.len()).into()) }
}

fn tell(report: &AuditReport) -> String {
    let AuditReport { entry_count, process_count, seal_count, .. } = report;
    let range = report.first.zip(report.last).map(|(first, last)| format!(", {first} to {last}")).unwrap_or_default();
    let signed = match report.sealed_to {
        Some(to) => format!("{seal_count} signatures, the newest of event {to}"),
        None => "nothing is signed yet".to_owned(),
    };
    let mut lines = vec![format!("{entry_count} events{range}, by {process_count} processes; {signed}")];
    lines.extend(report.notes.iter().cloned());
    let told: BTreeSet<_> = report.findings.iter().map(|it| (it.first, it.last, it.kind, &it.detail)).collect();
    lines.extend(told.into_iter().map(|(first, last, kind, detail)| {
        let kind = serde_json::to_value(kind).ok().and_then(|kind| kind.as_str().map(str::to_owned));
        format!("{}: {}: {detail}", audit::events((first, last)), kind.unwrap_or_default())
    }));
    lines.extend(report.is_whole().then(|| "the chain is whole".to_owned()));
    lines.join("\n")
}
