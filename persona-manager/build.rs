//! Embeds the page that `cargo xtask ui` has built, if it has: writes the list of its files as Rust. Nothing is built here.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Where the page lies; the folder around it is always there, so that its coming and going is noticed.
const FOLDER: &str = "ui/dist";
const PAGE: &str = "page";

fn main() {
    println!("cargo::rerun-if-changed={FOLDER}");
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join(FOLDER).join(PAGE);
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    let mut list = "const FILES: &[(&str, &[u8])] = &[\n".to_owned();
    for file in files {
        let name =
            file.strip_prefix(&root).expect("it lies in the page").to_str().expect("its name is text").to_owned();
        let file = file.to_str().expect("its path is text");
        writeln!(list, "    ({name:?}, include_bytes!({file:?})),").expect("a string takes everything");
    }
    list += "];\n";
    let out = PathBuf::from(variable("OUT_DIR")).join("page.rs");
    std::fs::write(&out, list).unwrap_or_else(|error| panic!("{} cannot be written: {error}", out.display()));
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    // No folder: no page was built.
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { collect(&path, files) } else { files.push(path) }
    }
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}
