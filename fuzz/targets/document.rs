//! Documents as people send them: whatever the text, each format gives documents or errors that say something, and a
//! document that was taken is taken again in its canonical form, which then stays the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use persona_core::document::{Document, Format, parse_documents};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for format in [Format::Yaml, Format::Json, Format::Toml] {
        match parse_documents(text, format, "input") {
            Ok(documents) => {
                assert!(!documents.is_empty(), "{format:?}");
                documents.iter().for_each(take_again);
            }
            Err(errors) => assert!(errors.iter().all(|error| !error.message.is_empty()) && !errors.is_empty()),
        }
    }
});

fn take_again(document: &Document) {
    let canonical = document.to_json();
    let again = Document::from_json(canonical.clone());
    let again = again.unwrap_or_else(|errors| panic!("{canonical} is refused: {errors:?}"));
    assert_eq!(canonical, again.to_json());
    document.warnings();
}
