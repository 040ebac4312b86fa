//! Looks at the software of everybody who wears some, now and then and on news, in a thread that may block.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use persona_core::ids::SubjectId;
use persona_core::software::{compare, news, report};
use persona_core::wire::software::{SoftwareReport, SoftwareState, SubjectSoftware};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::dpkg::Database;
use super::place::Place;
use crate::bulletin::{Bulletin, Told};
use crate::limits::LimitsConfig;

/// What is installed is looked at again after this time.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);

/// Whose software is wanted how.
type Worn = Arc<BTreeMap<SubjectId, SubjectSoftware>>;

/// The software of a node and its workloads.
#[derive(Debug)]
pub struct Keeper {
    worn: watch::Sender<Worn>,
    bulletin: Bulletin<SubjectId, SoftwareReport, Told>,
}

impl Keeper {
    /// Starts to look. Ends with `stop`.
    pub fn start(places: BTreeMap<SubjectId, Place>, limits: LimitsConfig, stop: &CancellationToken) -> Self {
        let (worn, receiver) = watch::channel(Worn::default());
        let bulletin = Bulletin::default();
        let (databases, known) = Default::default();
        let round = Round { places, limits, databases, known, bulletin: bulletin.clone() };
        tokio::spawn(stop.clone().run_until_cancelled_owned(run(round, receiver)));
        Self { worn, bulletin }
    }

    /// Says what everybody wears. Who is missing wears no software.
    pub fn want(&self, worn: BTreeMap<SubjectId, SubjectSoftware>) {
        self.worn.send_if_modified(|current| {
            let is_new = **current != worn;
            if is_new {
                *current = Arc::new(worn);
            }
            is_new
        });
    }

    /// How the software of everybody who wears some stands.
    pub fn reports(&self) -> Vec<SoftwareReport> {
        self.bulletin.reports()
    }

    /// What happened since this was last asked.
    pub fn take_told(&self) -> Vec<Told> {
        self.bulletin.take_told()
    }
}

async fn run(mut round: Round, mut worn: watch::Receiver<Worn>) {
    loop {
        let current = worn.borrow_and_update().clone();
        let done = tokio::task::spawn_blocking(move || {
            round.turn(&current);
            round
        });
        round = match done.await {
            Ok(same) => same,
            Err(error) => return tracing::error!(%error, "software is no longer looked at until the next start"),
        };
        tokio::select! {
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            changed = worn.changed() => if changed.is_err() { return },
        }
    }
}

struct Round {
    places: BTreeMap<SubjectId, Place>,
    limits: LimitsConfig,
    databases: BTreeMap<SubjectId, Database>,
    /// What was seen when it last could be looked at: that is what there is news against.
    known: BTreeMap<SubjectId, SoftwareReport>,
    bulletin: Bulletin<SubjectId, SoftwareReport, Told>,
}

impl Round {
    fn turn(&mut self, worn: &BTreeMap<SubjectId, SubjectSoftware>) {
        self.databases.retain(|subject, _| worn.contains_key(subject));
        self.known.retain(|subject, _| worn.contains_key(subject));
        self.bulletin.retain(|subject| worn.contains_key(subject));
        for (subject, software) in worn {
            let looked = self.look(subject);
            let report = report(subject, software, looked.map(|installed| compare(&software.packages, installed)));
            let told = news(self.known.get(subject), &report);
            if report.state != SoftwareState::Unknown {
                self.known.insert(subject.clone(), report.clone());
            }
            let told = told.map(|(event, message)| Told { subject: subject.clone(), event, message });
            self.bulletin.post(subject.clone(), report, told);
        }
    }

    fn look(&mut self, subject: &SubjectId) -> Result<&persona_core::software::Installed, String> {
        let root = self.places.get(subject).unwrap_or(&Place::Unknown).root(&self.limits)?;
        self.databases.entry(subject.clone()).or_default().look(&root)
    }
}

#[cfg(test)]
mod tests {
    use persona_core::wire::software::WantedPackage;

    use super::*;

    fn worn(subject: &SubjectId, version: u32, asked: &str) -> BTreeMap<SubjectId, SubjectSoftware> {
        let packages = vec![WantedPackage { package: "nginx".to_owned(), version: Some(asked.to_owned()) }];
        [(subject.clone(), SubjectSoftware { persona: "web".parse().unwrap(), version, packages })].into()
    }

    async fn until(keeper: &Keeper, persona: &str) -> SoftwareReport {
        for _ in 0..500 {
            let report = keeper.reports().into_iter().find(|report| report.persona == persona);
            match report {
                Some(report) => return report,
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        panic!("no report of {persona}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn drift_is_reported_and_told_once_and_who_wears_nothing_is_not_looked_at() {
        let (root, stop) = (tempfile::tempdir().unwrap(), CancellationToken::new());
        let folder = root.path().join("var/lib/dpkg");
        std::fs::create_dir_all(&folder).unwrap();
        let text = "Package: nginx\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.18.0-6\n";
        std::fs::write(folder.join("status"), text).unwrap();
        let (node, web): (SubjectId, SubjectId) = ("node/n1".parse().unwrap(), "workload/n1/web".parse().unwrap());
        let places = [(node.clone(), Place::Folder(root.path().to_owned())), (web.clone(), Place::Unknown)].into();
        let keeper = Keeper::start(places, LimitsConfig::default(), &stop);

        keeper.want(worn(&node, 1, ">= 1.22"));
        let report = until(&keeper, "web@1").await;
        assert_eq!((report.state, report.packages[0].installed.as_deref()), (SoftwareState::Drifted, Some("1.18.0-6")));
        keeper.want(worn(&node, 2, ">= 1.22"));
        until(&keeper, "web@2").await;
        keeper.want(worn(&node, 3, ">= 1.18"));
        assert_eq!(until(&keeper, "web@3").await.state, SoftwareState::AsWanted);
        let told: Vec<_> = keeper.take_told().into_iter().map(|told| told.event).collect();
        assert_eq!(told, ["software.drifted", "software.as-wanted"]);

        keeper.want(worn(&web, 4, ">= 1"));
        let report = until(&keeper, "web@4").await;
        assert!(
            report.state == SoftwareState::Unknown && report.reason.unwrap().contains("does not say which instance")
        );
        assert_eq!((keeper.reports().len(), keeper.take_told()), (1, vec![]));
    }
}
