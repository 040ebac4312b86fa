//! What a number measures, as powers of bytes and seconds: `64MiB` is bytes, `200mbit` bytes per second, `5m` seconds.
//!
//! Ratios and counts have neither. Values are kept in base units, so two numbers of one unit compare as they are.

use std::fmt;

use crate::units::{BitRate, ByteCount, Span};

/// Powers beyond this mean nothing that a criterion could ask for.
const POWER_MAX: i8 = 3;

/// What a number measures. The base units are bytes and seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Unit {
    bytes: i8,
    seconds: i8,
}

impl Unit {
    /// A ratio or a count.
    pub const NONE: Unit = Unit { bytes: 0, seconds: 0 };
    /// A size.
    pub const BYTES: Unit = Unit { bytes: 1, seconds: 0 };
    /// A length of time.
    pub const SECONDS: Unit = Unit { bytes: 0, seconds: 1 };
    /// So many a second.
    pub const PER_SECOND: Unit = Unit { bytes: 0, seconds: -1 };
    /// A data rate.
    pub const BYTES_PER_SECOND: Unit = Unit { bytes: 1, seconds: -1 };

    /// The unit of a product. None: it means nothing.
    pub fn times(self, other: Unit) -> Option<Unit> {
        Self::bounded(self.bytes + other.bytes, self.seconds + other.seconds)
    }

    /// The unit of a quotient. None: it means nothing.
    pub fn over(self, other: Unit) -> Option<Unit> {
        Self::bounded(self.bytes - other.bytes, self.seconds - other.seconds)
    }

    fn bounded(bytes: i8, seconds: i8) -> Option<Unit> {
        let is_sane = bytes.abs() <= POWER_MAX && seconds.abs() <= POWER_MAX;
        is_sane.then_some(Unit { bytes, seconds })
    }

    /// How such a number is written, for messages.
    pub fn example(self) -> &'static str {
        match self {
            Self::NONE => "0.8 or 80%",
            Self::BYTES => "512MiB",
            Self::SECONDS => "30s",
            Self::PER_SECOND => "500 / 1s",
            Self::BYTES_PER_SECOND => "200mbit or 25MB / 1s",
            _ => "a product or quotient of the same units",
        }
    }

    /// Reads a number with a unit: `5m`, `64KiB`, `200mbit`, `80%`, `0.8`.
    pub fn parse(text: &str) -> Option<(f64, Unit)> {
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if is_plain(text) {
            return text.parse().ok().map(|value| (value, Self::NONE));
        }
        if let Some(percent) = text.strip_suffix('%').filter(|percent| is_plain(percent)) {
            return percent.parse().ok().map(|value: f64| (value / 100.0, Self::NONE));
        }
        let span = text.parse::<Span>().ok().map(|span| (span.0 as f64 / 1e3, Self::SECONDS));
        let bytes = || text.parse::<ByteCount>().ok().map(|count| (count.0 as f64, Self::BYTES));
        let rate = || text.parse::<BitRate>().ok().map(|rate| (rate.0 as f64 / 8.0, Self::BYTES_PER_SECOND));
        span.or_else(bytes).or_else(rate)
    }

    /// The value for people, rounded: `0.93`, `512MiB`, `12.5MB/s`.
    pub fn show(self, value: f64) -> String {
        if !value.is_finite() {
            return "unknown".to_owned();
        }
        match self {
            Self::BYTES => scaled(value, &[("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)], "B"),
            Self::BYTES_PER_SECOND => {
                let units = [("GB/s", 1e9), ("MB/s", 1e6), ("kB/s", 1e3)];
                let unit = units.iter().find(|(_, factor)| value.abs() >= *factor);
                unit.map_or_else(|| rounded(value) + "B/s", |(name, factor)| rounded(value / factor) + name)
            }
            Self::SECONDS => rounded(value) + "s",
            Self::PER_SECOND => rounded(value) + "/s",
            _ => rounded(value),
        }
    }
}

fn scaled(value: f64, units: &[(&str, u32)], smallest: &str) -> String {
    let unit = units.iter().find(|(_, bits)| value.abs() >= (1_u64 << bits) as f64);
    unit.map_or_else(|| rounded(value) + smallest, |(name, bits)| rounded(value / (1_u64 << bits) as f64) + name)
}

/// At most four digits that count, without trailing zeros.
fn rounded(value: f64) -> String {
    let magnitude = value.abs().max(1e-9).log10().floor();
    let decimals = (3.0 - magnitude).clamp(0.0, 6.0) as usize;
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

impl fmt::Display for Unit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match *self {
            Self::NONE => "a plain number",
            Self::BYTES => "bytes",
            Self::SECONDS => "a length of time",
            Self::PER_SECOND => "a number per second",
            Self::BYTES_PER_SECOND => "bytes per second",
            Unit { bytes, seconds } => return write!(formatter, "bytes^{bytes} seconds^{seconds}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_read_into_base_units() {
        let cases = [
            ("0.8", Some((0.8, Unit::NONE))),
            ("80%", Some((0.8, Unit::NONE))),
            ("5m", Some((300.0, Unit::SECONDS))),
            ("64KiB", Some((65_536.0, Unit::BYTES))),
            ("200mbit", Some((25e6, Unit::BYTES_PER_SECOND))),
            ("5parsec", None),
            ("5.", Some((5.0, Unit::NONE))),
            ("1.2.3", None),
        ];
        cases.iter().for_each(|(text, expected)| assert_eq!(Unit::parse(text), *expected, "{text}"));
    }

    #[test]
    fn values_are_shown_short() {
        let cases = [
            (Unit::NONE, 0.934_56, "0.9346"),
            (Unit::NONE, 2.0, "2"),
            (Unit::NONE, 12_345.6, "12346"),
            (Unit::NONE, -0.000_000_01, "0"),
            (Unit::BYTES, 1_610_612_736.0, "1.5GiB"),
            (Unit::BYTES, 12.0, "12B"),
            (Unit::BYTES_PER_SECOND, 12.5e6, "12.5MB/s"),
            (Unit::SECONDS, 90.0, "90s"),
            (Unit::PER_SECOND, 1_500.0, "1500/s"),
            (Unit::NONE, f64::NAN, "unknown"),
        ];
        cases.iter().for_each(|(unit, value, text)| assert_eq!(unit.show(*value), *text));
    }

    #[test]
    fn units_multiply_and_divide() {
        assert_eq!(Unit::BYTES_PER_SECOND.times(Unit::SECONDS), Some(Unit::BYTES));
        assert_eq!(Unit::BYTES.over(Unit::SECONDS), Some(Unit::BYTES_PER_SECOND));
        let squared = Unit::BYTES.times(Unit::BYTES).unwrap();
        assert_eq!(squared.times(squared), None);
    }
}
