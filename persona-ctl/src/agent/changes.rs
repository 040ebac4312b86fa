//! What became different between two looks at the kernel, told as events. Pure.

use std::collections::BTreeSet;

use super::config::AgentConfig;
use super::observe::Observed;

/// Something to tell: an event's name, what it is about, and a sentence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Note {
    /// A dotted name.
    pub event: &'static str,
    /// A workload, a device, a subject.
    pub about: String,
    /// For people: what, and what to do.
    pub message: String,
}

impl Note {
    pub(super) fn new(event: &'static str, about: impl ToString, message: impl Into<String>) -> Self {
        Self { event, about: about.to_string(), message: message.into() }
    }
}

/// What happened between `before` and `now`.
pub(super) fn between(before: &Observed, now: &Observed, config: &AgentConfig) -> Vec<Note> {
    let mut notes = uplink_notes(before, now, config);
    for workload in &config.file.workload {
        let name = workload.name();
        let by = workload.device.as_deref().or(workload.cgroup.as_deref()).unwrap_or_default();
        match (before.has(workload), now.has(workload)) {
            (true, false) => notes.push(Note::new(
                "workload.vanished",
                name,
                format!("{by} of workload {name} is gone, or in another network namespace; the workload has no way out until it comes back"),
            )),
            (false, true) => notes.push(Note::new("workload.appeared", name, format!("{by} of workload {name} is there"))),
            _ => {}
        }
        let (Some(old), Some(new)) = (before.attached.get(name), now.attached.get(name)) else { continue };
        let (Some(old), Some(new)) = (before.link(*old), now.link(*new)) else { continue };
        if old.index != new.index {
            let message =
                format!("{by} of workload {name} is another device now: index {} instead of {}", new.index, old.index);
            notes.push(Note::new("workload.replaced", name, message));
        } else if old.name != new.name {
            let message = format!(
                "{} of workload {name} is called {} now and is followed; correct device in the configuration",
                old.name, new.name
            );
            notes.push(Note::new("workload.renamed", name, message));
        }
        if old.mtu != new.mtu && old.index == new.index {
            let message = format!("{} of workload {name} carries {} bytes now, {} before", new.name, new.mtu, old.mtu);
            notes.push(Note::new("mtu.changed", name, message));
        }
    }
    notes
}

fn uplink_notes(before: &Observed, now: &Observed, config: &AgentConfig) -> Vec<Note> {
    let (old, new) = (&before.uplink, &now.uplink);
    let mut notes = Vec::new();
    let mut note = |event, message: String| notes.push(Note::new(event, &config.uplink, message));
    if old.index != new.index {
        note(
            "uplink.replaced",
            format!("uplink {} is another device now: index {} instead of {}", new.name, new.index, old.index),
        );
    } else if old.name != new.name {
        note(
            "uplink.renamed",
            format!(
                "uplink {} is called {} now and is followed; correct uplink in the configuration",
                old.name, new.name
            ),
        );
    }
    match (old.is_up, new.is_up) {
        (true, false) => note("uplink.down", format!("uplink {} is down: nothing leaves until it is up", new.name)),
        (false, true) => note("uplink.up", format!("uplink {} is up", new.name)),
        _ => {}
    }
    if old.mtu != new.mtu && old.index == new.index {
        note("mtu.changed", format!("uplink {} carries {} bytes now, {} before", new.name, new.mtu, old.mtu));
    }
    if let (Some(old), Some(new)) = (before.address, now.address)
        && old != new
    {
        note(
            "address.changed",
            format!(
                "the node's underlay address is {new} now, {old} before; the manager learns it when the node registers, which needs a join token that is still good"
            ),
        );
    }
    notes
}

/// Notes that stand for as long as their cause lasts: each is told once, and again when it comes back.
#[derive(Debug, Default)]
pub(super) struct Standing(BTreeSet<Note>);

impl Standing {
    /// Takes the causes that stand now; returns those that did not before.
    pub(super) fn take(&mut self, notes: impl IntoIterator<Item = Note>) -> Vec<Note> {
        let now: BTreeSet<Note> = notes.into_iter().collect();
        let new = now.difference(&self.0).cloned().collect();
        self.0 = now;
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::Link;

    fn config() -> AgentConfig {
        let text = "
            name = 'n1'
            manager = 'http://m:1'
            uplink = 'up0'
            workload = [
              { name = 'w1', device = 'veth1', address = '10.9.0.2' },
              { name = 'c1', cgroup = '/c1' },
            ]";
        toml::from_str::<super::super::config::AgentFile>(text).unwrap().check().unwrap()
    }

    fn link(index: u32, name: &str, mtu: u32) -> Link {
        Link { index, name: name.into(), mtu, is_up: true, ..Default::default() }
    }

    fn observed() -> Observed {
        Observed {
            uplink: link(1, "up0", 1_500),
            address: Some([10, 0, 0, 1].into()),
            attached: [("w1".parse().unwrap(), 7)].into(),
            cgroups: [("/c1".to_owned(), 99)].into(),
            links: vec![link(1, "up0", 1_500), link(7, "veth1", 1_500)],
            ..Default::default()
        }
    }

    #[test]
    fn every_change_has_its_event() {
        let changed = |change: fn(&mut Observed)| {
            let mut now = observed();
            change(&mut now);
            let notes = between(&observed(), &now, &config());
            let back: Vec<_> = between(&now, &observed(), &config()).into_iter().map(|note| note.event).collect();
            (notes.into_iter().map(|note| note.event).collect::<Vec<_>>(), back)
        };
        type Change = fn(&mut Observed);
        let cases: [(Change, &str, &str); 9] = [
            (|now| now.attached.clear(), "workload.vanished", "workload.appeared"),
            (|now| now.cgroups.clear(), "workload.vanished", "workload.appeared"),
            (|now| now.links[1].name = "other".into(), "workload.renamed", "workload.renamed"),
            (|now| now.links[1].mtu = 1_300, "mtu.changed", "mtu.changed"),
            (
                |now| {
                    now.attached.insert("w1".parse().unwrap(), 9);
                    now.links.push(link(9, "veth1", 1_500));
                },
                "workload.replaced",
                "workload.replaced",
            ),
            (|now| now.uplink.is_up = false, "uplink.down", "uplink.up"),
            (|now| now.uplink.index = 5, "uplink.replaced", "uplink.replaced"),
            (|now| now.uplink.mtu = 1_400, "mtu.changed", "mtu.changed"),
            (|now| now.address = Some([10, 0, 0, 2].into()), "address.changed", "address.changed"),
        ];
        for (change, there, back) in cases {
            let (there_seen, back_seen) = changed(change);
            if there == "workload.replaced" {
                assert_eq!(there_seen, [there]);
                continue;
            }
            assert_eq!((there_seen, back_seen), (vec![there], vec![back]));
        }
        assert_eq!(between(&observed(), &observed(), &config()), []);
    }

    #[test]
    fn what_stands_is_told_once_and_again_when_it_is_back() {
        let note = Note::new("mtu.lowered", "workload/n1/w1", "x");
        let mut standing = Standing::default();
        assert_eq!(standing.take([note.clone()]), std::slice::from_ref(&note));
        assert_eq!(standing.take([note.clone()]), []);
        assert_eq!(standing.take([]), []);
        assert_eq!(standing.take([note.clone()]), [note]);
    }
}
