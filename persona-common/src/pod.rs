//! The promise to aya that the map types are plain bytes.
#![expect(unsafe_code, reason = "aya::Pod is an unsafe trait")]

use crate::{
    bench, departure, edge, event, firewall, flow, fragment, gateway, hint, node, police, record, share, traffic,
};

macro_rules! pod {
    ($($kind:ty),+ $(,)?) => {
        $(
            // SAFETY: `repr(C)`, `Copy`, integers only, and no padding: the sizes asserted beside the type are the sums
            // of its fields' sizes.
            unsafe impl aya::Pod for $kind {}
        )+
    };
}

pod!(
    bench::Flow,
    bench::Headers,
    bench::Plan,
    departure::Departure,
    edge::EdgeBlock,
    edge::EdgeConfig,
    edge::EdgeNode,
    edge::EdgePeer,
    edge::EgressNetwork,
    edge::NextHop,
    event::EventConfig,
    firewall::FirewallService,
    firewall::FirewallSet,
    firewall::SubjectFirewall,
    flow::FlowKey,
    flow::FlowValue,
    flow::MappingKey,
    flow::MappingValue,
    flow::Slot,
    fragment::FragmentKey,
    fragment::FragmentValue,
    gateway::Affinity,
    gateway::AffinityKey,
    gateway::Delivery,
    gateway::DeliveryConfig,
    gateway::Endpoint,
    gateway::GatewayConfig,
    gateway::GatewayDevice,
    gateway::GatewayFlow,
    gateway::GatewayFlowKey,
    gateway::Instance,
    gateway::Service,
    hint::FlowHint,
    node::Device,
    node::EdgeHop,
    node::EgressAddress,
    node::Group,
    node::Lease,
    node::Liveness,
    node::NodeBlock,
    node::NodeConfig,
    node::ScopedAddress,
    node::Subject,
    police::PolicedRates,
    police::Policer,
    record::Record,
    record::RecordKey,
    share::SharedFlow,
    share::SharedKey,
    traffic::SubjectCounts,
    traffic::TrafficCell,
);
