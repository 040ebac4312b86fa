//! Keeps the security settings of a node's workloads that have no agent inside, now and then and on news, in a thread that may
//! block.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use persona_core::ids::SubjectId;
use persona_core::security::{judge, news, report};
use persona_core::wire::security::{
    SecurityReport, SecuritySettings, SecurityState, SettingReport, SettingState, SubjectSecurity,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::look::look;
use super::parameters;
use super::settings::{Outcome, Settings};
use crate::bulletin::{Bulletin, Told};
use crate::host::error_chain;
use crate::limits::{InstanceConfig, LimitsConfig, Source, boot_id, find, first_process};
use crate::privilege;

/// Settings are looked at again after this time.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);

/// Whose settings are wanted how.
type Worn = Arc<BTreeMap<SubjectId, SubjectSecurity>>;

/// The settings of a node's workloads.
#[derive(Debug)]
pub struct Keeper {
    worn: watch::Sender<Option<Worn>>,
    bulletin: Bulletin<SubjectId, SecurityReport, Told>,
}

impl Keeper {
    /// Starts to keep. Ends with `stop`; settings stay as they are.
    pub fn start(
        instances: BTreeMap<SubjectId, Option<InstanceConfig>>,
        limits: LimitsConfig,
        state_dir: &Path,
        stop: &CancellationToken,
    ) -> Self {
        let (worn, receiver) = watch::channel(None);
        let bulletin = Bulletin::default();
        let (kept, known) = Default::default();
        let records = state_dir.join("security");
        let round = Round { instances, limits, records, kept, known, bulletin: bulletin.clone() };
        tokio::spawn(stop.clone().run_until_cancelled_owned(run(round, receiver)));
        Self { worn, bulletin }
    }

    /// Says what everybody wears. Who is missing wears no settings, and what was changed of his goes back.
    pub fn want(&self, worn: BTreeMap<SubjectId, SubjectSecurity>) {
        self.worn.send_if_modified(|current| {
            let is_new = current.as_deref() != Some(&worn);
            if is_new {
                *current = Some(Arc::new(worn));
            }
            is_new
        });
    }

    /// How the settings of everybody who wears some stand.
    pub fn reports(&self) -> Vec<SecurityReport> {
        self.bulletin.reports()
    }

    /// What happened since this was last asked.
    pub fn take_told(&self) -> Vec<Told> {
        self.bulletin.take_told()
    }
}

async fn run(mut round: Round, mut worn: watch::Receiver<Option<Worn>>) {
    loop {
        let current = worn.borrow_and_update().clone();
        if let Some(current) = current {
            let done = tokio::task::spawn_blocking(move || {
                round.turn(&current);
                round
            });
            round = match done.await {
                Ok(same) => same,
                Err(error) => {
                    return tracing::error!(%error, "security settings are no longer kept until the next start");
                }
            };
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            changed = worn.changed() => if changed.is_err() { return },
        }
    }
}

struct Round {
    instances: BTreeMap<SubjectId, Option<InstanceConfig>>,
    limits: LimitsConfig,
    records: PathBuf,
    kept: BTreeMap<SubjectId, Settings>,
    /// What was seen when it last could be looked at: that is what there is news against.
    known: BTreeMap<SubjectId, SecurityReport>,
    bulletin: Bulletin<SubjectId, SecurityReport, Told>,
}

impl Round {
    fn turn(&mut self, worn: &BTreeMap<SubjectId, SubjectSecurity>) {
        self.known.retain(|subject, _| worn.contains_key(subject));
        self.bulletin.retain(|subject| worn.contains_key(subject));
        for (subject, security) in worn {
            let report = report(subject, security, self.look(subject, &security.settings));
            let told = news(self.known.get(subject), &report);
            if report.state != SecurityState::Unknown {
                self.known.insert(subject.clone(), report.clone());
            }
            let told = told.map(|(event, message)| Told { subject: subject.clone(), event, message });
            self.bulletin.post(subject.clone(), report, told);
        }
        let others =
            self.instances.keys().filter(|subject| !worn.contains_key(subject) && self.record(subject).exists());
        for subject in others.cloned().collect::<Vec<SubjectId>>() {
            if let Err(error) = self.look(&subject, &SecuritySettings::default()) {
                tracing::debug!(%subject, error, "its security settings are not put back yet");
            }
        }
    }

    fn record(&self, subject: &SubjectId) -> PathBuf {
        self.records.join(format!("{}.json", subject.to_string().replace('/', "-")))
    }

    /// Makes true what can be, and looks at the rest.
    fn look(&mut self, subject: &SubjectId, wanted: &SecuritySettings) -> Result<Vec<SettingReport>, String> {
        let instance = match self.instances.get(subject) {
            Some(Some(instance)) => instance,
            _ => return Err("the agent's configuration does not say which instance it is: see container, oci_state, unit or limit_cgroup".to_owned()),
        };
        if matches!(instance.source, Source::Guest(_)) {
            return Err(
                "a guest's settings are made from inside: start persona-ctl agent --guest in it, and set guest_agent"
                    .to_owned(),
            );
        }
        let found = find(instance, &self.limits).map_err(|error| error_chain(&error))?;
        let pid = first_process(&found.whereabouts.places).ok_or("no process is in its control group")?;
        let mut settings = self.parameters(subject, pid, wanted)?;
        settings.extend(judge(wanted, &look(Path::new("/proc"), pid)?));
        Ok(settings)
    }

    /// Parameters of the network are an instance's own if it has a network of its own; all others are the host's.
    fn parameters(
        &mut self,
        subject: &SubjectId,
        pid: u32,
        wanted: &SecuritySettings,
    ) -> Result<Vec<SettingReport>, String> {
        let record = self.record(subject);
        if wanted.sysctl.is_empty() && !record.exists() {
            return Ok(Vec::new());
        }
        let namespace = privilege::open_namespace(Path::new(&format!("/proc/{pid}/ns/net")));
        let namespace = namespace.map_err(|error| format!("the network namespace of process {pid}: {error}"))?;
        let is_own = is_own_network(&namespace).map_err(|error| error.to_string())?;
        let (own, others) = wanted.sysctl.clone().into_iter().partition(|(name, _)| is_own && name.starts_with("net."));
        let others: BTreeMap<String, String> = others;
        let mut reports: Vec<SettingReport> =
            others.into_iter().map(|(name, value)| not_its_own(&name, value)).collect();
        if is_own {
            let identity = format!("{} net={}", boot_id(), namespace.metadata().map_or(0, |found| found.ino()));
            let own = SecuritySettings { sysctl: own, ..SecuritySettings::default() };
            let place = parameters::Place::Namespace(namespace);
            let kept = self.kept.entry(subject.clone()).or_insert_with(|| Settings::new(record, true));
            let Outcome { settings, .. } = kept.turn(&place, &identity, &own);
            reports.extend(settings);
        }
        Ok(reports)
    }
}

fn is_own_network(namespace: &File) -> std::io::Result<bool> {
    let (host, there) = (std::fs::metadata("/proc/self/ns/net")?, namespace.metadata()?);
    Ok((host.dev(), host.ino()) != (there.dev(), there.ino()))
}

fn not_its_own(name: &str, wanted: String) -> SettingReport {
    let reason =
        "it shares this parameter with its host: only those of net are its own, and only in a network of its own";
    SettingReport {
        setting: format!("sysctl.{name}"),
        wanted,
        actual: None,
        state: SettingState::Unsupported,
        reason: Some(reason.to_owned()),
    }
}
