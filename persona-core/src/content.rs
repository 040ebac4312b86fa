//! Sources of content that a subject's edge should be close to: a place, a prefix or a name.
//!
//! Edges measure their round trips to prefixes and names; a place is judged by distance. Which addresses are measured
//! towards at all is bounded here: an edge is no means to look around in networks that are not the content's.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::units::{Cidr, InvalidQuantity};

/// Sources that an edge is told of at most.
pub const CONTENT_COUNT_MAX: usize = 256;

/// A round trip of which nobody knows anything counts as so long, milliseconds.
pub const UNKNOWN_RTT_MS: f64 = 100.0;

/// The longest round trip that is kept, microseconds.
pub const RTT_US_MAX: u32 = 60_000_000;

/// The fewest bits of a prefix, so that an address of it says something of all of it: IPv4, IPv6.
const PREFIX_LENGTH_MIN: [u8; 2] = [16, 32];

/// The longest name (RFC 1035 §2.3.4, without the root's dot), and its longest label, bytes.
const NAME_LENGTH_MAX: usize = 253;
const LABEL_LENGTH_MAX: usize = 63;

/// A round trip is another one from so many microseconds on, and from such a part of the one before on.
const OTHER_US_MIN: u32 = 5_000;
const OTHER_PART: f64 = 0.25;

/// A source of content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum ContentSource {
    /// A place: closeness is distance.
    Place(ContentPlace),
    /// Addresses, of which the first that a host may have is measured: at least 16 bits of IPv4, 32 of IPv6.
    Prefix(Cidr),
    /// The name of a host, whose addresses are measured; each edge resolves it by itself.
    Name(ContentName),
}

/// A point on the globe.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContentPlace {
    /// Degrees north, -90 to 90.
    pub latitude: f64,
    /// Degrees east, -180 to 180.
    pub longitude: f64,
}

/// The name of a host, in small letters and without a dot at its end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct ContentName(String);

/// A text that names no source of content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidContent {
    /// It is no name of a host.
    #[error(
        "{0:?} is no name of a host: write labels of letters, digits and '-' with dots between them, such as cdn.example.com"
    )]
    Name(String),
    /// It is no place.
    #[error("{0:?} is no place: write degrees north and east, such as 50.11,8.68")]
    Place(String),
    /// It is no range of addresses.
    #[error(transparent)]
    Prefix(#[from] InvalidQuantity),
    /// It is one that nothing is measured towards.
    #[error("{0}")]
    Source(String),
}

impl ContentName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ContentName {
    type Error = InvalidContent;
    fn try_from(given: String) -> Result<Self, InvalidContent> {
        let name = given.strip_suffix('.').unwrap_or(&given).to_ascii_lowercase();
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let is_label = |label: &str| {
            (1..=LABEL_LENGTH_MAX).contains(&label.len())
                && label.bytes().all(is_inner)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // The last label of a name is never a number (RFC 1123 §2.1): what looks like an address is none of a name.
        let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
        let is_name = name.len() <= NAME_LENGTH_MAX
            && name.split('.').all(is_label)
            && !name.rsplit('.').next().is_some_and(is_number);
        if is_name { Ok(Self(name)) } else { Err(InvalidContent::Name(given)) }
    }
}

impl From<ContentName> for String {
    fn from(name: ContentName) -> String {
        name.0
    }
}

impl fmt::Display for ContentSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place(place) => write!(formatter, "{},{}", place.latitude, place.longitude),
            Self::Prefix(prefix) => prefix.fmt(formatter),
            Self::Name(name) => formatter.pad(name.as_str()),
        }
    }
}

impl FromStr for ContentSource {
    type Err = InvalidContent;
    fn from_str(text: &str) -> Result<Self, InvalidContent> {
        let source = if let Some((north, east)) = text.split_once(',') {
            let degrees = |part: &str| part.trim().parse().map_err(|_| InvalidContent::Place(text.to_owned()));
            Self::Place(ContentPlace { latitude: degrees(north)?, longitude: degrees(east)? })
        } else if text.contains('/') || text.parse::<IpAddr>().is_ok() {
            Self::Prefix(text.parse()?)
        } else {
            Self::Name(text.to_owned().try_into()?)
        };
        match source.fault() {
            None => Ok(source),
            Some((_, fault)) => Err(InvalidContent::Source(fault)),
        }
    }
}

impl ContentSource {
    /// What is wrong with it: the key, and what would be valid.
    pub fn fault(&self) -> Option<(&'static str, String)> {
        match self {
            Self::Place(place) => {
                let is_within = |degrees: f64, most: f64| (-most..=most).contains(&degrees);
                match (is_within(place.latitude, 90.0), is_within(place.longitude, 180.0)) {
                    (false, _) => Some(("place.latitude", "write -90 to 90 degrees".to_owned())),
                    (_, false) => Some(("place.longitude", "write -180 to 180 degrees".to_owned())),
                    (true, true) => None,
                }
            }
            Self::Prefix(prefix) => {
                let least = PREFIX_LENGTH_MIN[usize::from(prefix.address().is_ipv6())];
                if prefix.prefix_length() < least {
                    let fault = format!("{prefix} is too wide for one way to it: write at least {least} bits");
                    return Some(("prefix", fault));
                }
                let fault = || format!("{prefix} is no content's: write addresses that are reached through routers");
                is_local(first_host(prefix)).then(|| ("prefix", fault()))
            }
            Self::Name(_) => None,
        }
    }

    /// What edges measure the way to. None: it is a place.
    pub fn is_measured(&self) -> bool {
        !matches!(self, Self::Place(_))
    }
}

/// The address of a prefix that is measured: the first that a host may have.
pub fn first_host(prefix: &Cidr) -> IpAddr {
    match prefix.address() {
        IpAddr::V4(address) if prefix.prefix_length() < 31 => IpAddr::V4((address.to_bits() + 1).into()),
        IpAddr::V6(address) if prefix.prefix_length() < 127 => IpAddr::V6((address.to_bits() + 1).into()),
        address => address,
    }
}

/// Whether an address means something on this host or link only, or is nobody's.
fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.octets()[0] == 0 || v4.is_loopback() || v4.is_link_local() || v4.octets()[0] >= 224 // multicast, reserved
        }
        IpAddr::V6(v6) => {
            v6.is_unspecified()
                || v6.is_loopback()
                || v6.is_multicast()
                || v6.is_unicast_link_local()
                || v6.to_ipv4_mapped().is_some()
        }
    }
}

/// Whether an address is of a network of somebody's own (RFC 1918, RFC 6598, RFC 4193).
fn is_private(address: IpAddr) -> bool {
    let is_unique_local = |v6: Ipv6Addr| v6.is_unique_local();
    match address {
        IpAddr::V4(v4) => v4.is_private() || v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64,
        IpAddr::V6(v6) => is_unique_local(v6),
    }
}

/// Towards what an edge measures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Ranges of private networks in which content may be.
    pub allow: Vec<Cidr>,
    /// Ranges towards which nothing is measured: what the operator forbids, the underlay, and addresses of its own.
    pub deny: Vec<Cidr>,
}

impl Bounds {
    /// Why nothing is measured towards an address. None: it is.
    pub fn refusal(&self, address: IpAddr) -> Option<&'static str> {
        let is_in = |ranges: &[Cidr]| ranges.iter().any(|range| range.contains(address));
        match () {
            () if is_local(address) => Some("it is of this host or link, or nobody's"),
            () if is_in(&self.deny) => Some("it is of the underlay or of the edge's own, or denied in contents.deny"),
            () if is_private(address) && !is_in(&self.allow) => {
                Some("it is of a private network, and contents.allow does not have it")
            }
            () => None,
        }
    }
}

/// What is kept of round trips in place of what was: what is hardly another value stays as it was, so that nothing moves for what
/// wavers. None: nothing is another one.
pub fn kept(before: &BTreeMap<String, u32>, measured: &BTreeMap<String, u32>) -> Option<BTreeMap<String, u32>> {
    let is_other = |old: u32, new: u32| {
        let difference = old.abs_diff(new);
        difference > OTHER_US_MIN && f64::from(difference) > f64::from(old) * OTHER_PART
    };
    let kept = measured.iter().map(|(source, new)| {
        let old = before.get(source).copied().filter(|old| !is_other(*old, *new));
        (source.clone(), old.unwrap_or(*new).min(RTT_US_MAX))
    });
    let kept: BTreeMap<String, u32> = kept.collect();
    (kept != *before).then_some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_told_by_what_it_looks_like_and_reads_back() {
        for (text, shown) in [
            ("50.11,8.68", "50.11,8.68"),
            ("-33.87, 151.21", "-33.87,151.21"),
            ("198.51.100.0/24", "198.51.100.0/24"),
            ("198.51.100.10", "198.51.100.10"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("CDN.example.com.", "cdn.example.com"),
        ] {
            let source: ContentSource = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(source.to_string(), shown);
            assert_eq!(shown.parse::<ContentSource>().unwrap(), source);
            let json = serde_json::to_string(&source).unwrap();
            assert_eq!(serde_json::from_str::<ContentSource>(&json).unwrap(), source, "{json}");
        }
    }

    #[test]
    fn what_no_edge_can_be_close_to_is_refused_with_what_would_be_valid() {
        for (text, part) in [
            ("91,0", "-90 to 90"),
            ("0,181", "-180 to 180"),
            ("NaN,0", "-90 to 90"),
            ("north,0", "50.11,8.68"),
            ("0.0.0.0/0", "at least 16 bits"),
            ("::/0", "at least 32 bits"),
            ("10.0.0.1/8", "198.51.100.0/24"),
            ("127.0.0.1", "through routers"),
            ("169.254.0.0/16", "through routers"),
            ("224.0.0.1", "through routers"),
            ("fe80::1", "through routers"),
            ("::ffff:10.0.0.1", "through routers"),
            ("cdn_1.example", "cdn.example.com"),
            ("a..b", "cdn.example.com"),
            ("-a.example", "cdn.example.com"),
            ("300.1.1.1", "cdn.example.com"),
            ("", "cdn.example.com"),
        ] {
            let error = text.parse::<ContentSource>().expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn an_edge_measures_nothing_that_it_is_not_let() {
        let ranges = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let bounds = Bounds { allow: ranges(&["10.9.0.0/16"]), deny: ranges(&["192.168.77.0/24", "203.0.113.7"]) };
        for (address, is_measured) in [
            ("198.51.100.10", true),
            ("2001:db8::1", true),
            ("10.9.1.1", true),
            ("10.8.1.1", false),
            ("172.16.0.1", false),
            ("100.64.0.1", false),
            ("100.128.0.1", true),
            ("192.168.77.9", false),
            ("203.0.113.7", false),
            ("203.0.113.8", true),
            ("127.0.0.1", false),
            ("0.1.2.3", false),
            ("169.254.169.254", false),
            ("255.255.255.255", false),
            ("239.1.1.1", false),
            ("fd00::1", false),
            ("fe80::1", false),
            ("::1", false),
            ("::ffff:198.51.100.10", false),
        ] {
            assert_eq!(bounds.refusal(address.parse().unwrap()).is_none(), is_measured, "{address}");
        }
        let opened = Bounds { allow: ranges(&["0.0.0.0/0", "::/0"]), deny: Vec::new() };
        assert!(opened.refusal("169.254.169.254".parse().unwrap()).is_some(), "no range opens what is local");
    }

    #[test]
    fn a_prefix_is_measured_at_its_first_host() {
        for (prefix, host) in [
            ("198.51.100.0/24", "198.51.100.1"),
            ("198.51.100.10", "198.51.100.10"),
            ("198.51.100.10/31", "198.51.100.10"),
            ("2001:db8::/32", "2001:db8::1"),
            ("2001:db8::5", "2001:db8::5"),
        ] {
            assert_eq!(first_host(&prefix.parse().unwrap()), host.parse::<IpAddr>().unwrap(), "{prefix}");
        }
    }

    #[test]
    fn what_wavers_is_kept_as_it_was() {
        let map = |pairs: &[(&str, u32)]| pairs.iter().map(|(name, us)| ((*name).to_owned(), *us)).collect();
        let before = map(&[("a", 40_000), ("b", 1_000)]);
        assert_eq!(kept(&before, &map(&[("a", 47_000), ("b", 5_900)])), None, "within the threshold");
        assert_eq!(kept(&before, &map(&[("a", 51_000), ("b", 1_000)])), Some(map(&[("a", 51_000), ("b", 1_000)])));
        assert_eq!(kept(&before, &map(&[("a", 41_000), ("b", 9_000)])), Some(map(&[("a", 40_000), ("b", 9_000)])));
        assert_eq!(kept(&before, &map(&[("a", 40_000)])), Some(map(&[("a", 40_000)])), "what is gone is gone");
        assert_eq!(kept(&map(&[]), &map(&[("a", u32::MAX)])), Some(map(&[("a", RTT_US_MAX)])));
    }
}
