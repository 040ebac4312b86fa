//! What a node or a peer says about an edge that it probes.

/// What kind of witness it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WitnessKind {
    /// A node, whose flows the edge carries.
    Node,
    /// Another edge of its group.
    Peer,
}

/// What a witness says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// Nothing: it is silent itself, or has not begun to probe.
    Nothing,
    /// It hears the edge.
    Alive,
    /// It does not hear the edge.
    Dead {
        /// For how long it says so, milliseconds.
        for_ms: u64,
    },
}

/// One witness and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Testimony {
    /// Who: `node/NAME` or `edge/NAME`.
    pub who: String,
    /// Node or peer.
    pub kind: WitnessKind,
    /// What it says of this edge.
    pub says: Says,
    /// Whether it hears any edge at all. One that hears none may be cut off itself.
    pub hears_any: bool,
}

impl Testimony {
    pub(super) fn is_dead(&self) -> bool {
        matches!(self.says, Says::Dead { .. })
    }
}

/// The witnesses to believe: those that speak, without those that hear nobody where somebody else hears somebody.
pub(super) fn believed(testimonies: &[Testimony]) -> Vec<&Testimony> {
    let speaking = testimonies.iter().filter(|testimony| testimony.says != Says::Nothing);
    let (sound, cut_off): (Vec<_>, Vec<_>) = speaking.partition(|testimony| testimony.hears_any);
    if sound.is_empty() { cut_off } else { sound }
}
