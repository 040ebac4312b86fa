//! Quantities with units, as documents write them: rates, sizes, times, shares and address ranges.
//!
//! Each is parsed once, at the border, into an exact integer; `Display` prints the shortest form that reads back to the
//! same value, and serde carries that form. An error says what was given and what would be valid.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A quantity that cannot be read, with what would be valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not {what}: write {valid}")]
pub struct InvalidQuantity {
    /// What was given.
    pub given: String,
    /// What kind of quantity was meant.
    pub what: &'static str,
    /// What would be valid.
    pub valid: &'static str,
}

/// One unit of a quantity: its suffix and how many base units it is.
type Unit = (&'static str, u64);

const RATE_UNITS: &[Unit] =
    &[("tbit", 1_000_000_000_000), ("gbit", 1_000_000_000), ("mbit", 1_000_000), ("kbit", 1_000), ("bit", 1)];
const BYTE_UNITS: &[Unit] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];
const TIME_UNITS: &[Unit] = &[("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const SHARE_UNITS: &[Unit] = &[("%", 10_000)];

/// Digits after the point that a quantity may have.
const DECIMALS_MAX: usize = 6;

/// Reads `NUMBER UNIT` into base units; a fraction is accepted where it comes out whole.
fn parse_quantity(text: &str, units: &[Unit]) -> Option<u64> {
    let at = text.find(|char: char| !char.is_ascii_digit() && char != '.')?;
    let (number, suffix) = text.split_at(at);
    let (_, factor) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(suffix))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.len() > DECIMALS_MAX || (number.contains('.') && fraction.is_empty()) {
        return None;
    }
    let scale = 10_u128.pow(fraction.len() as u32);
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let scaled = digits.checked_mul(u128::from(*factor))?;
    if scaled % scale == 0 { u64::try_from(scaled / scale).ok() } else { None }
}

/// Writes base units in the unit that makes the number shortest and whole.
fn format_quantity(value: u64, units: &[Unit]) -> String {
    let smallest = units.iter().min_by_key(|(_, factor)| *factor).expect("every quantity has a unit");
    let dividing = units.iter().filter(|(_, factor)| value != 0 && value.is_multiple_of(*factor));
    let (name, factor) = dividing.max_by_key(|(_, factor)| *factor).unwrap_or(smallest);
    format!("{}{name}", value / factor)
}

macro_rules! text_type {
    ($name:ident, $what:literal, $valid:literal, $pattern:literal) => {
        impl TryFrom<String> for $name {
            type Error = InvalidQuantity;
            fn try_from(text: String) -> Result<Self, InvalidQuantity> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $name;
                    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                        write!(formatter, "{}: {}", $what, $valid)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string", "pattern": $pattern, "description": concat!($what, ": ", $valid),
                })
            }
        }

        impl $name {
            fn invalid(given: &str) -> InvalidQuantity {
                InvalidQuantity { given: given.to_owned(), what: $what, valid: $valid }
            }
        }
    };
}

macro_rules! quantity_type {
    ($(#[$doc:meta])* $name:ident, $units:ident, $what:literal, $valid:literal, $pattern:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u64);

        impl FromStr for $name {
            type Err = InvalidQuantity;
            fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
                parse_quantity(text, $units).map(Self).ok_or_else(|| Self::invalid(text))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.pad(&format_quantity(self.0, $units))
            }
        }

        text_type!($name, $what, $valid, $pattern);
    };
}

quantity_type!(
    /// A rate in bits per second, in SI units: `200mbit` is 200,000,000.
    BitRate, RATE_UNITS, "a bit rate", "a number with bit, kbit, mbit, gbit or tbit, such as 200mbit",
    r"^[0-9]+(\.[0-9]{1,6})?([kKmMgGtT]?[bB][iI][tT])$");
quantity_type!(
    /// A number of bytes: `64KiB` is 65,536, `100MB` is 100,000,000.
    ByteCount, BYTE_UNITS, "a byte count", "a number with B, KB, MB, GB, TB, KiB, MiB, GiB or TiB, such as 64KiB",
    r"^[0-9]+(\.[0-9]{1,6})?([kKmMgGtT][iI]?)?[bB]$");
quantity_type!(
    /// A length of time in milliseconds: `5m` is 300,000.
    Span, TIME_UNITS, "a length of time", "a number with ms, s, m, h or d, such as 30s",
    r"^[0-9]+(\.[0-9]{1,6})?([mM][sS]|[sSmMhHdD])$");

/// A share of a whole in millionths: `0.1%` is 1,000. At most 100%.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Share(u32);

impl Share {
    /// The whole, in millionths.
    pub const WHOLE: u32 = 1_000_000;

    /// So many millionths of the whole, or all of it.
    pub fn from_millionths(millionths: u32) -> Self {
        Self(millionths.min(Self::WHOLE))
    }

    /// How many millionths of the whole it is.
    pub fn millionths(self) -> u32 {
        self.0
    }
}

impl FromStr for Share {
    type Err = InvalidQuantity;
    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        let parts = parse_quantity(text, SHARE_UNITS).filter(|parts| *parts <= u64::from(Self::WHOLE));
        parts.map(|parts| Self(parts as u32)).ok_or_else(|| Self::invalid(text))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:04}", self.0 / 10_000, self.0 % 10_000);
        formatter.pad(&format!("{}%", text.trim_end_matches('0').trim_end_matches('.')))
    }
}

text_type!(
    Share,
    "a share",
    "a number from 0% to 100% with at most four digits after the point, such as 0.1%",
    r"^[0-9]{1,3}(\.[0-9]{1,4})?%$"
);

/// A range of addresses: a prefix whose host bits are zero, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    address: IpAddr,
    prefix_length: u8,
}

impl Cidr {
    /// The range of these first bits of `address`. None: `prefix_length` is more than the address has, or host bits are
    /// not zero.
    pub fn new(address: IpAddr, prefix_length: u8) -> Option<Self> {
        let is_range = prefix_length <= width_of(address) && network_of(address, prefix_length) == address;
        is_range.then_some(Self { address, prefix_length })
    }

    /// The range of one address.
    pub fn of(address: IpAddr) -> Self {
        Self { address, prefix_length: width_of(address) }
    }

    /// The range that is twice as large and holds this one. None: this one is everything.
    pub fn parent(&self) -> Option<Self> {
        let prefix_length = self.prefix_length.checked_sub(1)?;
        Some(Self { address: network_of(self.address, prefix_length), prefix_length })
    }

    /// The first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Bits of the prefix.
    pub fn prefix_length(&self) -> u8 {
        self.prefix_length
    }

    /// Whether `address` lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => {
                network_of(address, self.prefix_length) == self.address
            }
            _ => false,
        }
    }

    /// Whether some address lies in both.
    pub fn overlaps(&self, other: &Cidr) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }
}

fn width_of(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn network_of(address: IpAddr, prefix_length: u8) -> IpAddr {
    let host_bits = u32::from(width_of(address) - prefix_length);
    match address {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(host_bits).unwrap_or(0)).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(host_bits).unwrap_or(0)).into()),
    }
}

impl FromStr for Cidr {
    type Err = InvalidQuantity;
    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.parse().map_err(|_| Self::invalid(text))?;
        let prefix_length = match length {
            None => width_of(address),
            Some(length) => length.parse().map_err(|_| Self::invalid(text))?,
        };
        Self::new(address, prefix_length).ok_or_else(|| Self::invalid(text))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix_length == width_of(self.address) {
            return formatter.pad(&self.address.to_string());
        }
        formatter.pad(&format!("{}/{}", self.address, self.prefix_length))
    }
}

text_type!(
    Cidr,
    "an address range",
    "an IPv4 or IPv6 address, or a prefix whose host bits are zero, such as 198.51.100.0/24",
    r"^[0-9a-fA-F.:]+(/[0-9]{1,3})?$"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_exact() {
        let rates =
            [("200mbit", 200_000_000), ("1gbit", 1_000_000_000), ("64kbit", 64_000), ("1.5Gbit", 1_500_000_000)];
        rates.iter().for_each(|(text, bps)| assert_eq!(text.parse::<BitRate>().unwrap().0, *bps, "{text}"));
        let sizes = [("64KiB", 65_536), ("2GiB", 1 << 31), ("100MB", 100_000_000), ("0.5KiB", 512), ("7b", 7)];
        sizes.iter().for_each(|(text, bytes)| assert_eq!(text.parse::<ByteCount>().unwrap().0, *bytes, "{text}"));
        let times = [("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000), ("40ms", 40), ("1d", 86_400_000)];
        times.iter().for_each(|(text, ms)| assert_eq!(text.parse::<Span>().unwrap().0, *ms, "{text}"));
        assert_eq!("0.1%".parse::<Share>().unwrap().millionths(), 1_000);
    }

    #[test]
    fn what_is_not_a_quantity_is_refused_with_what_would_be() {
        for bad in ["", "200", "mbit", "200mbits", "-1mbit", "1.mbit", ".5mbit", "1 mbit", "0.1bit", "99999999999tbit"]
        {
            let error = bad.parse::<BitRate>().unwrap_err().to_string();
            assert!(error.contains("200mbit"), "{error}");
        }
        for bad in ["101%", "1", "0.00001%"] {
            assert!(bad.parse::<Share>().is_err(), "{bad}");
        }
        for bad in ["10.0.0.1/8", "10.0.0.0/33", "10.0.0/8", "::1/64", "::/129", "x"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges_know_what_they_hold() {
        let cidr: Cidr = "198.51.100.0/24".parse().unwrap();
        assert!(cidr.contains("198.51.100.255".parse().unwrap()) && !cidr.contains("198.51.101.0".parse().unwrap()));
        assert!(cidr.overlaps(&"198.51.0.0/16".parse().unwrap()) && !cidr.overlaps(&"::/0".parse().unwrap()));
        assert_eq!("1.2.3.4/32".parse::<Cidr>().unwrap().to_string(), "1.2.3.4");
    }

    proptest::proptest! {
        #[test]
        fn display_reads_back(value: u64, parts in 0_u32..=Share::WHOLE) {
            assert_eq!(BitRate(value).to_string().parse(), Ok(BitRate(value)));
            assert_eq!(ByteCount(value).to_string().parse(), Ok(ByteCount(value)));
            assert_eq!(Span(value).to_string().parse(), Ok(Span(value)));
            assert_eq!(Share(parts).to_string().parse(), Ok(Share(parts)));
        }
    }
}
