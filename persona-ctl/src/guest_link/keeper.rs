//! Keeps a connection to each guest that the configuration names, and says how guests stand.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use persona_core::guest::{security_report, software_report};
use persona_core::ids::{Generation, NodeName, SubjectId, WorkloadName};
use persona_core::wire::security::{SecurityReport, SecurityState, SubjectSecurity};
use persona_core::wire::software::{SoftwareReport, SoftwareState, SubjectSoftware};
use persona_core::{security, software};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::heard::Heard;
use super::session::{attend, connect};
use crate::bulletin::Told;

/// A guest that cannot be reached is tried again after this time.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// What a guest wears inside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Worn {
    /// Security settings.
    pub security: Option<SubjectSecurity>,
    /// Packages.
    pub software: Option<SubjectSoftware>,
}

/// What all guests wear, and in which generation. None: not known yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted(pub(super) Option<Arc<(Generation, BTreeMap<WorkloadName, Worn>)>>);

/// The guests of a node that have an agent inside.
#[derive(Debug)]
pub struct Guests {
    node: NodeName,
    places: BTreeMap<WorkloadName, PathBuf>,
    wanted: watch::Sender<Wanted>,
    heard: Heard,
    /// What was known when there last was news.
    security: BTreeMap<SubjectId, SecurityReport>,
    software: BTreeMap<SubjectId, SoftwareReport>,
}

impl Guests {
    /// Starts to connect to the guests behind these sockets. Ends with `stop`.
    pub fn start(node: NodeName, places: BTreeMap<WorkloadName, PathBuf>, stop: &CancellationToken) -> Self {
        let (wanted, receiver) = watch::channel(Wanted::default());
        let heard = Heard::default();
        for (workload, path) in places.clone() {
            let link = keep(workload, path, receiver.clone(), heard.clone());
            tokio::spawn(stop.clone().run_until_cancelled_owned(link));
        }
        let (security, software) = Default::default();
        Self { node, places, wanted, heard, security, software }
    }

    /// Takes out of what everybody wears what is theirs.
    pub fn take_worn(
        &self,
        security: &mut BTreeMap<SubjectId, SubjectSecurity>,
        software: &mut BTreeMap<SubjectId, SubjectSoftware>,
    ) -> BTreeMap<WorkloadName, Worn> {
        let one = |name: &WorkloadName| {
            let subject = SubjectId::Workload(self.node.clone(), name.clone());
            let worn = Worn { security: security.remove(&subject), software: software.remove(&subject) };
            (worn != Worn::default()).then(|| (name.clone(), worn))
        };
        self.places.keys().filter_map(one).collect()
    }

    /// What they say, for whoever measures.
    pub fn heard(&self) -> Heard {
        self.heard.clone()
    }

    /// Says what they wear in a generation. One that is missing wears nothing.
    pub fn want(&self, generation: Generation, worn: BTreeMap<WorkloadName, Worn>) {
        self.wanted.send_if_modified(|current| {
            let is_new = current.0.as_deref().is_none_or(|(known, before)| *known != generation || *before != worn);
            if is_new {
                current.0 = Some(Arc::new((generation, worn)));
            }
            is_new
        });
    }

    /// How the settings and packages of everybody who wears some stand, and what there is to tell of it.
    pub fn turn(&mut self) -> (Vec<SecurityReport>, Vec<SoftwareReport>, Vec<Told>) {
        let wanted = self.wanted.borrow().clone();
        let (mut settings, mut packages, mut told) = (Vec::new(), Vec::new(), Vec::new());
        for (name, worn) in wanted.0.iter().flat_map(|wanted| &wanted.1) {
            let subject = SubjectId::Workload(self.node.clone(), name.clone());
            let heard = self.heard.last(name);
            let heard = || heard.as_ref().map_err(Clone::clone);
            settings.extend(worn.security.as_ref().map(|worn| security_report(&subject, worn, heard())));
            packages.extend(worn.software.as_ref().map(|worn| software_report(&subject, worn, heard())));
        }
        for report in &settings {
            told.extend(told_of(&report.subject, security::news(self.security.get(&report.subject), report)));
        }
        for report in &packages {
            told.extend(told_of(&report.subject, software::news(self.software.get(&report.subject), report)));
        }
        self.security = known(&self.security, &settings, |it| (&it.subject, it.state == SecurityState::Unknown));
        self.software = known(&self.software, &packages, |it| (&it.subject, it.state == SoftwareState::Unknown));
        (settings, packages, told)
    }
}

fn told_of(subject: &SubjectId, news: Option<(&'static str, String)>) -> Option<Told> {
    news.map(|(event, message)| Told { subject: subject.clone(), event, message })
}

/// What there is news against: the last report of each that says something.
fn known<R: Clone>(
    before: &BTreeMap<SubjectId, R>,
    now: &[R],
    about: impl Fn(&R) -> (&SubjectId, bool),
) -> BTreeMap<SubjectId, R> {
    let one = |report: &R| {
        let (subject, is_unknown) = about(report);
        let kept = if is_unknown { before.get(subject)?.clone() } else { report.clone() };
        Some((subject.clone(), kept))
    };
    now.iter().filter_map(one).collect()
}

async fn keep(workload: WorkloadName, path: PathBuf, wanted: watch::Receiver<Wanted>, heard: Heard) {
    loop {
        let why = match connect(&path).await {
            Ok(stream) => attend(&workload, stream, wanted.clone(), &heard).await,
            Err(error) => format!("{}: {error}", path.display()),
        };
        if heard.note_trouble(&workload, &why) {
            tracing::info!(workload = %workload, why, "the agent inside a guest is not heard");
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests;
