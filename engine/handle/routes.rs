//! Which port a connection leaves by.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::Arc;

use poll::host::UdpPorts;
use quinn_proto::TransportConfig;

use super::ConnectError;
use crate::transport::{TransportError, TransportSettings};

/// A port, as far as handles have to know it.
#[derive(Debug, Clone)]
pub(crate) struct HandlePort {
    /// Static addresses with the lengths of their prefixes.
    pub(crate) addresses: Vec<(Ipv6Addr, u8)>,
    /// Whether anything beyond the link may be reached: by a static gateway, or one that advertises itself.
    pub(crate) gateway: bool,
    /// Whether a shard may open connections here.
    pub(crate) shards: usize,
    /// The largest UDP payload, bytes.
    pub(crate) udp_payload_max: u16,
    /// The settings of the engine's configuration.
    pub(crate) transport: Arc<TransportConfig>,
    /// What the port receives.
    pub(crate) udp_ports: UdpPorts,
}

impl HandlePort {
    /// Given settings for this port, or those of the engine.
    pub(super) fn transport(
        &self,
        settings: Option<&TransportSettings>,
    ) -> Result<Arc<TransportConfig>, TransportError> {
        match settings {
            Some(settings) => settings.build(self.udp_payload_max),
            None => Ok(Arc::clone(&self.transport)),
        }
    }

    fn owns(&self, address: Ipv6Addr) -> bool {
        self.addresses.iter().any(|&(own, _)| own == address)
    }

    fn has_on_link(&self, address: Ipv6Addr) -> bool {
        let same = |&(own, prefix): &(Ipv6Addr, u8)| {
            let differ = u128::from(own) ^ u128::from(address);
            differ.leading_zeros() >= u32::from(prefix)
        };
        address.is_unicast_link_local() || self.addresses.iter().any(same)
    }
}

/// The port that leads to `remote`: one that has it on its link, else one with a gateway.
pub(super) fn find(ports: &[HandlePort], remote: SocketAddrV6) -> Result<usize, ConnectError> {
    let address = *remote.ip();
    if remote.port() == 0 || address.is_unspecified() || address.is_multicast() {
        return Err(ConnectError::InvalidRemoteAddress(remote));
    }
    let usable = |port: &HandlePort| port.shards > 0 && !port.owns(address);
    let on_link = |port: &HandlePort| usable(port) && port.has_on_link(address);
    let by_gateway =
        |port: &HandlePort| usable(port) && port.gateway && !address.is_unicast_link_local();
    let found = ports.iter().position(on_link);
    let found = found.or_else(|| ports.iter().position(by_gateway));
    found.ok_or(ConnectError::NoRoute(remote))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(address: &str, prefix: u8, gateway: bool) -> HandlePort {
        HandlePort {
            addresses: vec![(address.parse().unwrap(), prefix)],
            gateway,
            shards: 1,
            udp_payload_max: 1_452,
            transport: Arc::default(),
            udp_ports: std::iter::empty().collect(),
        }
    }

    fn route(ports: &[HandlePort], remote: &str) -> Result<usize, ConnectError> {
        find(ports, remote.parse().unwrap())
    }

    #[test]
    fn the_link_goes_before_the_gateway_and_never_to_oneself() {
        let ports = [
            port("fd00:1::1", 64, true),
            port("fd00:2::1", 64, false),
            port("fd00:2::2", 64, false),
        ];
        assert_eq!(route(&ports, "[fd00:1::9]:1"), Ok(0));
        assert_eq!(route(&ports, "[fd00:2::9]:1"), Ok(1));
        assert_eq!(route(&ports, "[fd00:2::1]:1"), Ok(2));
        assert_eq!(route(&ports, "[fd00:2::2]:1"), Ok(1));
        assert_eq!(route(&ports, "[2001:db8::1]:1"), Ok(0));
        assert_eq!(route(&ports, "[fe80::1]:1"), Ok(0));
        let none = route(&ports[1..], "[2001:db8::1]:1");
        assert!(matches!(none, Err(ConnectError::NoRoute(_))));
    }

    #[test]
    fn some_addresses_lead_nowhere() {
        let ports = [port("fd00:1::1", 64, true)];
        for remote in ["[::]:1", "[ff02::1]:1", "[fd00:1::2]:0"] {
            let refused = route(&ports, remote);
            assert!(
                matches!(refused, Err(ConnectError::InvalidRemoteAddress(_))),
                "{remote}"
            );
        }
        let oneself = route(&ports, "[fd00:1::1]:1");
        assert!(matches!(oneself, Err(ConnectError::NoRoute(_))));
    }

    #[test]
    fn prefixes_end_within_a_byte() {
        let ports = [port("fd00::8000:1", 113, false)];
        assert!(route(&ports, "[fd00::ffff]:1").is_err());
        assert_eq!(route(&ports, "[fd00::8000:7fff]:1"), Ok(0));
        assert!(route(&ports, "[fd00::8000:8000]:1").is_err());
        assert_eq!(route(&[port("fd00::1", 0, false)], "[2001::1]:1"), Ok(0));
    }
}
