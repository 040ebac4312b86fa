//! Where egress addresses are, told to the world: a geofeed of the pools' locations (RFC 8805).
//!
//! Databases of locations read it from a web server; the operator names its address in the prefixes' registry entry (RFC 9632).

use std::collections::BTreeMap;

use crate::document::{Location, PoolDocument};
use crate::ids::PoolName;
use crate::units::Cidr;

/// A geofeed, and what it leaves out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Geofeed {
    /// The feed: a line per range, by ascending address (RFC 8805 §2.1.1).
    pub text: String,
    /// Pools that say no location.
    pub unplaced: Vec<PoolName>,
}

/// The geofeed of these pools, whose ranges don't overlap.
pub fn geofeed<'a>(pools: impl IntoIterator<Item = &'a PoolDocument>) -> Geofeed {
    let (mut lines, mut unplaced) = (BTreeMap::new(), Vec::new());
    for pool in pools {
        match &pool.spec.location {
            Some(location) => lines.extend(pool.spec.addresses.iter().map(|range| (*range, place_of(location)))),
            None => unplaced.push(pool.metadata.name.clone()),
        }
    }
    let line = |(range, place): (&Cidr, &String)| format!("{}/{},{place}\n", range.address(), range.prefix_length());
    Geofeed { text: lines.iter().map(line).collect(), unplaced }
}

/// Country, region, city, and no postal code: RFC 8805 §2.1.1.5 advises against it.
fn place_of(location: &Location) -> String {
    let region = location.region.as_deref().unwrap_or_default();
    let city = location.city.as_deref().unwrap_or_default();
    format!("{},{region},{},", location.country, quoted(city))
}

/// A field of comma-separated values (RFC 4180 §2).
fn quoted(field: &str) -> String {
    if field.contains([',', '"']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field.to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pool(name: &str, addresses: &[&str], location: Option<Value>) -> PoolDocument {
        let mut spec = json!({ "addresses": addresses, "group": "frankfurt" });
        spec["location"] = location.unwrap_or_default();
        serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).unwrap()
    }

    #[test]
    fn every_range_has_a_line_with_its_place() {
        let frankfurt = json!({ "country": "DE", "region": "DE-HE", "city": "Frankfurt" });
        let washington = json!({ "country": "US", "region": "US-DC", "city": "Washington, \"DC\"" });
        let pools = [
            pool("eu", &["198.51.100.16/28", "2001:db8:1::/48"], Some(frankfurt)),
            pool("jp", &["198.51.100.7"], Some(json!({ "country": "JP" }))),
            pool("us", &["203.0.113.0/24"], Some(washington)),
            pool("nowhere", &["192.0.2.0/28"], None),
        ];
        let text = "198.51.100.7/32,JP,,,\n\
                    198.51.100.16/28,DE,DE-HE,Frankfurt,\n\
                    203.0.113.0/24,US,US-DC,\"Washington, \"\"DC\"\"\",\n\
                    2001:db8:1::/48,DE,DE-HE,Frankfurt,\n";
        let feed = geofeed(&pools);
        assert_eq!((feed.text.as_str(), feed.unplaced), (text, vec!["nowhere".parse().unwrap()]));
    }
}
