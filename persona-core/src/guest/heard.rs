//! What a guest said, as its node reports it of the subject.

use crate::ids::SubjectId;
use crate::wire::guest::{GuestSecurity, GuestSoftware, GuestTell};
use crate::wire::security::{SecurityReport, SecurityState, SubjectSecurity};
use crate::wire::software::{SoftwareReport, SoftwareState, SubjectSoftware};

/// Said while a guest still is at what it wore before.
const NOT_YET: &str = "the guest has not taken it up yet";

/// How the security settings of a guest stand. `heard`: what it said last, or why it says nothing.
pub fn security_report(
    subject: &SubjectId,
    worn: &SubjectSecurity,
    heard: Result<&GuestTell, String>,
) -> SecurityReport {
    let persona = format!("{}@{}", worn.persona, worn.version);
    let said = heard.and_then(|tell| {
        let said = tell.security.as_ref().filter(|said| said.persona.as_ref() == Some(&persona));
        said.cloned().ok_or_else(|| NOT_YET.to_owned())
    });
    let unknown = |reason| GuestSecurity {
        persona: None,
        state: SecurityState::Unknown,
        reason: Some(reason),
        settings: Vec::new(),
    };
    let GuestSecurity { state, reason, settings, .. } = said.unwrap_or_else(unknown);
    SecurityReport { subject: subject.clone(), persona, state, reason, settings }
}

/// How the packages of a guest stand, likewise.
pub fn software_report(
    subject: &SubjectId,
    worn: &SubjectSoftware,
    heard: Result<&GuestTell, String>,
) -> SoftwareReport {
    let persona = format!("{}@{}", worn.persona, worn.version);
    let said = heard.and_then(|tell| {
        let said = tell.software.as_ref().filter(|said| said.persona.as_ref() == Some(&persona));
        said.cloned().ok_or_else(|| NOT_YET.to_owned())
    });
    let unknown = |reason| GuestSoftware {
        persona: None,
        state: SoftwareState::Unknown,
        reason: Some(reason),
        packages: Vec::new(),
    };
    let GuestSoftware { state, reason, packages, .. } = said.unwrap_or_else(unknown);
    SoftwareReport { subject: subject.clone(), persona, state, reason, packages }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_said_of_the_persona_in_force_counts() {
        let (subject, persona) = ("workload/n1/web".parse().unwrap(), "web".parse().unwrap());
        let worn = SubjectSoftware { persona, version: 2, packages: Vec::new() };
        let said = |persona: &str| {
            let software = GuestSoftware {
                persona: Some(persona.to_owned()),
                state: SoftwareState::AsWanted,
                reason: None,
                packages: Vec::new(),
            };
            GuestTell { software: Some(software), ..GuestTell::default() }
        };
        let of = |heard: Result<GuestTell, String>| {
            let report = software_report(&subject, &worn, heard.as_ref().map_err(Clone::clone));
            (report.persona, report.state, report.reason)
        };
        let expected = |state, reason: Option<&str>| ("web@2".to_owned(), state, reason.map(str::to_owned));
        assert_eq!(of(Ok(said("web@2"))), expected(SoftwareState::AsWanted, None));
        assert_eq!(of(Ok(said("web@1"))), expected(SoftwareState::Unknown, Some(NOT_YET)));
        assert_eq!(of(Ok(GuestTell::default())), expected(SoftwareState::Unknown, Some(NOT_YET)));
        assert_eq!(of(Err("silent".to_owned())), expected(SoftwareState::Unknown, Some("silent")));
    }
}
