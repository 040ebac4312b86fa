//! Steps forward and back, and what is read of package managers.

use super::*;

fn packages(rows: &[(&str, &str)]) -> Packages {
    let entry = |version: &str| Entry {
        version: version.to_owned(),
        architecture: "amd64".to_owned(),
        is_broken: false,
        is_held: false,
        is_automatic: false,
    };
    rows.iter().map(|(name, version)| ((*name).to_owned(), entry(version))).collect()
}

fn wanted(rows: &[(&str, Option<&str>)]) -> Vec<WantedPackage> {
    let one = |(package, version): &(&str, Option<&str>)| WantedPackage {
        package: (*package).to_owned(),
        version: version.map(str::to_owned),
    };
    rows.iter().map(one).collect()
}

fn offered(rows: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
    rows.iter()
        .map(|(name, versions)| ((*name).to_owned(), versions.iter().map(ToString::to_string).collect()))
        .collect()
}

#[test]
fn the_newest_wanted_version_is_installed_and_what_fits_is_left_alone() {
    let installed = packages(&[("nginx:amd64", "1.22"), ("curl", "7.0")]);
    let there = offered(&[("nginx", &["1.22", "1.24-1", "1.24-2", "2.0"]), ("curl", &["8.1"])]);
    type Rows<'a> = &'a [(&'a str, Option<&'a str>)];
    type Outcome<'a> = Result<&'a [(&'a str, &'a str)], &'a str>;
    let cases: [(Rows<'_>, Outcome<'_>); 6] = [
        (&[("nginx", None), ("curl", Some(">= 7"))], Ok(&[])),
        (&[("nginx", Some(">= 1.23")), ("curl", Some(">= 8"))], Ok(&[("curl", "8.1"), ("nginx", "2.0")])),
        (&[("nginx", Some("<< 2")), ("nginx", Some("= 1.24-1"))], Ok(&[("nginx", "1.24-1")])),
        (&[("nginx:amd64", Some(">= 1.22"))], Ok(&[])),
        (&[("curl", Some(">= 9"))], Err("offers curl >= 9 (it is offered: 8.1)")),
        (&[("nginx", Some("= 2.0")), ("vim", None)], Err("offers vim (it is offered: not at all)")),
    ];
    for (rows, expected) in cases {
        match (steps(&wanted(rows), &installed, &there), expected) {
            (Ok(change), Ok(expected)) => {
                let expected =
                    expected.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect();
                assert_eq!(change, Change { install: expected, remove: BTreeSet::new() }, "{rows:?}");
            }
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
            other => panic!("{rows:?}: {other:?}"),
        }
    }
}

#[test]
fn back_leads_to_what_was_before_the_first_transaction() {
    let before = packages(&[("a", "1"), ("b", "1"), ("keep", "1")]);
    let first = packages(&[("a", "2"), ("b", "1"), ("lib", "1"), ("keep", "1")]);
    let second = packages(&[("a", "3"), ("lib", "1"), ("keep", "2")]);
    let ledger = Ledger { pending: Some(before.clone()), ..Ledger::default() };
    let ledger = ledger.end(&first, ["a".to_owned()].into());
    // Between the two somebody else has taken `keep` to another version: that is nobody's business.
    let between = packages(&[("a", "2"), ("b", "1"), ("lib", "1"), ("keep", "2")]);
    let ledger = Ledger { pending: Some(between), ..ledger }.end(&second, ["a".to_owned()].into());
    assert_eq!(ledger.baseline.keys().collect::<Vec<_>>(), ["a", "b", "lib"]);
    let change = back(&second, &ledger.baseline);
    assert_eq!(change.install, [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "1".to_owned())].into());
    assert_eq!(change.remove, ["lib".to_owned()].into());
    assert!(back(&before, &ledger.baseline).is_empty());
    let text = serde_json::to_string(&ledger).unwrap();
    assert_eq!(serde_json::from_str::<Ledger>(&text).unwrap(), ledger);
}

#[test]
fn what_package_managers_print_is_read() {
    let simulated = Simulated::read(
        "Reading package lists...\nInst tool [1.0] (2.0 localhost [all])\nInst lib (1.0 localhost [amd64]) []\n\
         Remv old [3] [tool:amd64 ]\nPurg gone [1]\nConf tool (2.0 localhost [all])\n",
    );
    assert_eq!(simulated.changed, [("tool".to_owned(), Some("1.0".to_owned())), ("lib".to_owned(), None)].into());
    let change = Change { remove: ["gone".to_owned()].into(), ..Change::default() };
    assert_eq!(simulated.beyond(&change).collect::<Vec<_>>(), ["old"]);
    let read = read_packages(
        "libc6:amd64 2.36 install installed amd64\ntool 1.0 hold installed all\nx 1 deinstall config-files\nlib 2 install triggers-pending\nhalf 1 install half-configured all\nbroken\n",
        "libc6\nlib\n",
    );
    assert_eq!((read.len(), read["tool"].architecture.as_str(), read["half"].is_broken), (4, "all", true));
    assert!(read.values().filter(|entry| entry.is_broken).count() == 1);
    assert_eq!(entry_of(&read, "libc6").map(|(name, _)| name.as_str()), Some("libc6:amd64"));
    assert_eq!(entry_of(&read, "libc6:i386"), None);
    assert!(entry_of(&read, "tool:all").is_some() && entry_of(&read, "too").is_none());
    assert!(read["libc6:amd64"].is_automatic && read["tool"].is_held && !read["tool"].is_automatic);
    let offered = read_offered(" tool | 2.0 | file:/repo ./ Packages\n tool | 1.0 | x\n tool | 2.0 | y\nnonsense\n");
    assert_eq!(offered["tool"], ["2.0", "1.0"]);
}
