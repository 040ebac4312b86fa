//! The kernel's policy table of address selection (RFC 6724 §2.1): which labels prefixes have.

use std::net::{IpAddr, Ipv6Addr};

use futures_util::TryStreamExt;
use netlink_packet_route::addrlabel::AddrLabelAttribute;
use rtnetlink::IpVersion;

use super::{Netlink, NetlinkError, failed};

/// A prefix and its label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressLabel {
    /// First address and prefix length.
    pub prefix: (Ipv6Addr, u8),
    /// Addresses prefer partners of the same label.
    pub label: u32,
}

impl Netlink {
    /// Every label of the namespace that is bound to no device.
    pub async fn address_labels(&self) -> Result<Vec<AddressLabel>, NetlinkError> {
        let mut found = self.handle.addrlabel().get(IpVersion::V6).execute();
        let mut labels = Vec::new();
        while let Some(message) = found.try_next().await.map_err(failed("list of address labels"))? {
            let mut prefix = Ipv6Addr::UNSPECIFIED;
            let mut label = None;
            for attribute in &message.attributes {
                match attribute {
                    AddrLabelAttribute::Address(IpAddr::V6(address)) => prefix = *address,
                    AddrLabelAttribute::Label(found) => label = Some(*found),
                    _ => {}
                }
            }
            if message.header.index == 0 {
                labels.extend(label.map(|label| AddressLabel { prefix: (prefix, message.header.prefix_len), label }));
            }
        }
        Ok(labels)
    }

    /// Gives a prefix a label. One that has a label already is an error.
    pub async fn put_address_label(&self, wanted: &AddressLabel) -> Result<(), NetlinkError> {
        let AddressLabel { prefix: (address, length), label } = *wanted;
        let request = self.handle.addrlabel().add().address(address.into()).prefix_len(length).label(label);
        request.execute().await.map_err(failed(format!("label of {address}/{length}")))
    }

    /// Takes a label away.
    pub async fn remove_address_label(&self, present: &AddressLabel) -> Result<(), NetlinkError> {
        let AddressLabel { prefix: (address, length), label } = *present;
        let request = self.handle.addrlabel().del().address(address.into()).prefix_len(length).label(label);
        request.execute().await.map_err(failed(format!("removal of the label of {address}/{length}")))
    }
}
