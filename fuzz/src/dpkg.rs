//! The reader of dpkg's database, which lies where a workload may write.

#[path = "../../persona-ctl/src/software/status.rs"]
mod status;

use persona_core::software::{Installed, Requirement, Version, compare};
use persona_core::wire::software::WantedPackage;

/// Reads bytes as a database, as it is read from a file: what is in it can be compared with what is wanted.
pub fn read(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut installed = Installed::default();
    if status::take(&text, &mut installed).is_err() {
        return;
    }
    let names = text.lines().filter_map(|line| line.strip_prefix("Package:"));
    let wanted: Vec<WantedPackage> =
        names.take(64).map(|name| WantedPackage { package: name.trim().to_owned(), version: None }).collect();
    let found = compare(&wanted, &installed);
    assert_eq!(found.len(), wanted.len());
    for version in found.iter().filter_map(|it| it.installed.as_deref()) {
        let Ok(version) = version.parse::<Version>() else { continue };
        assert!(version == version.clone() && version.cmp(&version).is_eq());
        let _ = format!(">= {version}").parse::<Requirement>();
    }
}
