//! The reader of metrics that workloads serve: the text format of Prometheus.

#[path = "../../persona-ctl/src/signals/scrape/exposition.rs"]
mod reader;

use reader::Selection;

/// Reads bytes as a selection and a page, a line end between them: the sum is finite or none, whatever else the page says; and a
/// selection that was taken is taken again as it is written.
pub fn read(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (first, page) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(selection) = first.parse::<Selection>() else { return };
    let written = String::from(selection.clone());
    // What has to be escaped takes more room when it is written.
    assert!(written.len() > 500 || written.parse() == Ok(selection.clone()), "{written:?} of {first:?}");
    let sums = reader::sums(page, [&selection, &selection].into_iter());
    assert!(sums[0] == sums[1], "one page, two sums: {sums:?}");
    assert!(reader::sums("", std::iter::once(&selection)) == [None]);
    let twice = format!("{page}\n# a comment {{a=\"b\"}} 1\n");
    assert!(reader::sums(&twice, std::iter::once(&selection))[0] == sums[0], "a comment counts");
}
