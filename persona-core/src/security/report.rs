//! How a subject's settings stand as a whole, and what is told of it.

use crate::ids::SubjectId;
use crate::wire::security::{SecurityReport, SecurityState, SettingReport, SettingState, SubjectSecurity};

/// The state that the worst setting makes.
pub fn state_of(settings: &[SettingReport]) -> SecurityState {
    match settings.iter().map(|setting| setting.state).max() {
        None | Some(SettingState::InForce) => SecurityState::InForce,
        Some(SettingState::Unsupported) => SecurityState::Partly,
        Some(SettingState::NeedsRestart) => SecurityState::NeedsRestart,
        Some(SettingState::Failed) => SecurityState::Failed,
    }
}

/// How a subject's settings stand. `looked`: each of them, or why nobody can tell.
pub fn report(
    subject: &SubjectId,
    worn: &SubjectSecurity,
    looked: Result<Vec<SettingReport>, String>,
) -> SecurityReport {
    let persona = format!("{}@{}", worn.persona, worn.version);
    let (state, reason, settings) = match looked {
        Err(reason) => (SecurityState::Unknown, Some(reason), Vec::new()),
        Ok(settings) => (state_of(&settings), None, settings),
    };
    SecurityReport { subject: subject.clone(), persona, state, reason, settings }
}

/// What is to be told of a report after another. Nobody tells what he does not know.
pub fn news(before: Option<&SecurityReport>, after: &SecurityReport) -> Option<(&'static str, String)> {
    let is_same = before.is_some_and(|before| {
        (before.state, &before.persona, told(before)) == (after.state, &after.persona, told(after))
    });
    let (subject, persona) = (&after.subject, &after.persona);
    match after.state {
        _ if is_same => None,
        SecurityState::Unknown => None,
        SecurityState::InForce => {
            Some(("security.in-force", format!("the security settings of {persona} are in force for {subject}")))
        }
        SecurityState::Partly | SecurityState::NeedsRestart => Some((
            "security.needs-restart",
            format!("not every security setting of {persona} is in force for {subject}: {}", told(after)),
        )),
        SecurityState::Failed => Some((
            "security.failed",
            format!(
                "security settings of {persona} are not in force for {subject}, and it is as before: {}",
                told(after)
            ),
        )),
    }
}

/// `readOnlyRoot is false, wanted true (needs restart)`, for each that is not in force, and what failed.
fn told(report: &SecurityReport) -> String {
    let lacking = report.settings.iter().filter(|setting| setting.state != SettingState::InForce);
    let one = |setting: &SettingReport| {
        let SettingReport { setting, wanted, actual, state, .. } = setting;
        format!("{setting} is {}, wanted {wanted} ({state})", actual.as_deref().unwrap_or("not known"))
    };
    lacking.map(one).chain(report.reason.clone()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(state: SettingState) -> Vec<SettingReport> {
        vec![SettingReport {
            setting: "readOnlyRoot".to_owned(),
            wanted: "true".to_owned(),
            actual: Some((state == SettingState::InForce).to_string()),
            state,
            reason: None,
        }]
    }

    #[test]
    fn the_worst_setting_makes_the_state_and_changes_are_told_once() {
        let (subject, persona) = ("workload/n1/web".parse().unwrap(), "web".parse().unwrap());
        let worn = SubjectSecurity { persona, version: 1, settings: Default::default() };
        let of = |state| report(&subject, &worn, Ok(settings(state)));
        let unknown = report(&subject, &worn, Err("it does not run".to_owned()));
        let (fine, restart) = (of(SettingState::InForce), of(SettingState::NeedsRestart));
        assert_eq!((fine.state, restart.state), (SecurityState::InForce, SecurityState::NeedsRestart));
        assert_eq!(of(SettingState::Failed).state, SecurityState::Failed);
        assert_eq!(report(&subject, &worn, Ok(Vec::new())).state, SecurityState::InForce);
        let (event, message) = news(None, &restart).unwrap();
        assert_eq!(event, "security.needs-restart");
        assert!(message.ends_with("readOnlyRoot is false, wanted true (needs restart)"), "{message}");
        assert_eq!(news(Some(&restart), &restart), None);
        assert_eq!(news(Some(&restart), &fine).unwrap().0, "security.in-force");
        assert_eq!(news(Some(&fine), &unknown), None);
    }
}
