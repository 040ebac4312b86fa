//! Wanted beside installed.

use std::collections::BTreeMap;

use super::requirement::Requirement;
use crate::ids::SubjectId;
use crate::wire::software::{PackageReport, SoftwareReport, SoftwareState, SubjectSoftware, WantedPackage};

/// Packages that are installed: name and architecture → version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installed(BTreeMap<(String, String), String>);

impl Installed {
    /// Notes a package.
    pub fn insert(&mut self, name: &str, architecture: &str, version: &str) {
        self.0.insert((name.to_owned(), architecture.to_owned()), version.to_owned());
    }

    /// The versions in which a package is there: of the architecture behind its name, or of any.
    fn versions<'a>(&'a self, wanted: &'a str) -> impl Iterator<Item = &'a String> {
        let (name, architecture) = wanted.split_once(':').unwrap_or((wanted, ""));
        let all = self.0.range((name.to_owned(), String::new())..).take_while(move |((known, _), _)| known == name);
        all.filter(move |((_, known), _)| architecture.is_empty() || known == architecture).map(|(_, version)| version)
    }
}

/// How each wanted package stands, in the order of the document.
pub fn compare(wanted: &[WantedPackage], installed: &Installed) -> Vec<PackageReport> {
    let one = |wanted: &WantedPackage| {
        let requirement = wanted.version.as_deref().map(str::parse::<Requirement>);
        let is_met = |version: &&String| match &requirement {
            None => true,
            Some(requirement) => requirement.as_ref().is_ok_and(|requirement| requirement.is_met_by(version)),
        };
        // Of several architectures, one that is as wanted is enough.
        let fitting = installed.versions(&wanted.package).find(is_met);
        let found = fitting.or_else(|| installed.versions(&wanted.package).next());
        PackageReport {
            package: wanted.package.clone(),
            wanted: wanted.version.clone(),
            installed: found.cloned(),
            is_as_wanted: fitting.is_some(),
            is_held: false,
        }
    };
    wanted.iter().map(one).collect()
}

/// How a subject's software stands. `looked`: its wanted packages, or why nobody can tell.
pub fn report(
    subject: &SubjectId,
    worn: &SubjectSoftware,
    looked: Result<Vec<PackageReport>, String>,
) -> SoftwareReport {
    let persona = format!("{}@{}", worn.persona, worn.version);
    let (state, reason, packages) = match looked {
        Err(reason) => (SoftwareState::Unknown, Some(reason), Vec::new()),
        Ok(packages) if packages.iter().all(|package| package.is_as_wanted) => {
            (SoftwareState::AsWanted, None, packages)
        }
        Ok(packages) => (SoftwareState::Drifted, None, packages),
    };
    SoftwareReport { subject: subject.clone(), persona, state, reason, packages }
}

/// What is to be told of a report after another: drift that begins, is another, or ends. Who is first found as wanted is
/// nothing to tell; neither is who cannot be looked at, whose report says so.
pub fn news(before: Option<&SoftwareReport>, after: &SoftwareReport) -> Option<(&'static str, String)> {
    let (subject, persona) = (&after.subject, &after.persona);
    let drift_of = |report: &SoftwareReport| -> Vec<String> {
        report.packages.iter().filter(|package| !package.is_as_wanted).map(told).collect()
    };
    let (old, new) = (before.map(drift_of).unwrap_or_default(), drift_of(after));
    match after.state {
        SoftwareState::Drifted if old != new => {
            let message = format!("{subject} has not the software of {persona}: {}", new.join(", "));
            Some(("software.drifted", message))
        }
        SoftwareState::Failed
            if before.is_none_or(|before| (before.state, &before.reason) != (after.state, &after.reason)) =>
        {
            let why = after.reason.as_deref().unwrap_or("it does not say why");
            Some((
                "software.failed",
                format!("{subject} does not get the software of {persona}, and is as before: {why}"),
            ))
        }
        SoftwareState::AsWanted if !old.is_empty() => {
            Some(("software.as-wanted", format!("{subject} has the software of {persona}")))
        }
        _ => None,
    }
}

/// `nginx is 1.18.0-6, wanted >= 1.22`.
fn told(package: &PackageReport) -> String {
    let name = &package.package;
    let wanted = package.wanted.as_ref().map(|wanted| format!(", wanted {wanted}")).unwrap_or_default();
    match &package.installed {
        Some(installed) => format!("{name} is {installed}{wanted}"),
        None => format!("{name} is not installed{wanted}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_and_older_packages_are_drift() {
        let mut installed = Installed::default();
        for (name, architecture, version) in [
            ("nginx", "amd64", "1.22.1-9+deb12u1"),
            ("libc6", "amd64", "2.36-9"),
            ("libc6", "i386", "2.31-1"),
            ("nginx-common", "all", "1.0"),
        ] {
            installed.insert(name, architecture, version);
        }
        let cases = [
            ("nginx", None, Some("1.22.1-9+deb12u1"), true),
            ("nginx", Some(">= 1.22"), Some("1.22.1-9+deb12u1"), true),
            ("nginx", Some(">= 1.24"), Some("1.22.1-9+deb12u1"), false),
            ("ngin", None, None, false),
            ("libc6", Some("<< 2.32"), Some("2.31-1"), true),
            ("libc6:amd64", Some("<< 2.32"), Some("2.36-9"), false),
            ("libc6:arm64", None, None, false),
            ("nginx", Some("from another release"), Some("1.22.1-9+deb12u1"), false),
        ];
        for (package, version, found, is_as_wanted) in cases {
            let wanted = WantedPackage { package: package.to_owned(), version: version.map(str::to_owned) };
            let report = compare(&[wanted], &installed).remove(0);
            assert_eq!(
                (report.installed.as_deref(), report.is_as_wanted),
                (found, is_as_wanted),
                "{package} {version:?}"
            );
        }
    }

    #[test]
    fn drift_is_told_when_it_begins_changes_and_ends() {
        let (subject, persona) = ("workload/n1/web".parse().unwrap(), "web".parse().unwrap());
        let wanted = |package: &str| WantedPackage { package: package.to_owned(), version: Some(">= 2".to_owned()) };
        let worn = SubjectSoftware { persona, version: 3, packages: vec![wanted("nginx"), wanted("curl")] };
        let look = |versions: &[(&str, &str)]| {
            let mut installed = Installed::default();
            versions.iter().for_each(|(name, version)| installed.insert(name, "amd64", version));
            report(&subject, &worn, Ok(compare(&worn.packages, &installed)))
        };
        let unknown = report(&subject, &worn, Err("no process".to_owned()));
        assert_eq!((unknown.state, unknown.reason.as_deref()), (SoftwareState::Unknown, Some("no process")));
        let (fine, old) = (look(&[("nginx", "2"), ("curl", "3")]), look(&[("nginx", "1"), ("curl", "3")]));
        let less = look(&[("nginx", "1")]);
        let drifted = "software.drifted";
        let cases = [
            (None, &fine, None),
            (None, &old, Some((drifted, "workload/n1/web has not the software of web@3: nginx is 1, wanted >= 2"))),
            (Some(&old), &old, None),
            (
                Some(&old),
                &less,
                Some((
                    drifted,
                    "workload/n1/web has not the software of web@3: nginx is 1, wanted >= 2, curl is not installed, wanted >= 2",
                )),
            ),
            (Some(&less), &unknown, None),
            (Some(&unknown), &fine, None),
            (Some(&less), &fine, Some(("software.as-wanted", "workload/n1/web has the software of web@3"))),
        ];
        for (before, after, expected) in cases {
            let expected = expected.map(|(event, message)| (event, message.to_owned()));
            assert_eq!(news(before, after), expected, "{before:?}");
        }
    }
}
