//! Lines read into what is believed of them.

use std::collections::BTreeMap;

use crate::security::{is_capability, sysctl_fault, sysctl_value_fault};
use crate::signal::MEASURED;
use crate::software::{Requirement, is_package_name};
use crate::wire::guest::{
    GUEST_ENTRY_COUNT_MAX, GUEST_LINE_BYTES_MAX, GUEST_PROTOCOL, GUEST_VALUE_COUNT_MAX, GuestTell, GuestWant,
};
use crate::wire::security::{SecuritySettings, SettingReport};
use crate::wire::software::{PackageReport, WantedPackage};
use crate::wire::told::kept;

/// Bytes of a text that a guest says of one package or setting.
const TEXT_LENGTH_MAX: usize = 512;

/// A line that says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unheard {
    /// It is no message: cut, or of somebody else.
    #[error("a line that is no message: {0}")]
    Unreadable(String),
    /// It is of another version.
    #[error(
        "the other side speaks version {given} of the guests' protocol, this one {GUEST_PROTOCOL}: upgrade the older one"
    )]
    Version {
        /// Which.
        given: u32,
    },
    /// It answers somebody before this connection.
    #[error("an answer to an earlier connection")]
    Stale,
    /// It asks for what may not be asked for.
    #[error("it asks for what no document may: {0}")]
    Refused(String),
}

/// What a guest says, as an answer to this session.
///
/// # Errors
/// The line says nothing.
pub fn read_tell(line: &str, session: u64) -> Result<GuestTell, Unheard> {
    let mut tell: GuestTell = message(line)?;
    if tell.session != session {
        return Err(Unheard::Stale);
    }
    tell.version = text(std::mem::take(&mut tell.version));
    tell.values = values(std::mem::take(&mut tell.values));
    if let Some(security) = &mut tell.security {
        security.reason = security.reason.take().map(kept);
        security.settings.truncate(GUEST_ENTRY_COUNT_MAX);
        security.settings.iter_mut().for_each(bound_setting);
    }
    if let Some(software) = &mut tell.software {
        software.reason = software.reason.take().map(kept);
        software.packages.truncate(GUEST_ENTRY_COUNT_MAX);
        software.packages.iter_mut().for_each(bound_package);
    }
    Ok(tell)
}

/// What a host wants.
///
/// # Errors
/// The line says nothing, or asks for what no document may.
pub fn read_want(line: &str) -> Result<GuestWant, Unheard> {
    let want: GuestWant = message(line)?;
    let faults = want.security.as_ref().and_then(|worn| settings_fault(&worn.settings));
    let faults = faults.or_else(|| want.software.as_ref().and_then(|worn| packages_fault(&worn.packages)));
    faults.map_or(Ok(want), |fault| Err(Unheard::Refused(fault)))
}

fn message<T: serde::de::DeserializeOwned>(line: &str) -> Result<T, Unheard> {
    let unreadable = |what: String| Unheard::Unreadable(text(what));
    if line.len() > GUEST_LINE_BYTES_MAX {
        return Err(unreadable(format!("{} bytes", line.len())));
    }
    // The version first: what else there is may be anything then.
    #[derive(serde::Deserialize)]
    struct Versioned {
        protocol: u32,
    }
    let Versioned { protocol } = serde_json::from_str(line).map_err(|error| unreadable(error.to_string()))?;
    if protocol != GUEST_PROTOCOL {
        return Err(Unheard::Version { given: protocol });
    }
    serde_json::from_str(line).map_err(|error| unreadable(error.to_string()))
}

/// Names of the catalogue with values that can be: shares are within their whole, nothing is negative or endless.
fn values(values: BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let known = values.into_iter().filter_map(|(name, value)| {
        let info = MEASURED.iter().find(|info| info.name == name)?;
        let can_be = value.is_finite() && value >= 0.0;
        can_be.then(|| (name, if info.is_share { value.min(1.0) } else { value }))
    });
    known.take(GUEST_VALUE_COUNT_MAX).collect()
}

fn bound_setting(report: &mut SettingReport) {
    for field in
        [&mut report.setting, &mut report.wanted].into_iter().chain(&mut report.actual).chain(&mut report.reason)
    {
        *field = text(std::mem::take(field));
    }
}

fn bound_package(report: &mut PackageReport) {
    for field in [&mut report.package].into_iter().chain(&mut report.wanted).chain(&mut report.installed) {
        *field = text(std::mem::take(field));
    }
}

/// One line of bounded length.
fn text(text: String) -> String {
    let mut text = kept(text);
    if text.len() > TEXT_LENGTH_MAX {
        let end = (0..=TEXT_LENGTH_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

fn settings_fault(settings: &SecuritySettings) -> Option<String> {
    let of_sysctl = |(name, value): (&String, &String)| sysctl_fault(name).or_else(|| sysctl_value_fault(value));
    let names = settings.capabilities.iter().flatten();
    let unknown =
        || names.clone().find(|name| !is_capability(name)).map(|name| format!("{name:?} is no Linux capability"));
    let too_many = settings.sysctl.len() > GUEST_ENTRY_COUNT_MAX;
    let too_many = too_many.then(|| format!("more than {GUEST_ENTRY_COUNT_MAX} kernel parameters"));
    too_many.or_else(|| settings.sysctl.iter().find_map(of_sysctl)).or_else(unknown)
}

fn packages_fault(packages: &[WantedPackage]) -> Option<String> {
    let of_one = |WantedPackage { package, version }: &WantedPackage| {
        let is_wrong = version.as_ref().is_some_and(|version| version.parse::<Requirement>().is_err());
        (!is_package_name(package) || is_wrong).then(|| format!("{package:?} in version {version:?} is no package"))
    };
    let too_many = packages.len() > GUEST_ENTRY_COUNT_MAX;
    too_many.then(|| format!("more than {GUEST_ENTRY_COUNT_MAX} packages")).or_else(|| packages.iter().find_map(of_one))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tell(change: impl FnOnce(&mut serde_json::Value)) -> Result<GuestTell, Unheard> {
        let mut tell =
            serde_json::to_value(GuestTell { protocol: GUEST_PROTOCOL, session: 7, ..GuestTell::default() }).unwrap();
        change(&mut tell);
        read_tell(&tell.to_string(), 7)
    }

    #[test]
    fn what_a_guest_says_is_kept_within_bounds() {
        assert_eq!(tell(|_| {}).unwrap().session, 7);
        assert_eq!(tell(|it| it["session"] = 6.into()), Err(Unheard::Stale));
        assert_eq!(tell(|it| it["protocol"] = 2.into()), Err(Unheard::Version { given: 2 }));
        let values =
            json!({ "cpu.usage": 2.5, "memory.usage": 7.0, "weather.rain": 1, "io.pressure": -1, "cpu.load": 1e308 });
        let read = tell(|it| it["values"] = values).unwrap();
        let expected = [("cpu.load", 1e308), ("cpu.usage", 2.5), ("memory.usage", 1.0)];
        assert_eq!(read.values, expected.map(|(name, value)| (name.to_owned(), value)).into());
        let setting = json!({ "setting": "x\n\u{1b}[2J", "wanted": "1".repeat(700), "state": "inForce" });
        let security = json!({ "state": "inForce", "settings": vec![setting; 300] });
        let read = tell(|it| it["security"] = security).unwrap().security.unwrap();
        assert_eq!((read.settings.len(), read.settings[0].setting.as_str()), (GUEST_ENTRY_COUNT_MAX, "x  [2J"));
        assert!(read.settings[0].wanted.len() < 550);
    }

    #[test]
    fn what_no_document_may_say_is_refused_whoever_asks() {
        let want = |security: serde_json::Value, software: serde_json::Value| {
            let line = json!({ "protocol": GUEST_PROTOCOL, "session": 1, "generation": 5, "security": security, "software": software });
            read_want(&line.to_string())
        };
        let security = |name: &str, value: &str| json!({ "persona": "p", "version": 1, "settings": { "sysctl": { name: value } } });
        let software = |package: &str, version: &str| json!({ "persona": "p", "version": 1, "packages": [{ "package": package, "version": version }] });
        assert!(want(security("vm.swappiness", "10"), software("nginx", ">= 1")).is_ok());
        for (security, software) in [
            (security("kernel.core_pattern", "|/bin/sh"), json!(null)),
            (security("net./.x", "1"), json!(null)),
            (security("vm.swappiness", "1\n2"), json!(null)),
            (json!(null), software("--force-yes", "1")),
            (json!(null), software("nginx", "-o Dir=/")),
        ] {
            assert!(matches!(want(security, software), Err(Unheard::Refused(_))));
        }
        for line in ["", "{", "[]", "{\"protocol\":1}", "stillAHalf\":1}"] {
            assert!(matches!(read_want(line), Err(Unheard::Unreadable(_))), "{line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_line_is_too_odd(line in "\\PC{0,80}") {
            let _ = (read_tell(&line, 1), read_want(&line));
        }
    }
}
