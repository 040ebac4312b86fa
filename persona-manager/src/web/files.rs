//! What the page is made of: `cargo xtask ui` builds it, the build script embeds what is there. Without it one page says so.

// FILES: what lies in ui/dist/page, by path, ascending.
include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// What scripts, styles and pictures of the page may come from: the manager alone, and nothing inline.
pub(crate) const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// The page of a manager that was built without one.
const NOT_BUILT: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Persona</title>\
     <h1>The page is not built in</h1><p>This manager was built without it. In the source tree run \
     <code>cargo xtask ui</code>, build persona-ctl again, and start that. The API is there as ever: \
     <code>persona-ctl status</code>.</p></html>";

/// The folder of files whose name changes with their content.
const HASHED: &str = "assets/";

/// One file of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct File {
    /// Its media type.
    pub media_type: &'static str,
    /// Its content.
    pub content: &'static [u8],
    /// Whether its content never changes under this name.
    pub is_for_ever: bool,
}

/// What to show at a path under `/ui/`: the file, or the page itself, which finds out what the path means. None: a file that
/// this release does not have, as a page of another release may ask for.
pub(crate) fn find(path: &str) -> Option<File> {
    find_in(FILES, path)
}

fn find_in(files: &[(&str, &'static [u8])], path: &str) -> Option<File> {
    let named = |path: &str| files.iter().find(|(name, _)| *name == path).map(|(_, content)| *content);
    match named(path) {
        Some(content) => Some(File { media_type: media_type(path), content, is_for_ever: path.starts_with(HASHED) }),
        None if path.starts_with(HASHED) => None,
        None => {
            let content = named("index.html").unwrap_or(NOT_BUILT.as_bytes());
            Some(File { media_type: media_type("index.html"), content, is_for_ever: false })
        }
    }
}

fn media_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json") => "application/json",
        Some("md") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_file_is_found_and_any_other_path_is_the_page() {
        let files: [(&str, &'static [u8]); 2] = [("assets/a-1.js", b"js"), ("index.html", b"page")];
        let content = |path: &str| find_in(&files, path).map(|file| (file.content, file.is_for_ever));
        assert_eq!(content("assets/a-1.js"), Some((&b"js"[..], true)));
        assert_eq!(content("edges/fra1"), Some((&b"page"[..], false)));
        assert_eq!(content(""), Some((&b"page"[..], false)));
        assert_eq!(content("assets/a-2.js"), None, "a page instead of a script would only confuse");
    }

    #[test]
    fn without_a_page_the_command_is_named_at_every_path() {
        let file = find_in(&[], "edges").unwrap();
        assert!(file.media_type.starts_with("text/html"));
        assert!(String::from_utf8_lossy(file.content).contains("cargo xtask ui"));
    }
}
