//! What the node tells besides the manager: metrics for a scraper, flows for a collector.

use std::collections::BTreeMap;
use std::path::Path;

use persona_core::ids::{SubjectId, SubjectNumber};
use persona_core::wire::agent::Report;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::config::AgentFile;
use crate::flow_export::Exporter;
use crate::host;
use crate::metrics::{self, LinkSample, Snapshot};
use crate::supervisor::Readiness;

/// The listeners that were asked for.
pub(super) struct Telling {
    snapshots: watch::Sender<Snapshot>,
    exporter: Option<Exporter>,
    lost: u64,
}

impl Telling {
    /// Starts what the configuration asks for.
    pub(super) async fn start(
        file: &AgentFile,
        bpffs: &Path,
        readiness: &Readiness,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let snapshots = metrics::start(file.metrics, readiness, stop).await?;
        let exporter = match &file.flow_export {
            Some(export) => Some(Exporter::start(bpffs, export.collector, export.domain)?),
            None => None,
        };
        Ok(Self { snapshots, exporter, lost: 0 })
    }

    /// Shows what the last report says, where somebody may ask for it.
    pub(super) fn show(&self, report: &Report, link: LinkSample) {
        if !self.snapshots.is_closed() {
            self.snapshots.send_replace(Snapshot { link: Some(link), ..metrics::of_report(report) });
        }
    }

    /// Tells the flows since the last time.
    pub(super) fn export(&mut self, subjects: &BTreeMap<SubjectNumber, SubjectId>) {
        let Some(exporter) = &mut self.exporter else { return };
        let name = |number: u32| {
            subjects.get(&SubjectNumber(number)).map_or_else(|| format!("subject {number}"), SubjectId::to_string)
        };
        let lost = exporter.turn(name).and_then(|_| exporter.lost());
        match lost {
            Ok(lost) if lost > self.lost => {
                tracing::warn!(
                    flow.lost_count = lost - self.lost,
                    "flow events were lost: the collector or this host is too slow"
                );
                self.lost = lost;
            }
            Ok(_) => {}
            Err(error) => tracing::error!(error = host::error_chain(&error), "flows are not exported"),
        }
    }
}
