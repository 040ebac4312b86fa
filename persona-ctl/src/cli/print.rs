//! Answers: tables for people, JSON and YAML for programs, always on standard output.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use comfy_table::{Cell, Color, ContentArrangement, Row, Table, presets};
use serde::Serialize;

use super::Output;

impl Output {
    /// Prints an answer: `table` makes the text for people, everything else is the answer itself.
    pub(super) fn show<T: Serialize>(self, answer: &T, table: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
        match self {
            Self::Table => print_text(&table(answer)),
            Self::Json => print_text(&serde_json::to_string_pretty(answer)?),
            Self::Yaml => print_text(&serde_saphyr::to_string(answer)?),
        }
    }
}

/// Prints that something was done for which the manager has no answer of its own.
pub(super) fn show_done(output: Output, what: &str, name: &dyn std::fmt::Display, outcome: &str) -> anyhow::Result<()> {
    let answer = serde_json::json!({ "kind": what, "name": name.to_string(), "outcome": outcome });
    output.show(&answer, |_| format!("{what} {name} is {outcome}"))
}

/// Prints a text with exactly one line end; an empty text prints nothing.
pub(super) fn print_text(text: &str) -> anyhow::Result<()> {
    let text = text.trim_end();
    if !text.is_empty() {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{text}")?;
        out.flush()?;
    }
    Ok(())
}

/// A table without lines, as wide as the terminal; `none` is said when there are no rows.
pub(super) fn table_of<R: Into<Row>>(header: &[&str], rows: impl IntoIterator<Item = R>, none: &str) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        table.force_no_tty();
    }
    table.set_header(header.to_vec()).add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    if table.row_count() == 0 { none.to_owned() } else { table.trim_fmt() }
}

/// A state's cell: what needs a person's eye is red, what is on its way yellow.
pub(super) fn state_cell(state: &str) -> Cell {
    let cell = Cell::new(state);
    match state {
        "down" | "cut off" | "rejected" | "gone" | "halted" => cell.fg(Color::Red),
        "new" | "behind" | "publishing" | "retiring" | "revoking" | "quarantine" | "draining" | "leaving"
        | "maintenance" | "flagged" | "observing" | "soaking" | "paused" | "aborted" => cell.fg(Color::Yellow),
        _ => cell,
    }
}

/// Milliseconds since the Unix epoch.
pub(super) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// How long ago a time was, in its two largest units, or `never`.
pub(super) fn ago(time_ms: u64, now_ms: u64) -> String {
    match time_ms {
        0 => "never".to_owned(),
        time_ms => format!("{} ago", short_time(now_ms.saturating_sub(time_ms))),
    }
}

/// How far ahead a time is, or `-`.
pub(super) fn ahead(time_ms: Option<u64>, now_ms: u64) -> String {
    time_ms.map_or_else(|| "-".to_owned(), |time_ms| format!("in {}", short_time(time_ms.saturating_sub(now_ms))))
}

/// A length of time in its two largest units: `2h 5m`, `3.2s`, `40ms`.
pub(super) fn short_time(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0 => format!("{ms}ms"),
        1..=9 => format!("{}.{}s", seconds, ms % 1_000 / 100),
        10..=59 => format!("{seconds}s"),
        60..=3_599 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..=86_399 => format!("{}h {}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// A time in UTC as in RFC 3339, to the millisecond.
pub(super) fn utc(time_ms: u64) -> String {
    let (days, ms) = (time_ms / 86_400_000, time_ms % 86_400_000);
    let (year, month, day) = civil_date(days as i64);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1_000)
}

/// Year, month and day of a number of days since 1970-01-01, in the proleptic Gregorian calendar with years that begin
/// in March, so that the leap day comes last.
fn civil_date(days: i64) -> (i64, i64, i64) {
    const DAYS_PER_ERA: i64 = 146_097;
    let days = days + 719_468; // from 0000-03-01
    let (era, day_of_era) = (days.div_euclid(DAYS_PER_ERA), days.rem_euclid(DAYS_PER_ERA));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Bytes in the largest binary unit that leaves a number of at least one.
pub(super) fn bytes(count: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.iter().find(|(_, bits)| count >> bits > 0);
    unit.map_or_else(
        || format!("{count} B"),
        |(name, bits)| format!("{:.1} {name}", count as f64 / f64::from(1_u32 << (bits - 10)) / 1_024.0),
    )
}

/// Bits per second in the largest decimal unit that leaves a number of at least one.
pub(super) fn bit_rate(bits_per_sec: u64) -> String {
    let units = [("Tbit/s", 1e12), ("Gbit/s", 1e9), ("Mbit/s", 1e6), ("kbit/s", 1e3)];
    let unit = units.iter().find(|(_, size)| bits_per_sec as f64 >= *size);
    unit.map_or_else(
        || format!("{bits_per_sec} bit/s"),
        |(name, size)| format!("{:.1} {name}", bits_per_sec as f64 / size),
    )
}

/// A share in per cent, or `-`.
pub(super) fn share(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.1}%", share * 100.0))
}

/// Items with commas between them, or `-`.
pub(super) fn listed<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() { "-".to_owned() } else { items.join(", ") }
}

/// An edge's or a node's generations in one cell: what is applied, and whether that is what is published.
pub(super) fn generation_cell(
    desired: persona_core::ids::Generation,
    applied: persona_core::ids::Generation,
    is_rejected: bool,
) -> Cell {
    match (is_rejected, applied == desired) {
        (true, _) => Cell::new(format!("{applied} (rejected {desired})")).fg(Color::Red),
        (false, true) => Cell::new(applied),
        (false, false) => Cell::new(format!("{applied} (behind {desired})")).fg(Color::Yellow),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_utc() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_238_519_042, "2026-11-21T05:21:59.042Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ];
        cases.iter().for_each(|(ms, text)| assert_eq!(utc(*ms), *text));
    }

    #[test]
    fn lengths_of_time_and_bytes_are_short() {
        let times = [
            (40, "40ms"),
            (3_240, "3.2s"),
            (59_000, "59s"),
            (125_000, "2m 5s"),
            (7_500_000, "2h 5m"),
            (90_000_000, "1d 1h"),
        ];
        times.iter().for_each(|(ms, text)| assert_eq!(short_time(*ms), *text));
        let sizes = [(0, "0 B"), (1_023, "1023 B"), (1_536, "1.5 KiB"), (3 << 30, "3.0 GiB"), (5 << 40, "5.0 TiB")];
        sizes.iter().for_each(|(count, text)| assert_eq!(bytes(*count), *text));
        let rates = [(0, "0 bit/s"), (999, "999 bit/s"), (1_500, "1.5 kbit/s"), (40_000_000_000, "40.0 Gbit/s")];
        rates.iter().for_each(|(rate, text)| assert_eq!(bit_rate(*rate), *text));
        assert_eq!((share(None), share(Some(0.125))), ("-".to_owned(), "12.5%".to_owned()));
        assert_eq!((ago(0, 5), ahead(None, 0)), ("never".to_owned(), "-".to_owned()));
    }
}
