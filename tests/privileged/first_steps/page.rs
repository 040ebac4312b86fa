//! The page as a reader takes it: blocks of shell, each for the hosts that its first line names, and what they are said to
//! print. The first block is in every shell.

use anyhow::{Context, Result, bail, ensure};

const PAGE: &str = include_str!("../../../docs/first-steps.md");

/// What the page has to type at once.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// Where.
    pub(super) hosts: Vec<String>,
    /// What.
    pub(super) lines: String,
    /// What it then prints; `…` stands for anything within a line, and alone for any lines. Such a block only looks, so
    /// that it can be run again until what it looks for is there.
    pub(super) printed: Option<String>,
}

/// The settings that every shell has, and the blocks in order.
pub(super) fn read() -> Result<(String, Vec<Block>)> {
    read_from(PAGE)
}

fn read_from(page: &str) -> Result<(String, Vec<Block>)> {
    let mut settings = None;
    let mut blocks: Vec<Block> = Vec::new();
    for fenced in page.split("\n```").skip(1).step_by(2) {
        let (kind, lines) = fenced.split_once('\n').context("a block is open at the end of the page")?;
        match kind {
            "sh" => {
                let first = lines.lines().next().and_then(|line| line.strip_prefix("# "));
                match first.with_context(|| format!("a block does not say where: {lines}"))? {
                    "everywhere" => settings = Some(lines.to_owned()),
                    first => {
                        let hosts = first.strip_prefix("on ").with_context(|| format!("{first:?} names no host"))?;
                        let hosts = hosts.split(", ").map(str::to_owned).collect();
                        blocks.push(Block { hosts, lines: lines.to_owned(), printed: None });
                    }
                }
            }
            "text" => {
                let block = blocks.last_mut().context("something is printed before anything was typed")?;
                ensure!(block.printed.is_none(), "two texts follow one block");
                block.printed = Some(lines.to_owned());
            }
            other => bail!("a block of {other:?} is neither typed nor printed"),
        }
    }
    Ok((settings.context("no block is for everywhere")?, blocks))
}

/// Whether lines are as they are said to be, but for the width of gaps.
pub(super) fn is_as_printed(lines: &str, printed: &str) -> bool {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let [lines, printed] = [lines, printed].map(|text| text.lines().map(words).collect::<Vec<_>>());
    all_match(&lines, &printed)
}

fn all_match(lines: &[String], printed: &[String]) -> bool {
    match printed.split_first() {
        None => lines.is_empty(),
        Some((any, rest)) if any == "…" => (0..=lines.len()).any(|skipped| all_match(&lines[skipped..], rest)),
        Some((one, rest)) => lines.first().is_some_and(|line| line_matches(line, one)) && all_match(&lines[1..], rest),
    }
}

fn line_matches(line: &str, printed: &str) -> bool {
    let Some((head, rest)) = printed.split_once('…') else { return line == printed };
    let Some(line) = line.strip_prefix(head) else { return false };
    line.char_indices().map(|(at, _)| at).chain([line.len()]).any(|at| line_matches(&line[at..], rest))
}

#[test]
fn a_page_is_read_block_by_block() {
    let page = "Text.\n\n```sh\n# everywhere\nA=1\n```\n```sh\n# on m1, m2\nls\n```\nMore.\n```text\na  b\n```\n";
    let (settings, blocks) = read_from(page).unwrap();
    assert_eq!(settings, "# everywhere\nA=1");
    let expected =
        Block { hosts: vec!["m1".into(), "m2".into()], lines: "# on m1, m2\nls".into(), printed: Some("a  b".into()) };
    assert_eq!(blocks, [expected]);
    for bad in ["\n```sh\nls\n```", "\n```text\na\n```", "\n```sh\n# on a\nls\n```"] {
        assert!(read_from(bad).is_err(), "{bad}");
    }
}

#[test]
fn what_is_printed_is_held_against_what_was_said() {
    for (lines, printed, expected) in [
        ("a   b\n", "a b", true),
        ("a c\n", "a b", false),
        ("n1  up  17ms ago\n", "n1 up …", true),
        ("n1  down  17ms ago\n", "n1 up …", false),
        ("n1 up 17ms 0.1.0", "n1 up … 0.1.0", true),
        ("n1 up 17ms 0.1.1", "n1 up … 0.1.0", false),
        ("x\ny\nz\n", "x\n…\nz", true),
        ("x\ny\n", "x\n…\nz", false),
        ("x\ny\n", "x", false),
        ("x\n", "x\ny", false),
        ("", "…", true),
    ] {
        assert_eq!(is_as_printed(lines, printed), expected, "{lines:?} {printed:?}");
    }
}
