//! A delivering node's maps and the look-ups in them.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, PerCpuArray};
use persona_common::addr::Address6;
use persona_common::drop::DropReason;
use persona_common::gateway::{DELIVERY_COUNT_MAX, Delivery, DeliveryConfig};
use persona_common::traffic::TrafficCell;
use persona_ebpf::count;
use persona_ebpf::packet::Direction;

#[map]
static DELIVERY_CONFIG: Array<DeliveryConfig> = Array::pinned(1, 0);

/// Addresses of gateways on the underlay.
#[map]
static GATEWAYS: HashMap<Address6, u32> = HashMap::pinned(DELIVERY_COUNT_MAX, 0);

/// By VNI.
#[map]
static DELIVERIES: HashMap<u32, Delivery> = HashMap::pinned(DELIVERY_COUNT_MAX, 0);

/// All that was delivered.
#[map]
static DELIVERED: PerCpuArray<TrafficCell> = PerCpuArray::pinned(1, 0);

/// The node's own facts.
#[inline(always)]
pub fn config() -> Result<&'static DeliveryConfig, DropReason> {
    DELIVERY_CONFIG.get(0).ok_or(DropReason::Kernel)
}

/// Whether packets of this address are taken.
#[inline(always)]
pub fn is_gateway(address: &Address6) -> bool {
    GATEWAYS.get_ptr(address).is_some()
}

/// The instance that a VNI names.
#[inline(always)]
pub fn delivery(vni: u32) -> Option<Delivery> {
    // SAFETY: values are replaced as a whole and copied here at once.
    unsafe { DELIVERIES.get(vni) }.copied()
}

/// Counts what was delivered.
#[inline(always)]
pub fn count_delivered(packets: u64, bytes: u64) {
    count::add(&DELIVERED, 0, Direction::Inward, packets, bytes);
}
