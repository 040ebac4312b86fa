//! Our queues: one HTB with handle 7e50: at a device's root, made, changed and removed in place. ([`super::fair_queue`] has
//! the other kind.)
//!
//! Queues with other handles belong to somebody else. They are never changed, and a device that has one at its root
//! cannot be shaped.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, TryStreamExt};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption};

use super::fair_leaf::{self, FQ_CODEL};
use super::fair_queue::FQ;
use super::htb::{self, HtbClass, Leaf};
use super::size_table::{self, Sizes};
use super::{Netlink, NetlinkError, failed, netem};

/// The handle of every root queue of ours.
pub const HANDLE_MAJOR: u16 = 0x7e50;

/// The loopback device, which every network namespace has under this index.
const LOOPBACK: u32 = 1;

/// The queues of one device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shaper {
    /// The class of packets that name none; 0: they pass unshaped.
    pub default_minor: u16,
    /// How packets are counted; None: as the device carries them.
    pub sizes: Option<Sizes>,
    /// Minor number → class.
    pub classes: BTreeMap<u16, HtbClass>,
}

impl Shaper {
    /// Counts packets of one more kind.
    pub(crate) fn count(&mut self, sizes: Sizes) {
        self.sizes = Some(self.sizes.map_or(sizes, |before| before.and(sizes)));
    }
}

impl Netlink {
    /// Our queues on every device that has some.
    pub async fn shapers(&self) -> Result<BTreeMap<u32, Shaper>, NetlinkError> {
        let qdiscs = self.qdiscs().await?;
        let mut shapers = BTreeMap::new();
        for root in qdiscs.iter().filter(|qdisc| is_ours(qdisc)) {
            shapers.insert(root.header.index as u32, self.shaper(root, &qdiscs).await?);
        }
        Ok(shapers)
    }

    async fn shaper(&self, root: &TcMessage, qdiscs: &[TcMessage]) -> Result<Shaper, NetlinkError> {
        let default_minor = htb::read_default(root).unwrap_or(0);
        let classes = self.classes(root.header.index as u32, qdiscs).await?;
        Ok(Shaper { default_minor, sizes: size_table::read(root), classes })
    }

    /// The devices with a root queue that somebody else has put there; the kernel's default is nobody's.
    pub async fn foreign_roots(&self) -> Result<BTreeSet<u32>, NetlinkError> {
        let is_foreign = |qdisc: &&TcMessage| {
            let is_set = qdisc.header.parent == TcHandle::ROOT && qdisc.header.handle != TcHandle::UNSPEC;
            is_set && !is_our_root(qdisc)
        };
        Ok(self.qdiscs().await?.iter().filter(is_foreign).map(|qdisc| qdisc.header.index as u32).collect())
    }

    /// Adds and changes what `wanted` says on a device, and leaves classes that it does not name.
    pub async fn raise_shaper(&self, ifindex: u32, wanted: &Shaper) -> Result<(), NetlinkError> {
        let qdiscs = self.qdiscs().await?;
        let root = qdiscs.iter().find(|qdisc| is_root_of(qdisc, ifindex) && qdisc.header.handle != TcHandle::UNSPEC);
        match root {
            Some(root) if !is_our_root(root) => return Err(foreign(ifindex, root)),
            Some(root) if kind(root) == FQ => {
                self.remove_fair_queue(ifindex).await?;
                self.add_root(ifindex, wanted).await?;
            }
            Some(root) if htb::read_default(root) != Some(wanted.default_minor) => {
                self.remove_shaper(ifindex).await?;
                self.add_root(ifindex, wanted).await?;
            }
            Some(root) if size_table::read(root) != wanted.sizes => self.count(ifindex, wanted.sizes).await?,
            Some(_) => {}
            None => self.add_root(ifindex, wanted).await?,
        }
        let mut present = self.classes(ifindex, &qdiscs).await?;
        self.remove_misplaced(ifindex, wanted, &mut present).await?;
        let mut classes: Vec<_> = wanted.classes.iter().collect();
        classes.sort_by_key(|(_, class)| order(class.leaf));
        for (minor, class) in classes {
            if present.get(minor) != Some(class) {
                self.put_class(ifindex, *minor, class, present.get(minor).map(|class| class.leaf)).await?;
            }
        }
        self.check_shaper(ifindex, wanted).await
    }

    /// Removes the classes on a device that `wanted` does not name.
    pub async fn trim_shaper(&self, ifindex: u32, wanted: &Shaper) -> Result<(), NetlinkError> {
        let present = self.classes(ifindex, &[]).await?;
        let surplus = present.keys().copied().filter(|minor| !wanted.classes.contains_key(minor)).collect();
        self.remove_classes(ifindex, surplus, &present).await
    }

    /// The kernel moves no class below another and makes none with classes below it a leaf: such classes, and all below
    /// them, make room.
    async fn remove_misplaced(
        &self,
        ifindex: u32,
        wanted: &Shaper,
        present: &mut BTreeMap<u16, HtbClass>,
    ) -> Result<(), NetlinkError> {
        let is_misplaced = |minor: &u16, class: &HtbClass| {
            let is_other = |wanted: &HtbClass| {
                wanted.parent_minor != class.parent_minor || (class.leaf == Leaf::Inner && wanted.leaf != Leaf::Inner)
            };
            wanted.classes.get(minor).is_some_and(is_other)
        };
        let misplaced: BTreeSet<u16> =
            present.iter().filter(|(minor, class)| is_misplaced(minor, class)).map(|(minor, _)| *minor).collect();
        let below = present.iter().filter(|(_, class)| misplaced.contains(&class.parent_minor));
        let all: BTreeSet<u16> = below.map(|(minor, _)| *minor).chain(misplaced.iter().copied()).collect();
        self.remove_classes(ifindex, all.clone(), present).await?;
        present.retain(|minor, _| !all.contains(minor));
        Ok(())
    }

    /// Those below others go first.
    async fn remove_classes(
        &self,
        ifindex: u32,
        minors: BTreeSet<u16>,
        present: &BTreeMap<u16, HtbClass>,
    ) -> Result<(), NetlinkError> {
        let (inner, leaves): (Vec<u16>, Vec<u16>) =
            minors.into_iter().partition(|minor| present.get(minor).is_some_and(|class| class.leaf == Leaf::Inner));
        for minor in leaves.into_iter().chain(inner) {
            let message = message(ifindex, ours(minor), ours(0), "htb", None);
            let request = request(RouteNetlinkMessage::DelTrafficClass(message), 0);
            self.acknowledged(request, || format!("removal of class {HANDLE_MAJOR:x}:{minor:x}")).await?;
        }
        Ok(())
    }

    /// Removes our queues from a device; the kernel puts its default back.
    pub async fn remove_shaper(&self, ifindex: u32) -> Result<(), NetlinkError> {
        let message = message(ifindex, ours(0), TcHandle::ROOT, "htb", None);
        let request = request(RouteNetlinkMessage::DelQueueDiscipline(message), 0);
        self.acknowledged(request, || format!("removal of our queue on device {ifindex}")).await
    }

    /// Whether the kernel has a kind of queue, or can load it. Changes nothing: one is asked for that the kind itself refuses, with this
    /// option or without any, and that a kernel without it doesn't know (ENOENT).
    pub(super) async fn has_queue(&self, kind: &str, refused: Option<TcOption>) -> Result<bool, NetlinkError> {
        let options = refused.map(|option| TcAttribute::Options(vec![option]));
        let wish = message(LOOPBACK, TcHandle::UNSPEC, TcHandle::ROOT, kind, options);
        let request = request(RouteNetlinkMessage::NewQueueDiscipline(wish), NLM_F_CREATE | NLM_F_EXCL);
        let outcome = self.acknowledged(request, || format!("question for {kind}")).await;
        match outcome.as_ref().map_err(errno_of) {
            Err(Some(libc::ENOENT)) => Ok(false),
            // Where somebody's queue is in the way (EEXIST), who sets ours will see.
            Ok(()) | Err(Some(libc::ERANGE | libc::EINVAL | libc::EEXIST)) => Ok(true),
            Err(_) => outcome.map(|()| true),
        }
    }

    /// Sends a request and waits for the kernel's word on it.
    pub(super) async fn acknowledged(
        &self,
        request: NetlinkMessage<RouteNetlinkMessage>,
        what: impl Fn() -> String,
    ) -> Result<(), NetlinkError> {
        let mut answers = self.handle.clone().request(request).map_err(failed(what()))?;
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload
                && error.code.is_some()
            {
                return Err(failed(what())(rtnetlink::Error::NetlinkError(error)));
            }
        }
        Ok(())
    }

    async fn qdiscs(&self) -> Result<Vec<TcMessage>, NetlinkError> {
        self.handle.qdisc().get().execute().try_collect().await.map_err(failed("list of queues"))
    }

    async fn classes(&self, ifindex: u32, qdiscs: &[TcMessage]) -> Result<BTreeMap<u16, HtbClass>, NetlinkError> {
        let found = self.handle.traffic_class(ifindex as i32).get().execute();
        let found: Vec<TcMessage> = found.try_collect().await.map_err(failed("list of classes"))?;
        let ours = found.iter().filter(|class| class.header.handle.major == HANDLE_MAJOR && kind(class) == "htb");
        let read = ours.filter_map(|class| {
            let leaf = leaf(qdiscs, ifindex, class.header.handle);
            Some((class.header.handle.minor, HtbClass { leaf, ..htb::read_class(class)? }))
        });
        let mut classes: BTreeMap<u16, HtbClass> = read.collect();
        let parents: BTreeSet<u16> = classes.values().map(|class| class.parent_minor).collect();
        let inner = classes.iter_mut().filter(|(minor, _)| parents.contains(minor));
        inner.for_each(|(_, class)| class.leaf = Leaf::Inner);
        Ok(classes)
    }

    async fn add_root(&self, ifindex: u32, wanted: &Shaper) -> Result<(), NetlinkError> {
        let options = Some(htb::qdisc_options(wanted.default_minor));
        let mut message = message(ifindex, ours(0), TcHandle::ROOT, "htb", options);
        message.attributes.extend(wanted.sizes.map(size_table::attribute));
        let request = request(RouteNetlinkMessage::NewQueueDiscipline(message), NLM_F_CREATE | NLM_F_EXCL);
        self.acknowledged(request, || format!("HTB queue on device {ifindex}")).await
    }

    /// Changes how packets are counted that come from now on; none that waits is lost.
    async fn count(&self, ifindex: u32, sizes: Option<Sizes>) -> Result<(), NetlinkError> {
        let message = message(ifindex, ours(0), TcHandle::ROOT, "htb", sizes.map(size_table::attribute));
        let request = request(RouteNetlinkMessage::NewQueueDiscipline(message), 0);
        self.acknowledged(request, || format!("count of packets on device {ifindex}")).await
    }

    /// A leaf of the same kind is changed in place, and what waits in it goes on waiting.
    async fn put_class(
        &self,
        ifindex: u32,
        minor: u16,
        class: &HtbClass,
        present: Option<Leaf>,
    ) -> Result<(), NetlinkError> {
        let options = Some(htb::class_options(class));
        let put = RouteNetlinkMessage::NewTrafficClass(message(
            ifindex,
            ours(minor),
            ours(class.parent_minor),
            "htb",
            options,
        ));
        self.acknowledged(request(put, NLM_F_CREATE), || format!("class {HANDLE_MAJOR:x}:{minor:x}")).await?;
        if present == Some(Leaf::Other) {
            self.remove_leaf(ifindex, minor).await;
        }
        let (kind, options) = match &class.leaf {
            Leaf::Fifo(limit_bytes) => ("bfifo", htb::fifo_options(*limit_bytes)),
            Leaf::Fair(fair) => (FQ_CODEL, fair_leaf::options(fair, matches!(present, Some(Leaf::Fair(_))))),
            Leaf::Netem(netem) => ("netem", netem::options(netem)),
            Leaf::Inner | Leaf::Other => return Ok(()),
        };
        let leaf = message(ifindex, TcHandle::UNSPEC, ours(minor), kind, Some(options));
        let put = RouteNetlinkMessage::NewQueueDiscipline(leaf);
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        let outcome = self.acknowledged(request(put, flags), || format!("queue of class {HANDLE_MAJOR:x}:{minor:x}"));
        outcome.await.map_err(|error| match (&class.leaf, errno_of(&error)) {
            (Leaf::Netem(_), Some(libc::EINVAL)) => NetlinkError::MixedNetem { ifindex },
            _ => error,
        })
    }

    /// Some of what others set in a leaf can't be set back, so one that is not ours makes room for a new one.
    async fn remove_leaf(&self, ifindex: u32, minor: u16) {
        let mut leaf = message(ifindex, TcHandle::UNSPEC, ours(minor), "", None);
        // The kernel wants the right kind or none.
        leaf.attributes.clear();
        let request = request(RouteNetlinkMessage::DelQueueDiscipline(leaf), 0);
        if let Err(error) = self.acknowledged(request, || format!("removal of the queue of class {minor:x}")).await {
            // A class without a queue of its own has none to remove; if it has, what is read back says so.
            tracing::debug!(error = crate::host::error_chain(&error), "leaf was not removed");
        }
    }

    async fn check_shaper(&self, ifindex: u32, wanted: &Shaper) -> Result<(), NetlinkError> {
        let qdiscs = self.qdiscs().await?;
        let present = match qdiscs.iter().find(|qdisc| is_root_of(qdisc, ifindex) && is_ours(qdisc)) {
            Some(root) => self.shaper(root, &qdiscs).await?,
            None => Shaper::default(),
        };
        let differs = wanted.classes.iter().any(|(minor, class)| present.classes.get(minor) != Some(class));
        let is_as_wanted = present.sizes == wanted.sizes && !differs;
        if is_as_wanted { Ok(()) } else { Err(NetlinkError::ReadBack { ifindex, shown: format!("{present:?}") }) }
    }
}

/// What others stand below comes first. Plain queues may make room for one that repeats packets, which some kernels let
/// stand only alone.
fn order(leaf: Leaf) -> u8 {
    match leaf {
        Leaf::Inner => 0,
        Leaf::Fifo(_) | Leaf::Fair(_) | Leaf::Other => 1,
        Leaf::Netem(netem) => 2 + u8::from(netem.duplicate > 0),
    }
}

/// The number with which the kernel refused.
fn errno_of(error: &NetlinkError) -> Option<i32> {
    match error {
        NetlinkError::Request { source: rtnetlink::Error::NetlinkError(error), .. } => Some(-error.raw_code()),
        _ => None,
    }
}

pub(super) fn ours(minor: u16) -> TcHandle {
    TcHandle { major: HANDLE_MAJOR, minor }
}

pub(super) fn message(
    ifindex: u32,
    handle: TcHandle,
    parent: TcHandle,
    kind: &str,
    options: Option<TcAttribute>,
) -> TcMessage {
    let mut message = TcMessage::with_index(ifindex as i32);
    message.header.handle = handle;
    message.header.parent = parent;
    message.attributes.push(TcAttribute::Kind(kind.to_owned()));
    message.attributes.extend(options);
    message
}

pub(super) fn request(message: RouteNetlinkMessage, flags: u16) -> NetlinkMessage<RouteNetlinkMessage> {
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    request
}

pub(super) fn is_root_of(qdisc: &TcMessage, ifindex: u32) -> bool {
    qdisc.header.index == ifindex as i32 && qdisc.header.parent == TcHandle::ROOT
}

fn is_ours(qdisc: &TcMessage) -> bool {
    is_our_root(qdisc) && kind(qdisc) == "htb"
}

/// A root queue of ours of either kind.
pub(super) fn is_our_root(qdisc: &TcMessage) -> bool {
    let is_root = qdisc.header.parent == TcHandle::ROOT && qdisc.header.handle == ours(0);
    is_root && matches!(kind(qdisc), "htb" | FQ)
}

fn leaf(qdiscs: &[TcMessage], ifindex: u32, class: TcHandle) -> Leaf {
    let leaf = qdiscs.iter().find(|qdisc| qdisc.header.index == ifindex as i32 && qdisc.header.parent == class);
    let read = leaf.and_then(|leaf| match kind(leaf) {
        "bfifo" => htb::read_fifo(leaf).map(Leaf::Fifo),
        FQ_CODEL => fair_leaf::read(leaf).map(Leaf::Fair),
        "netem" => netem::read(leaf).map(Leaf::Netem),
        _ => None,
    });
    read.unwrap_or(Leaf::Other)
}

pub(super) fn kind(message: &TcMessage) -> &str {
    let kind = message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Kind(kind) => Some(kind.as_str()),
        _ => None,
    });
    kind.unwrap_or_default()
}

pub(super) fn foreign(ifindex: u32, root: &TcMessage) -> NetlinkError {
    NetlinkError::ForeignQdisc { ifindex, kind: kind(root).to_owned(), major: root.header.handle.major }
}
