//! `--reason TEXT`: every command that changes something may say why, and events keep it.
//!
//! Some commands ask for a reason of their own; that is the one then.

use clap::{Arg, ArgMatches, Command};

/// The name of the argument, here and where a command has one of its own.
const REASON: &str = "reason";

/// Commands that change something at the manager.
const CHANGING: &[&[&str]] = &[
    &["access", "create"],
    &["access", "revoke"],
    &["activation", "release"],
    &["activation", "trigger"],
    &["authority", "retire"],
    &["authority", "rotate"],
    &["binding", "delete"],
    &["edge", "delete"],
    &["edge", "drain"],
    &["edge", "label"],
    &["edge", "revoke"],
    &["edge", "undrain"],
    &["edge", "weight"],
    &["egress", "add"],
    &["egress", "delete"],
    &["node", "delete"],
    &["node", "drain"],
    &["node", "label"],
    &["node", "revoke"],
    &["node", "undrain"],
    &["persona", "apply"],
    &["persona", "delete"],
    &["persona", "rollback"],
    &["plan", "set"],
    &["reach", "set"],
    &["request"],
    &["rollout", "abort"],
    &["rollout", "pause"],
    &["rollout", "resume"],
    &["rollout", "rollback"],
    &["rollout", "start"],
    &["signal", "push"],
    &["signal", "withdraw"],
    &["switch"],
    &["token", "create"],
    &["token", "revoke"],
    &["ui", "revoke"],
    &["webhook", "create"],
    &["webhook", "delete"],
    &["webhook", "retry"],
    &["workload", "label"],
];

/// The command line with the argument where it belongs.
pub(super) fn with_reasons(command: Command) -> Command {
    CHANGING.iter().fold(command, |command, path| with_reason(command, path))
}

fn with_reason(command: Command, path: &[&'static str]) -> Command {
    match path {
        [] if command.get_arguments().any(|arg| arg.get_id() == REASON) => command,
        [] => command.arg(Arg::new(REASON).long(REASON).value_name("TEXT").help("Why; it is kept in the event log")),
        [name, rest @ ..] => command.mut_subcommand(*name, |inner| with_reason(inner, rest)),
    }
}

/// The reason that was given, if the command that was given takes one.
pub(super) fn reason_in(mut matches: &ArgMatches) -> Option<String> {
    let mut path = Vec::new();
    while let Some((name, inner)) = matches.subcommand() {
        path.push(name);
        matches = inner;
    }
    let is_changing = CHANGING.iter().any(|known| **known == *path);
    is_changing.then(|| matches.get_one::<String>(REASON).cloned()).flatten()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn whatever_changes_something_takes_a_reason_and_nothing_else_does() {
        for (line, expected) in [
            ("switch workload/n1/web tokyo --reason outage", Some("outage")),
            ("switch workload/n1/web tokyo", None),
            ("persona apply -f a.yaml --reason outage", Some("outage")),
            ("node revoke n1 --reason stolen", Some("stolen")),
            ("node delete n1 --force --reason stolen", Some("stolen")),
            ("rollout abort eu --reason complaints", Some("complaints")),
            ("node label n1 a=b --reason sold", Some("sold")),
            ("monitor --reason no-edge", None),
            ("status", None),
        ] {
            let words = std::iter::once("persona-ctl").chain(line.split(' '));
            let matches =
                with_reasons(Cli::command()).try_get_matches_from(words).unwrap_or_else(|e| panic!("{line}: {e}"));
            assert_eq!(reason_in(&matches).as_deref(), expected, "{line}");
        }
        let matches = with_reasons(Cli::command()).try_get_matches_from(["persona-ctl", "status", "--reason", "x"]);
        assert!(matches.is_err());
    }
}
