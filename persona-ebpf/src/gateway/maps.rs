//! A gateway's maps and the look-ups in them.

use aya_ebpf::helpers::bpf_ktime_get_coarse_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray};
use persona_common::addr::Address6;
use persona_common::drop::DropReason;
use persona_common::gateway::*;
use persona_common::traffic::TrafficCell;
use persona_ebpf::count;
use persona_ebpf::packet::Direction;

#[map]
static GATEWAY_CONFIG: Array<GatewayConfig> = Array::pinned(1, 0);

/// By interface index.
#[map]
static GATEWAY_DEVICES: HashMap<u32, GatewayDevice> = HashMap::pinned(GATEWAY_DEVICE_COUNT_MAX, 0);

/// Addresses of services; `VIP_*` bits.
#[map]
static VIPS: HashMap<Address6, u32> = HashMap::pinned(SERVICE_COUNT_MAX, 0);

#[map]
static SERVICE_INDICES: HashMap<Endpoint, u32> = HashMap::pinned(SERVICE_COUNT_MAX, 0);

/// Own address and port of every instance whose replies pass the gateway → its index.
#[map]
static ENDPOINTS: HashMap<Endpoint, u32> = HashMap::pinned(INSTANCE_COUNT_MAX, 0);

#[map]
static SERVICES: Array<Service> = Array::pinned(SERVICE_COUNT_MAX, 0);

#[map]
static SERVICE_ROWS: Array<u32> = Array::pinned(SERVICE_ROW_CELL_COUNT, 0);

#[map]
static INSTANCES: Array<Instance> = Array::pinned(INSTANCE_COUNT_MAX, 0);

/// `INSTANCE_*` bits, by an instance's index.
#[map]
static INSTANCE_STATES: Array<u32> = Array::pinned(INSTANCE_COUNT_MAX, 0);

#[map]
pub static GATEWAY_FLOWS: LruHashMap<GatewayFlowKey, GatewayFlow> = LruHashMap::pinned(GATEWAY_FLOW_COUNT_MAX, 0);

#[map]
pub static AFFINITIES: LruHashMap<AffinityKey, Affinity> = LruHashMap::pinned(AFFINITY_COUNT_MAX, 0);

#[map]
static SERVICE_TRAFFIC: PerCpuArray<TrafficCell> = PerCpuArray::pinned(SERVICE_COUNT_MAX, 0);

#[map]
static INSTANCE_TRAFFIC: PerCpuArray<TrafficCell> = PerCpuArray::pinned(INSTANCE_COUNT_MAX, 0);

/// Flows that an instance was chosen for.
#[map]
static INSTANCE_OPENED: PerCpuArray<u64> = PerCpuArray::pinned(INSTANCE_COUNT_MAX, 0);

/// The gateway's own facts.
#[inline(always)]
pub fn config() -> Result<&'static GatewayConfig, DropReason> {
    GATEWAY_CONFIG.get(0).ok_or(DropReason::Kernel)
}

/// The gateway's device of this index.
#[inline(always)]
pub fn device(ifindex: u32) -> Option<GatewayDevice> {
    // SAFETY: values are replaced as a whole and copied here at once.
    unsafe { GATEWAY_DEVICES.get(ifindex) }.copied()
}

/// What is said of an address of services; None: it is none.
#[inline(always)]
pub fn vip(address: &Address6) -> Option<u32> {
    // SAFETY: as above.
    unsafe { VIPS.get(address) }.copied()
}

/// The index of the service at an endpoint.
#[inline(always)]
pub fn service_index(endpoint: &Endpoint) -> Option<u32> {
    // SAFETY: as above.
    unsafe { SERVICE_INDICES.get(endpoint) }.copied()
}

/// The index of the instance at an endpoint, if its replies pass the gateway.
#[inline(always)]
pub fn instance_index(endpoint: &Endpoint) -> Option<u32> {
    // SAFETY: as above.
    unsafe { ENDPOINTS.get(endpoint) }.copied()
}

/// A service.
#[inline(always)]
pub fn service(index: u32) -> Result<&'static Service, DropReason> {
    SERVICES.get(index).ok_or(DropReason::NoInstance)
}

/// An instance.
#[inline(always)]
pub fn instance(index: u32) -> Result<&'static Instance, DropReason> {
    INSTANCES.get(index).ok_or(DropReason::NoInstance)
}

/// The row's two choices.
#[inline(always)]
pub fn row(cell: u32) -> Option<u32> {
    SERVICE_ROWS.get(cell).copied()
}

/// `INSTANCE_*` bits of an instance.
#[inline(always)]
pub fn state(index: u32) -> u32 {
    INSTANCE_STATES.get(index).copied().unwrap_or(0)
}

/// Counts a packet of a service and of its instance.
#[inline(always)]
pub fn count_traffic(service_index: u32, instance_index: u32, direction: Direction, packets: u64, bytes: u64) {
    count::add(&SERVICE_TRAFFIC, service_index, direction, packets, bytes);
    count::add(&INSTANCE_TRAFFIC, instance_index, direction, packets, bytes);
}

/// Counts a flow that an instance was chosen for.
#[inline(always)]
pub fn count_opened(instance_index: u32) {
    if let Some(cell) = INSTANCE_OPENED.get_ptr_mut(instance_index) {
        // SAFETY: a cell of this CPU; programs of one hook don't interrupt each other on it.
        unsafe { *cell += 1 };
    }
}

/// Seconds of the coarse clock.
#[inline(always)]
pub fn now_secs() -> u32 {
    let offset = GATEWAY_CONFIG.get(0).map_or(0, |config| config.clock_offset_secs);
    // SAFETY: a helper without arguments.
    (unsafe { bpf_ktime_get_coarse_ns() } / 1_000_000_000) as u32 + 1 + offset
}
