//! What no type can say: contradictions, impossible values, and what would be a lie because this release does not do it.
//! This file holds what all kinds share, bindings and egress pools; [`super::check_persona`] has personas.

use std::net::{IpAddr, Ipv6Addr};

use super::binding::{BindingSpec, Selector, SelectorKind};
use super::envelope::Document;
use super::network::Location;
use super::pool::{PoolSpec, address_count};
use crate::units::Span;

/// Where, and what is wrong.
pub(super) type Problem = (String, String);

/// An egress pool holds at most this many addresses.
const POOL_ADDRESS_COUNT_MAX: u64 = 65_536;

/// Switches that a flap budget may have: each subject remembers so many times.
const FLAP_COUNT_MAX: u32 = 100;

/// Shortest and longest time of a flap budget.
const FLAP_SPAN_MIN: Span = Span(60_000);
const FLAP_SPAN_MAX: Span = Span(7 * 86_400_000);

/// Lengths that an IPv6 prefix of a pool may have: a lease is a /64, and 65,536 of them are plenty for one pool.
const POOL_PREFIX_LENGTHS: std::ops::RangeInclusive<u8> = 48..=64;

/// What a fraction may look like.
pub(super) const DECIMALS_ADVICE: &str = "write at most six digits after the point";

/// Whether a fraction has few enough digits to be read back exactly from every format, which the digest relies on.
pub(super) fn is_short_decimal(value: Option<f64>) -> bool {
    value.is_none_or(|value| (value * 1e6).round() / 1e6 == value)
}

/// Everything wrong with a document whose types are right.
pub(super) fn problems_of(document: &Document) -> Vec<Problem> {
    let mut problems = Problems::default();
    match document {
        Document::Persona(persona) => problems.persona(&persona.spec),
        Document::Binding(binding) => problems.binding(&binding.spec),
        Document::EgressPool(pool) => problems.pool(&pool.spec),
    }
    problems.0
}

/// Whether packets to an IPv6 address can cross a router.
fn is_routed(address: Ipv6Addr) -> bool {
    let is_special = address.is_unspecified() || address.is_loopback() || address.to_ipv4_mapped().is_some();
    !(is_special || address.is_multicast() || address.is_unicast_link_local())
}

#[derive(Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn refuse_if(&mut self, wrong: bool, path: impl Into<String>, message: impl Into<String>) {
        if wrong {
            self.0.push((path.into(), message.into()));
        }
    }

    fn binding(&mut self, spec: &BindingSpec) {
        self.selector(&spec.selector);
        let none = spec.named_personas().is_empty();
        self.refuse_if(none, "spec", "a binding needs personas, default or defaults");
        self.no_duplicates("spec.personas", &spec.personas);
        self.no_duplicates("spec.requires", &spec.requires);
        self.no_duplicates("spec.prefers", &spec.prefers);
        if let Some(budget) = spec.flap_budget {
            let is_countable = (1..=FLAP_COUNT_MAX).contains(&budget.count);
            let message = format!("{} is impossible: write 1 to {FLAP_COUNT_MAX}", budget.count);
            self.refuse_if(!is_countable, "spec.flapBudget.count", message);
            let is_sane = (FLAP_SPAN_MIN..=FLAP_SPAN_MAX).contains(&budget.per);
            let message = format!("{} is out of bounds: write {FLAP_SPAN_MIN} to {FLAP_SPAN_MAX}", budget.per);
            self.refuse_if(!is_sane, "spec.flapBudget.per", message);
        }
    }

    fn selector(&mut self, selector: &Selector) {
        let kind = selector.kind.as_str();
        for (index, name) in selector.names.iter().enumerate() {
            let parts: Vec<&str> = name.split('/').collect();
            let count = if selector.kind == SelectorKind::Node { 2 } else { 3 };
            let shaped = parts.len() == count && parts[0] == kind && parts.iter().all(|part| !part.is_empty());
            let form = if count == 2 { "node/NAME" } else { "workload/NODE/NAME" };
            self.refuse_if(
                !shaped,
                format!("spec.selector.names[{index}]"),
                format!("{name:?} never matches a {kind}: write {form}, with * for any"),
            );
        }
    }

    fn pool(&mut self, spec: &PoolSpec) {
        self.refuse_if(
            spec.addresses.is_empty(),
            "spec.addresses",
            "write at least one IPv4 address or an IPv6 prefix",
        );
        for (index, range) in spec.addresses.iter().enumerate() {
            let path = format!("spec.addresses[{index}]");
            let length = range.prefix_length();
            self.refuse_if(
                range.address().is_ipv6() && !POOL_PREFIX_LENGTHS.contains(&length),
                &path,
                format!("an IPv6 pool is cut into leases of 64 bits: write a prefix of /48 to /64, not /{length}"),
            );
            let special = match range.address() {
                IpAddr::V4(v4) => v4.is_multicast() || v4.is_loopback() || v4.is_unspecified() || v4.is_broadcast(),
                IpAddr::V6(v6) => !is_routed(v6),
            };
            self.refuse_if(special, &path, format!("{range} is no unicast address: nothing could be sent from it"));
            let twice = spec.addresses[..index].iter().find(|earlier| earlier.overlaps(range));
            if let Some(earlier) = twice {
                self.refuse_if(true, &path, format!("{range} overlaps {earlier}: each address may be there once"));
            }
        }
        self.next_hop6(spec);
        let count: u64 = spec.addresses.iter().map(address_count).sum();
        self.refuse_if(
            count > POOL_ADDRESS_COUNT_MAX,
            "spec.addresses",
            format!("{count} addresses are too many for one pool: at most {POOL_ADDRESS_COUNT_MAX}"),
        );
        let size = spec.block_size();
        self.refuse_if(
            !(size.is_power_of_two() && (64..=32_768).contains(&size)),
            "spec.blockSize",
            format!("{size} is impossible: write a power of two from 64 to 32768"),
        );
        let short = spec.quarantine() < Span(1_000);
        self.refuse_if(
            short,
            "spec.quarantine",
            "write at least 1s: late packets of the old holder would reach the new one",
        );
        if let Some(location) = &spec.location {
            self.location("spec.location", location);
        }
    }

    fn next_hop6(&mut self, spec: &PoolSpec) {
        let (path, prefixes) = ("spec.nextHop6", spec.prefixes());
        let Some(next_hop) = spec.next_hop6 else {
            let message = "IPv6 prefixes need nextHop6: the address that the outside routes them to";
            return self.refuse_if(!prefixes.is_empty(), "spec", message);
        };
        self.refuse_if(prefixes.is_empty(), path, "means nothing without IPv6 prefixes in addresses: leave it out");
        let is_wrong = !is_routed(next_hop) && !next_hop.is_unicast_link_local();
        self.refuse_if(is_wrong, path, format!("{next_hop} is no unicast address: nothing could be routed to it"));
        if let Some(prefix) = prefixes.iter().find(|prefix| prefix.contains(next_hop.into())) {
            let message = format!("{next_hop} lies in {prefix}, whose addresses are leased: write one outside");
            self.refuse_if(true, path, message);
        }
    }

    pub(super) fn location(&mut self, path: &str, location: &Location) {
        let is_code = location.country.len() == 2 && location.country.bytes().all(|byte| byte.is_ascii_uppercase());
        self.refuse_if(
            !is_code,
            format!("{path}.country"),
            format!("{:?} is no country: write an ISO 3166-1 code such as DE", location.country),
        );
        self.place_names(path, location);
        let within = |value: Option<f64>, limit: f64| value.is_none_or(|value| (-limit..=limit).contains(&value));
        self.refuse_if(!within(location.latitude, 90.0), format!("{path}.latitude"), "write -90 to 90 degrees");
        self.refuse_if(!within(location.longitude, 180.0), format!("{path}.longitude"), "write -180 to 180 degrees");
        for (key, value) in [("latitude", location.latitude), ("longitude", location.longitude)] {
            self.refuse_if(!is_short_decimal(value), format!("{path}.{key}"), DECIMALS_ADVICE);
        }
        let half = location.latitude.is_some() != location.longitude.is_some();
        self.refuse_if(half, path, "latitude and longitude belong together: write both or none");
    }

    fn place_names(&mut self, path: &str, location: &Location) {
        let is_part = |region: &str| {
            let part =
                region.strip_prefix(&location.country).and_then(|rest| rest.strip_prefix('-')).unwrap_or_default();
            let is_code = part.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
            (1..=3).contains(&part.len()) && is_code
        };
        let region = location.region.as_deref().unwrap_or_default();
        self.refuse_if(
            location.region.is_some() && !is_part(region),
            format!("{path}.region"),
            format!("{region:?} is no part of {}: write an ISO 3166-2 code such as DE-HE", location.country),
        );
        let is_name =
            |city: &String| !city.trim().is_empty() && !city.contains(|it: char| it == '#' || it.is_control());
        self.refuse_if(
            !location.city.as_ref().is_none_or(is_name),
            format!("{path}.city"),
            "write a name without '#' and control characters, which a geofeed could not carry",
        );
    }

    pub(super) fn no_duplicates<T: PartialEq>(&mut self, path: &str, items: &[T]) {
        for (index, item) in items.iter().enumerate() {
            self.refuse_if(items[..index].contains(item), format!("{path}[{index}]"), "is there twice");
        }
    }
}
