//! What has to be installed, from what is wanted, installed and offered; and what leads back.
//!
//! Whole or not at all: where one wanted package is offered in no wanted version, nothing is changed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::requirement::Requirement;
use super::version::Version;
use crate::wire::software::WantedPackage;

/// A package as it is installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Its version.
    pub version: String,
    /// Its architecture, or `all`.
    #[serde(default)]
    pub architecture: String,
    /// Whether its installation was begun and not ended.
    #[serde(default)]
    pub is_broken: bool,
    /// Whether the package manager keeps it at that.
    #[serde(default)]
    pub is_held: bool,
    /// Whether it was installed because another one needs it.
    #[serde(default)]
    pub is_automatic: bool,
}

/// Everything that is installed: package, with `:ARCHITECTURE` where the package manager writes that, and how.
pub type Packages = BTreeMap<String, Entry>;

/// Some packages as they were; None: not installed.
pub type Was = BTreeMap<String, Option<Entry>>;

/// What transactions did to a system, so that it can be put back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ledger {
    /// Packages that any transaction changed, as they were before the first one that did.
    #[serde(default)]
    pub baseline: Was,
    /// Packages that personas named, which are held.
    #[serde(default)]
    pub named: BTreeSet<String>,
    /// While a transaction is under way: everything as it was before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Packages>,
}

impl Ledger {
    /// The ledger when the transaction under way is over, with everything as it is then.
    pub fn end(&self, after: &Packages, named: BTreeSet<String>) -> Self {
        let mut baseline = self.baseline.clone();
        for (package, was) in difference(self.pending.as_ref().unwrap_or(after), after) {
            baseline.entry(package).or_insert(was);
        }
        Self { baseline, named, pending: None }
    }
}

/// What differs after, as it was before.
pub fn difference(before: &Packages, after: &Packages) -> Was {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    changed.map(|name| (name.clone(), before.get(name).cloned())).collect()
}

/// What a package manager is asked to do at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Package → version to install.
    pub install: BTreeMap<String, String>,
    /// Packages to remove, with their configuration.
    pub remove: BTreeSet<String>,
}

impl Change {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.install.is_empty() && self.remove.is_empty()
    }
}

/// What leads from what is installed to what is wanted. `offered`: package → versions in some repository.
///
/// # Errors
/// Which packages are offered in no wanted version, and in which they are.
pub fn steps(
    wanted: &[WantedPackage],
    installed: &Packages,
    offered: &BTreeMap<String, Vec<String>>,
) -> Result<Change, String> {
    let (mut change, mut lacking) = (Change::default(), Vec::new());
    for WantedPackage { package, version } in wanted {
        let requirement = version.as_deref().map(str::parse::<Requirement>);
        let fits = |version: &str| match &requirement {
            None => true,
            Some(requirement) => requirement.as_ref().is_ok_and(|requirement| requirement.is_met_by(version)),
        };
        if entry_of(installed, package).is_some_and(|(_, entry)| fits(&entry.version) && !entry.is_broken) {
            continue;
        }
        let versions = offered.get(package).map(Vec::as_slice).unwrap_or_default();
        let fitting = versions.iter().filter(|version| fits(version));
        match fitting.filter_map(|text| Some((text.parse::<Version>().ok()?, text))).max_by(|a, b| a.0.cmp(&b.0)) {
            Some((_, version)) => {
                change.install.insert(package.clone(), version.clone());
            }
            None => lacking.push(lack(package, version.as_deref(), versions)),
        }
    }
    if lacking.is_empty() { Ok(change) } else { Err(lacking.join("; ")) }
}

fn lack(package: &str, wanted: Option<&str>, versions: &[String]) -> String {
    let wanted = wanted.map(|wanted| format!(" {wanted}")).unwrap_or_default();
    let offered = if versions.is_empty() { "not at all".to_owned() } else { versions.join(", ") };
    format!("no repository of the guest offers {package}{wanted} (it is offered: {offered})")
}

/// The installed package that is meant by a wanted one's name: of its architecture, or of any.
pub fn entry_of<'a>(installed: &'a Packages, package: &str) -> Option<(&'a String, &'a Entry)> {
    let (name, architecture) = package.split_once(':').unwrap_or((package, ""));
    let same = installed.range(name.to_owned()..).take_while(|(known, _)| known.starts_with(name));
    let mut same = same.filter(|(known, _)| bare(known) == name);
    same.find(|(_, entry)| architecture.is_empty() || entry.architecture == architecture)
}

/// What leads back to what some packages were.
pub fn back(installed: &Packages, was: &Was) -> Change {
    let mut change = Change::default();
    for (package, was) in was {
        let now = installed.get(package);
        match was {
            Some(entry) if now.is_none_or(|now| now.version != entry.version || now.is_broken) => {
                change.install.insert(package.clone(), entry.version.clone());
            }
            None if now.is_some() => {
                change.remove.insert(package.clone());
            }
            _ => {}
        }
    }
    change
}

/// What a package manager says that a change would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Simulated {
    /// Package → the version that it has now, if any.
    pub changed: BTreeMap<String, Option<String>>,
    /// Packages that would go.
    pub removed: BTreeSet<String>,
}

impl Simulated {
    /// Reads what `apt-get --simulate` prints: `Inst NAME [OLD] (NEW …)`, `Remv NAME [OLD]`, `Purg NAME [OLD]`.
    pub fn read(text: &str) -> Self {
        let mut simulated = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some(what), Some(name)) = (words.next(), words.next()) else { continue };
            let old = words.next().and_then(|word| word.strip_prefix('[')?.strip_suffix(']')).map(str::to_owned);
            match what {
                "Inst" => drop(simulated.changed.insert(name.to_owned(), old)),
                "Remv" | "Purg" => drop(simulated.removed.insert(name.to_owned())),
                _ => {}
            }
        }
        simulated
    }

    /// Packages that would go although nobody said so.
    pub fn beyond<'a>(&'a self, change: &'a Change) -> impl Iterator<Item = &'a String> {
        let is_said = |name: &String| change.remove.iter().any(|said| said == name || bare(said) == bare(name));
        self.removed.iter().filter(move |name| !is_said(name))
    }
}

fn bare(name: &str) -> &str {
    name.split_once(':').map_or(name, |(name, _)| name)
}

/// Reads lines of `NAME VERSION WANT STATUS ARCHITECTURE`, as dpkg-query is asked to write them, and the names of those that are automatic.
pub fn read_packages(text: &str, automatic: &str) -> Packages {
    let automatic: BTreeSet<&str> = automatic.lines().map(str::trim).collect();
    let rows = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (name, version, want, status) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let is_there = !["not-installed", "config-files"].contains(&status);
        let is_broken = !["installed", "triggers-awaited", "triggers-pending"].contains(&status);
        let is_automatic = automatic.contains(name) || automatic.contains(bare(name));
        let (version, architecture) = (version.to_owned(), words.next().unwrap_or_default().to_owned());
        let entry = Entry { version, architecture, is_broken, is_held: want == "hold", is_automatic };
        is_there.then(|| (name.to_owned(), entry))
    });
    rows.collect()
}

/// Reads what `apt-cache madison` prints, `NAME | VERSION | WHERE`: package → versions.
pub fn read_offered(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut offered = BTreeMap::<String, Vec<String>>::new();
    for line in text.lines() {
        let mut parts = line.split('|').map(str::trim);
        let (Some(name), Some(version)) = (parts.next(), parts.next()) else { continue };
        let versions = offered.entry(name.to_owned()).or_default();
        if !version.is_empty() && !versions.iter().any(|known| known == version) {
            versions.push(version.to_owned());
        }
    }
    offered
}

#[cfg(test)]
mod tests;
