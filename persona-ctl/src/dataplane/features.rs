//! What this kernel can do, found out before programs are loaded, and told to them as constants.

use aya::EbpfLoader;
use aya::programs::TcAttachType;
use aya::util::KernelVersion;

use super::bpf_objects;

/// From this release on `bpf_skb_adjust_room` has the flags that name the inner family: commit d219df60a70e.
const DECAP_L3_SINCE: KernelVersion = KernelVersion::new(6, 3, 0);

/// The loopback device, which every network namespace has under this index.
const LOOPBACK: u32 = 1;

/// Kernel features that decide how programs are attached and what they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelFeatures {
    /// TC programs hang on links (TCX, Linux 6.6). Without: on filters of a clsact queue.
    pub tcx: bool,
    /// `BPF_F_ADJ_ROOM_DECAP_L3_IPV4` and its sibling.
    pub decap_l3: bool,
}

impl KernelFeatures {
    /// Asks the kernel. Needs CAP_BPF and CAP_NET_ADMIN; without them nothing is found.
    pub fn probe() -> Self {
        let tcx = Self::has_tcx();
        let decap_l3 = KernelVersion::current().is_ok_and(|version| version >= DECAP_L3_SINCE);
        Self { tcx, decap_l3 }
    }

    /// Whether TC programs can hang on links: an older kernel refuses to be asked who is attached there (EINVAL).
    pub fn has_tcx() -> bool {
        bpf_objects::query_tcx(LOOPBACK, TcAttachType::Ingress).is_ok()
    }

    /// Sets the constants of `persona-ebpf/src/features.rs`, those that the object has.
    pub(super) fn tell(self, loader: &mut EbpfLoader<'_>) {
        let decap_l3: &'static u32 = if self.decap_l3 { &1 } else { &0 };
        loader.override_global("HAS_DECAP_L3", decap_l3, false);
    }
}
