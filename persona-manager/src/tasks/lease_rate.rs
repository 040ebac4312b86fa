//! How many leases a second can be given: a measure, for benchmarks. Nothing else is decided, nobody is told, and everything is
//! durable.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use persona_core::assign::Pick;
use persona_core::compose::Layer;
use persona_core::document::{Format, parse_documents};
use persona_core::ids::{GroupName, PersonaName, PoolName, SubjectId};

use super::facts::Facts;
use super::grant::target;
use super::reports::Reports;
use super::wear::{new_subject, personas_of};
use crate::documents::{Conflicts, apply};
use crate::error::Refusal;
use crate::live::Live;
use crate::store::{Brain, Draft, Rest, Store, StoreConfig, open, open_reader};

/// Batches that are under way: one is committed while the next is drafted, as in a manager under load.
const BATCHES_UNDER_WAY: usize = 2;

/// Room for 258,048 leases of 1,024 ports: as many addresses as an edge carries.
const DOCUMENTS: &str = "
apiVersion: persona/v1
kind: EgressPool
metadata: { name: pool }
spec: { addresses: [100.64.0.0/20], group: group, quarantine: 1s }
---
apiVersion: persona/v1
kind: Persona
metadata: { name: plain }
spec: { network: { egress: { pools: [pool] } } }
";

/// Gives `lease_count` leases to as many subjects on an empty store, up to `batch` a transaction, each with the event that says so,
/// and returns how many became durable a second. What the store holds in the end is counted by reading it anew.
///
/// # Errors
///
/// The store cannot be used, or does not hold them all.
pub async fn leases_per_sec(store_path: &Path, lease_count: u32, batch: u32) -> Result<f64> {
    let config = StoreConfig::from(store_path.to_path_buf());
    let (store, writer) = Store::start(open(&config, "")?, open_reader(&config)?, idle_brain())?;
    let reports = Reports::of(&Live::default(), 0, 0);
    let documents =
        parse_documents(DOCUMENTS, Format::Yaml, "documents").map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
    let apply = move |draft: &mut Draft| {
        apply(draft, &reports, &documents, Conflicts::Refuse)?;
        Ok(Facts::of(draft.state(), &reports))
    };
    let facts = store.change(apply).await.map_err(told)?;
    let (facts, pick) = (Arc::new(Mutex::new(facts)), Arc::new(pick()?));
    let batches = (0..lease_count).step_by(batch.max(1) as usize).map(|first| {
        let (facts, pick, numbers) = (facts.clone(), pick.clone(), first..lease_count.min(first.saturating_add(batch)));
        store.change(move |draft| {
            let mut facts = facts.lock().unwrap_or_else(PoisonError::into_inner);
            give(draft, &mut facts, &pick, numbers)
        })
    });
    let begun = Instant::now();
    let mut stored = stream::iter(batches).buffered(BATCHES_UNDER_WAY).map_err(told);
    while stored.try_next().await?.is_some() {}
    let elapsed = begun.elapsed();
    drop(stored);
    drop(store);
    tokio::task::spawn_blocking(move || writer.join()).await?.ok().context("the store's writer failed")?;
    let found = open_reader(&config)?.load()?.leases.len();
    ensure!(found == lease_count as usize, "the store holds {found} of {lease_count} leases");
    Ok(f64::from(lease_count) / elapsed.as_secs_f64())
}

fn give(draft: &mut Draft, facts: &mut Facts, pick: &Pick, numbers: Range<u32>) -> Result<(), Refusal> {
    let documents = draft.state().clone();
    let personas = personas_of(&documents);
    for number in numbers {
        let subject: SubjectId =
            format!("workload/n{}/w{number}", number % 64).parse().map_err(Refusal::internal_from)?;
        let record = new_subject(draft, &subject);
        target(draft, facts, &personas, &record, pick).ok_or_else(|| Refusal::busy("the pool is full"))?;
    }
    Ok(())
}

fn pick() -> Result<Pick> {
    Ok(Pick {
        persona: "plain".parse::<PersonaName>()?,
        version: 1,
        layer: Layer::Binding,
        group: "group".parse::<GroupName>()?,
        pool: "pool".parse::<PoolName>()?,
        is_stopgap: false,
        reason: "it is measured".to_owned(),
    })
}

/// Decides nothing.
fn idle_brain() -> Brain {
    Brain {
        pass: Box::new(|_| Rest::Nothing),
        mirror: Box::new(|_| Default::default()),
        begin: Box::new(|| {}),
        fail: Box::new(|| {}),
    }
}

fn told(refusal: Refusal) -> anyhow::Error {
    anyhow::anyhow!("{}", refusal.detail())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_that_are_measured_are_in_the_store() {
        let folder = tempfile::tempdir().unwrap();
        let rate = leases_per_sec(&folder.path().join("store.sqlite"), 1_000, 256).await.unwrap();
        assert!(rate > 0.0);
    }
}
