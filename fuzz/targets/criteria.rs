//! Criteria: whatever the text, it is refused with a place or can be evaluated with anything, and reads the same when it is
//! printed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use persona_core::activate::Criterion;

/// Values that signals may have, and some that they should not.
const VALUES: [f64; 8] = [0.0, 1.0, -1.0, 0.8, f64::NAN, f64::INFINITY, f64::MAX, f64::MIN_POSITIVE];

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(criterion) = Criterion::parse(text) else { return };
    let printed = criterion.to_string();
    let again = Criterion::parse(&printed).unwrap_or_else(|error| panic!("{printed:?} of {text:?}: {error}"));
    assert_eq!(printed, again.to_string());
    for (index, value) in VALUES.iter().enumerate() {
        let values: Vec<f64> = (0..criterion.sources().len())
            .map(|source| if source % 2 == 0 { *value } else { VALUES[index / 2] })
            .collect();
        let seen = format!("{:?}", criterion.evaluate(&values));
        assert_eq!(seen, format!("{:?}", again.evaluate(&values)), "{text:?} with {values:?}");
    }
});
