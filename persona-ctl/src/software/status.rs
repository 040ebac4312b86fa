//! The text of dpkg's database, which whoever owns a workload's files may have made what they like.

use deb822_fast::borrowed::{BorrowedParagraph, BorrowedParser};
use persona_core::software::Installed;

/// States of packages that are unpacked and configured, the third word of `Status`.
pub(super) const INSTALLED: [&str; 3] = ["installed", "triggers-awaited", "triggers-pending"];

/// Adds what a text says is installed.
pub(super) fn take(text: &str, installed: &mut Installed) -> Result<(), deb822_fast::Error> {
    for paragraph in BorrowedParser::new(text).parse_all()? {
        let Some(name) = paragraph.get_single("Package") else { continue };
        if is_installed(&paragraph) {
            let architecture = paragraph.get_single("Architecture").unwrap_or_default();
            installed.insert(name, architecture, paragraph.get_single("Version").unwrap_or_default());
        }
    }
    Ok(())
}

/// A paragraph without a status is of an image that has the package and no dpkg.
fn is_installed(paragraph: &BorrowedParagraph<'_>) -> bool {
    let state = paragraph.get_single("Status").map(|status| status.split_whitespace().nth(2).unwrap_or_default());
    state.is_none_or(|state| INSTALLED.contains(&state))
}
