//! What QEMU's monitor says, which whoever broke out of a guest may make up.

#[path = "../../persona-ctl/src/limits/qmp_answers.rs"]
mod answers;

use answers::Said;
use persona_core::limit::Throttle;

/// Reads lines as a greeting and answers: throttles are written and read again as they were, refusals are short.
pub fn read(bytes: &[u8]) {
    for line in bytes.split(|byte| *byte == b'\n') {
        let Ok(line) = serde_json::from_slice(line) else { continue };
        answers::is_greeting(&line);
        match answers::said(line) {
            Said::Refused(why) => assert!(why.chars().count() <= 200),
            Said::Event => {}
            Said::Returned(value) => {
                answers::balloon_bytes(&value);
                for (name, throttle) in answers::throttles(&value) {
                    assert!(answers::argument_of(&value, name).is_some(), "{name:?} is not found again");
                    assert_eq!(Throttle::parse(&throttle.to_string()), throttle);
                }
            }
        }
    }
}
