//! What a host counts.

/// What a host did, for people who look after it. Drops are in [`Host::drops`](super::Host::drops) and in what its
/// functions return. Each host of a port counts what it did and saw itself: one router advertisement counts on all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HostCounters {
    /// Neighbour solicitations sent, probes and duplicate address probes among them.
    pub solicitations_sent: u64,
    /// Neighbour advertisements sent.
    pub advertisements_sent: u64,
    /// Router solicitations sent.
    pub router_solicitations_sent: u64,
    /// Multicast listener reports sent.
    pub listener_reports_sent: u64,
    /// Echo replies sent.
    pub echo_replies_sent: u64,
    /// Datagrams that waited for a MAC address.
    pub parked: u64,
    /// Neighbours that did not answer.
    pub neighbours_failed: u64,
    /// Entries of the neighbour cache that were replaced for want of room.
    pub neighbours_evicted: u64,
    /// Router advertisements taken.
    pub router_advertisements: u64,
    /// Path MTUs lowered by Packet Too Big.
    pub path_mtu_lowered: u64,
    /// Destination Unreachable messages that quote a datagram of this host.
    pub destination_unreachable: u64,
    /// Addresses of this host that somebody else has, too.
    pub address_conflicts: u64,
}

impl HostCounters {
    /// How many there are.
    pub(crate) const COUNT: usize = 12;

    /// Every counter, in a fixed order. A new one does not compile until it has its place here.
    pub(crate) fn words(&mut self) -> [&mut u64; Self::COUNT] {
        let Self {
            solicitations_sent,
            advertisements_sent,
            router_solicitations_sent,
            listener_reports_sent,
            echo_replies_sent,
            parked,
            neighbours_failed,
            neighbours_evicted,
            router_advertisements,
            path_mtu_lowered,
            destination_unreachable,
            address_conflicts,
        } = self;
        [
            solicitations_sent,
            advertisements_sent,
            router_solicitations_sent,
            listener_reports_sent,
            echo_replies_sent,
            parked,
            neighbours_failed,
            neighbours_evicted,
            router_advertisements,
            path_mtu_lowered,
            destination_unreachable,
            address_conflicts,
        ]
    }
}
