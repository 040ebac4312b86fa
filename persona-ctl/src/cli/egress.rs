//! `persona-ctl egress`: pools of addresses to lease from.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use persona_core::document::{API_VERSION, Document, Kind, PoolDocument};
use persona_core::geofeed;
use persona_core::ids::{GroupName, PoolName};
use persona_core::units::{Cidr, Span};
use persona_core::wire::api::PoolView;
use serde_json::{Value, json};

use super::Session;
use super::documents::{RefusedDocuments, read_files};
use super::labels::SelectArgs;
use super::persona::as_yaml;
use super::persona_file::apply;
use super::print::{listed, show_done, table_of};
use crate::client::Applying;

/// What to do with egress pools.
#[derive(Debug, Subcommand)]
pub(super) enum EgressCommand {
    /// Store an egress pool, from a file or from options.
    Add(AddArgs),
    /// List egress pools and how full they are.
    List(SelectArgs),
    /// Show an egress pool.
    Get {
        /// The pool.
        name: PoolName,
    },
    /// Print where the pools' addresses are, as a geofeed (RFC 8805) to put on a web server.
    #[command(
        after_help = "Pools without a location are left out and named on standard error. A manager with publish_geofeed = true\nserves the same text to everybody at /v1/geofeed.\n\nExample:\n  persona-ctl egress geofeed > /var/www/html/geofeed.csv"
    )]
    Geofeed,
    /// Delete an egress pool that nothing is leased from.
    Delete {
        /// The pool.
        name: PoolName,
    },
}

/// Arguments of `egress add`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  persona-ctl egress add eu-frankfurt --address 198.51.100.0/28 --group frankfurt\n  persona-ctl egress add -f pools.yaml"
)]
pub(super) struct AddArgs {
    /// The pool's name.
    #[arg(required_unless_present = "files", requires_all = ["address", "group"])]
    name: Option<PoolName>,
    /// An IPv4 address or range, or an IPv6 prefix of 48 to 64 bits; may be given several times.
    #[arg(long, value_name = "ADDRESS|CIDR")]
    address: Vec<Cidr>,
    /// The address that the outside routes the IPv6 prefixes to; an edge of the group answers for it.
    #[arg(long, value_name = "ADDRESS")]
    next_hop6: Option<std::net::Ipv6Addr>,
    /// The edge group that carries it.
    #[arg(long)]
    group: Option<GroupName>,
    /// Ports in a block: a power of two from 64 to 32768.
    #[arg(long, value_name = "PORTS")]
    block_size: Option<u32>,
    /// How long a returned block rests before it is leased again, such as 4m.
    #[arg(long, value_name = "TIME")]
    quarantine: Option<Span>,
    /// Where its addresses are: an ISO 3166-1 code such as DE.
    #[arg(long, value_name = "CODE")]
    country: Option<String>,
    /// The part of the country: an ISO 3166-2 code such as DE-HE.
    #[arg(long, value_name = "CODE", requires = "country")]
    region: Option<String>,
    /// The city.
    #[arg(long, value_name = "NAME", requires = "country")]
    city: Option<String>,
    /// Read EgressPool documents from this file.
    #[arg(long = "file", short = 'f', value_name = "FILE", conflicts_with_all = ["name", "address", "group", "block_size", "quarantine", "next_hop6", "country"])]
    files: Vec<PathBuf>,
    /// Say what would happen, change nothing.
    #[arg(long)]
    dry_run: bool,
}

impl EgressCommand {
    pub(super) async fn run(self, session: &Session) -> anyhow::Result<()> {
        match self {
            Self::Add(args) => {
                let how = Applying { dry_run: args.dry_run, ..Applying::default() };
                apply(session, &args.documents()?, how).await
            }
            Self::List(args) => {
                let all = session.client.egress_pools_with(args.selector.as_ref()).await?;
                session.output.show(&all, |pools| list(pools))
            }
            Self::Get { name } => {
                let view = session.client.egress_pool(name.as_str()).await?;
                let table =
                    |view: &PoolView| format!("{}\n\n{}", list(std::slice::from_ref(view)), as_yaml(&view.document));
                session.output.show(&view, table)
            }
            Self::Geofeed => {
                let documents: Vec<Value> =
                    session.client.egress_pools().await?.into_iter().map(|view| view.document).collect();
                let feed = geofeed::geofeed(&pools_of(documents)?);
                for name in &feed.unplaced {
                    eprintln!("left out: egress pool {name} has no location");
                }
                session.output.show(&json!({ "geofeed": feed.text, "unplaced": feed.unplaced }), |_| feed.text.clone())
            }
            Self::Delete { name } => {
                session.client.delete_egress_pool(name.as_str()).await?;
                show_done(session.output, "egress pool", &name, "deleted")
            }
        }
    }
}

impl AddArgs {
    fn documents(&self) -> anyhow::Result<Vec<Document>> {
        let Some(name) = &self.name else {
            let documents = read_files(&self.files)?;
            if let Some(other) = documents.iter().find(|document| document.kind() != Kind::EgressPool) {
                anyhow::bail!(
                    "{} {} is no EgressPool: store it with persona-ctl persona apply",
                    other.kind(),
                    other.name()
                );
            }
            return Ok(documents);
        };
        let mut spec = json!({ "addresses": self.address, "group": self.group });
        if let Some(size) = self.block_size {
            spec["blockSize"] = size.into();
        }
        if let Some(next_hop) = self.next_hop6 {
            spec["nextHop6"] = next_hop.to_string().into();
        }
        if let Some(quarantine) = self.quarantine {
            spec["quarantine"] = quarantine.to_string().into();
        }
        if let Some(country) = &self.country {
            let named = [("country", Some(country)), ("region", self.region.as_ref()), ("city", self.city.as_ref())];
            let place = named.into_iter().filter_map(|(key, name)| Some((key.to_owned(), name?.clone().into())));
            spec["location"] = Value::Object(place.collect());
        }
        let document =
            json!({ "apiVersion": API_VERSION, "kind": "EgressPool", "metadata": { "name": name }, "spec": spec });
        Ok(vec![Document::from_json(document).map_err(RefusedDocuments::new)?])
    }
}

fn pools_of(documents: Vec<Value>) -> Result<Vec<PoolDocument>, RefusedDocuments> {
    let parsed = documents.into_iter().map(|document| Document::from_json(document).map_err(RefusedDocuments::new));
    let documents: Vec<Document> = parsed.collect::<Result<_, _>>()?;
    let pool = |document| match document {
        Document::EgressPool(pool) => Some(pool),
        _ => None,
    };
    Ok(documents.into_iter().filter_map(pool).collect())
}

fn list(pools: &[PoolView]) -> String {
    let rows = pools.iter().map(|pool| {
        let spec = &pool.document["spec"];
        let addresses = spec["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let free = pool.blocks_total.saturating_sub(pool.blocks_leased + pool.blocks_quarantined);
        [
            pool.name.to_string(),
            spec["group"].as_str().unwrap_or("-").to_owned(),
            listed(addresses),
            pool.blocks_total.to_string(),
            pool.blocks_leased.to_string(),
            pool.blocks_quarantined.to_string(),
            free.to_string(),
            format!("{} of {}", pool.addresses_free, pool.addresses_total),
            format!(
                "{} of {}",
                pool.prefixes_total.saturating_sub(pool.prefixes_leased + pool.prefixes_quarantined),
                pool.prefixes_total
            ),
            pool.full_in_ms.map_or_else(|| "-".to_owned(), full_in),
        ]
    });
    let header = [
        "POOL",
        "GROUP",
        "ADDRESSES",
        "BLOCKS",
        "LEASED",
        "QUARANTINED",
        "FREE",
        "WHOLE ADDRESSES FREE",
        "/64 FREE",
        "FULL",
    ];
    table_of(&header, rows, "no egress pools; add one with persona-ctl egress add")
}

/// When a pool is full, roughly: a forecast knows no minutes.
fn full_in(ms: u64) -> String {
    const HOUR_MS: u64 = 3_600_000;
    match (ms / HOUR_MS).div_ceil(24) {
        _ if ms == 0 => "now".to_owned(),
        _ if ms < 48 * HOUR_MS => format!("in about {} h", ms.div_ceil(HOUR_MS)),
        days => format!("in about {days} days"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forecast_is_told_roughly() {
        for (hours, expected) in [(0, "now"), (1, "in about 1 h"), (47, "in about 47 h"), (200, "in about 9 days")] {
            assert_eq!(full_in(hours * 3_600_000), expected, "{hours} h");
        }
    }
}
