//! What happens to a fleet between two plans.

use super::fleet::{Capacity, Demand, FleetEdge, FleetNode, Service};
use crate::ids::{EdgeName, NodeName, SubjectId};

/// A change of the fleet. After any number of them one plan is made.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// An edge died, drains, came back.
    Service(EdgeName, Service),
    /// An edge can carry more or less than it could.
    Capacity(EdgeName, Capacity),
    /// A subject needs more or less than it did.
    Demand(SubjectId, Demand),
    /// A node joined, or everything known of it changed.
    Node(Box<FleetNode>),
    /// A node left.
    NodeLeft(NodeName),
    /// An edge joined, or everything known of it changed. All pairs are judged anew.
    Edge(Box<FleetEdge>),
    /// An edge left. All pairs are judged anew.
    EdgeLeft(EdgeName),
}
