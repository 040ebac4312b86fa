//! What a running instance has of the settings that it was started with.

use super::capability::{capability_bit, names_of};
use crate::wire::security::{SecuritySettings, SettingReport, SettingState};

/// What the first process of an instance has. What is absent could not be seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Linux capabilities that no process may go beyond, as bits.
    pub bounding: Option<u64>,
    /// Whether programs give no more rights.
    pub no_new_privileges: Option<bool>,
    /// Whether its system calls are filtered.
    pub is_filtered: Option<bool>,
    /// Whether its root cannot be written to.
    pub is_root_read_only: Option<bool>,
    /// Its profile of AppArmor.
    pub apparmor: Option<String>,
}

/// How every setting stands that an instance was started with, in the order of the document. What is less than wanted, or
/// more, takes a restart; who has fewer Linux capabilities than he may have is as wanted.
pub fn judge(wanted: &SecuritySettings, seen: &Seen) -> Vec<SettingReport> {
    let mut reports = Vec::new();
    if let Some(names) = &wanted.capabilities {
        let most = names.iter().filter_map(|name| capability_bit(name)).fold(0, |set, bit| set | bit);
        let actual = seen.bounding.map(|set| told(&names_of(set)));
        let fits = seen.bounding.map(|set| set & !most == 0);
        let how = "Docker: --cap-drop ALL and --cap-add; systemd: CapabilityBoundingSet=";
        reports.push(one("capabilities", told(names), actual, fits, how));
    }
    let mut flag = |setting, wanted: Option<bool>, seen: Option<bool>, how| {
        let Some(wanted) = wanted else { return };
        let fits = seen.map(|seen| seen == wanted);
        reports.push(one(setting, wanted.to_string(), seen.map(|seen| seen.to_string()), fits, how));
    };
    flag(
        "noNewPrivileges",
        wanted.no_new_privileges,
        seen.no_new_privileges,
        "Docker: --security-opt no-new-privileges; systemd: NoNewPrivileges=",
    );
    flag(
        "readOnlyRoot",
        wanted.read_only_root,
        seen.is_root_read_only,
        "Docker: --read-only; systemd: ProtectSystem=strict",
    );
    flag("seccomp", wanted.seccomp, seen.is_filtered, "Docker: --security-opt seccomp=; systemd: SystemCallFilter=");
    if let Some(profile) = &wanted.apparmor {
        let fits = seen.apparmor.as_ref().map(|seen| seen == profile);
        let how = "Docker: --security-opt apparmor=; systemd: AppArmorProfile=";
        reports.push(one("apparmor", profile.clone(), seen.apparmor.clone(), fits, how));
    }
    reports
}

fn told<T: AsRef<str>>(names: &[T]) -> String {
    let mut names: Vec<&str> = names.iter().map(|name| name.as_ref().trim_start_matches("CAP_")).collect();
    names.sort_unstable();
    if names.is_empty() { "none".to_owned() } else { names.join(" ") }
}

fn one(setting: &str, wanted: String, actual: Option<String>, fits: Option<bool>, how: &str) -> SettingReport {
    let (state, reason) = match fits {
        Some(true) => (SettingState::InForce, None),
        Some(false) => {
            (SettingState::NeedsRestart, Some(format!("a running process keeps what it was started with: {how}")))
        }
        None => (SettingState::Unsupported, Some("its first process does not show it".to_owned())),
    };
    SettingReport { setting: setting.to_owned(), wanted, actual, state, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_was_started_with_is_in_force_or_takes_a_restart() {
        let wanted = SecuritySettings {
            capabilities: Some(vec!["CHOWN".to_owned(), "CAP_KILL".to_owned()]),
            no_new_privileges: Some(true),
            read_only_root: Some(true),
            seccomp: Some(true),
            apparmor: Some("docker-default".to_owned()),
            ..SecuritySettings::default()
        };
        let seen = Seen {
            bounding: Some(1),
            no_new_privileges: Some(true),
            is_filtered: Some(true),
            is_root_read_only: Some(false),
            apparmor: None,
        };
        let states: Vec<_> = judge(&wanted, &seen).into_iter().map(|it| (it.setting, it.state)).collect();
        let expected = [
            ("capabilities", SettingState::InForce),
            ("noNewPrivileges", SettingState::InForce),
            ("readOnlyRoot", SettingState::NeedsRestart),
            ("seccomp", SettingState::InForce),
            ("apparmor", SettingState::Unsupported),
        ];
        assert_eq!(states, expected.map(|(setting, state)| (setting.to_owned(), state)));
        let more = judge(&wanted, &Seen { bounding: Some(1 << 21 | 1), ..seen }).remove(0);
        assert_eq!((more.state, more.actual.as_deref()), (SettingState::NeedsRestart, Some("CHOWN SYS_ADMIN")));
        assert_eq!(more.wanted, "CHOWN KILL");
        assert!(judge(&SecuritySettings::default(), &Seen::default()).is_empty());
    }
}
