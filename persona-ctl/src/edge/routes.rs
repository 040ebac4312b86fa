//! Routes to what this edge carries, in a table from which a routing daemon takes them: there while the edge serves, gone
//! while it does not.
//!
//! A task of its own, so that no pass of the loop delays a withdrawal. It compares with what the kernel has, whatever
//! happened before. When the process dies the routes stay, as the data path goes on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use persona_core::units::Cidr;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::ownership::Obstacle;
use crate::host::error_chain;
use crate::netlink::{AnnouncedRoute, Netlink, NetlinkError};

/// Routes that others took away are back after this long; with a full table of the internet a look takes a while.
const LOOK: Duration = Duration::from_secs(10);

/// What the guardian wants the outside to be told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Nothing is decided yet: what a process before this one announced stays.
    #[default]
    Undecided,
    /// Routes to these ranges.
    Announced(BTreeSet<Cidr>),
    /// None, for this reason.
    Withheld(Obstacle),
}

/// What stands in the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Ranges that are announced.
    pub ranges: BTreeSet<Cidr>,
    /// Why not more, if there is a reason.
    pub withheld: Option<Obstacle>,
    /// Why the table could not be made so.
    pub trouble: Option<String>,
}

/// The running task's two ends.
#[derive(Debug)]
pub(super) struct Routes {
    wanted: Arc<watch::Sender<Wanted>>,
    standing: watch::Receiver<Standing>,
}

impl Routes {
    /// Starts it for this table. Without a table it takes away what a process before this one announced, and ends.
    /// `changed` is notified when something else stands in the table.
    pub(super) fn start(
        table: Option<u32>,
        changed: Arc<Notify>,
        stop: CancellationToken,
    ) -> Result<Self, NetlinkError> {
        let (wanted, wishes) = watch::channel(Wanted::Undecided);
        let (told, standing) = watch::channel(Standing::default());
        let work = Work { netlink: Netlink::open_strict()?, table, wishes, told, changed, is_first: true };
        tokio::spawn(work.run(stop));
        Ok(Self { wanted: Arc::new(wanted), standing })
    }

    /// Where the guardian says what it wants.
    pub(super) fn wanted(&self) -> Arc<watch::Sender<Wanted>> {
        Arc::clone(&self.wanted)
    }

    /// What stands in the table.
    pub(super) fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }
}

struct Work {
    netlink: Netlink,
    table: Option<u32>,
    wishes: watch::Receiver<Wanted>,
    told: watch::Sender<Standing>,
    changed: Arc<Notify>,
    /// Whether other tables, which a process before this one may have used, are still to be looked through.
    is_first: bool,
}

impl Work {
    async fn run(mut self, stop: CancellationToken) {
        let mut interval = tokio::time::interval(LOOK);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Ok(()) = self.wishes.changed() => {}
                _ = interval.tick() => {}
            }
            let wish = self.wishes.borrow_and_update().clone();
            let standing = self.reconcile(&wish).await;
            let is_over = self.table.is_none() && standing.trouble.is_none();
            let is_news = self.told.send_if_modified(|before| {
                *before != standing && {
                    *before = standing;
                    true
                }
            });
            if is_news {
                self.changed.notify_one();
            }
            if is_over {
                return;
            }
        }
    }

    /// Makes the table what is wanted, as far as it goes.
    async fn reconcile(&mut self, wish: &Wanted) -> Standing {
        let look_in = if self.is_first { None } else { self.table };
        let present = match self.netlink.announced_routes(look_in).await {
            Ok(present) => present,
            Err(error) => return Standing { trouble: Some(error_chain(&error)), ..self.told.borrow().clone() },
        };
        let wanted = wanted_routes(self.table, wish, &present);
        let (mut ranges, mut trouble) = (BTreeSet::new(), None);
        let mut note = |outcome: Result<(), NetlinkError>| match outcome {
            Ok(()) => true,
            Err(error) => {
                trouble.get_or_insert(error_chain(&error));
                false
            }
        };
        for route in present.difference(&wanted) {
            if !note(self.netlink.withdraw_route(route).await) && Some(route.table) == self.table {
                ranges.insert(route.destination);
            }
        }
        for route in &wanted {
            if present.contains(route) || note(self.netlink.announce_route(route).await) {
                ranges.insert(route.destination);
            }
        }
        self.is_first &= trouble.is_some();
        let withheld = if let Wanted::Withheld(obstacle) = wish { Some(*obstacle) } else { None };
        Standing { ranges, withheld, trouble }
    }
}

/// What shall stand in `table` and in no other, while `present` does.
fn wanted_routes(table: Option<u32>, wish: &Wanted, present: &BTreeSet<AnnouncedRoute>) -> BTreeSet<AnnouncedRoute> {
    let Some(table) = table else { return BTreeSet::new() };
    match wish {
        Wanted::Undecided => present.iter().filter(|route| route.table == table).copied().collect(),
        Wanted::Announced(ranges) => ranges.iter().map(|range| AnnouncedRoute { table, destination: *range }).collect(),
        Wanted::Withheld(_) => BTreeSet::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_announced_stays_until_something_is_decided() {
        let route = |table, text: &str| AnnouncedRoute { table, destination: text.parse().unwrap() };
        let present = BTreeSet::from([route(126, "203.0.113.64/28"), route(254, "203.0.113.64/28")]);
        let wanted = |table, wish: Wanted| wanted_routes(table, &wish, &present);
        let kept = BTreeSet::from([route(126, "203.0.113.64/28")]);
        assert_eq!(wanted(Some(126), Wanted::Undecided), kept, "but for other tables");
        assert_eq!(wanted(None, Wanted::Undecided), BTreeSet::new(), "an edge that shall announce nothing");
        assert_eq!(wanted(Some(126), Wanted::Withheld(Obstacle::Outside)), BTreeSet::new());
        let ranges = BTreeSet::from(["2001:db8::/56".parse().unwrap()]);
        assert_eq!(wanted(Some(126), Wanted::Announced(ranges)), BTreeSet::from([route(126, "2001:db8::/56")]));
    }
}
