//! Which shard a datagram belongs to, and how it gets there.
//!
//! A device spreads flows over its queues, but a connection outlives its flow: a client changes its address, a NAT
//! forgets a mapping, and some devices cannot keep a flow on a queue in the first place. So each connection ID that a
//! shard gives out names the shard ([`CidCodec`]), and a datagram that arrives on another one is handed over, unopened,
//! through a bounded channel:
//!
//! ```text
//!   queue 0 ──► shard 0 ──► connection ID ──► names shard 1 ──► inbox of shard 1 ──► Endpoint::handle
//!                                        └──► names shard 0, or nobody: handled here
//! ```
//!
//! * First packets of a client carry an ID of its own making, which names nobody: they stay where they arrive, and the
//!   connection with them. What follows carries an ID of ours.
//! * A datagram is handed over once. Whatever its ID says, the shard that takes it over handles it.
//! * It costs one AES block per received datagram where a port has several shards, and nothing where it has one.
//! * Client connections save themselves the way where the device hashes: see [`ClientPorts`].
//!
//! What a stateless reset carries in the place of an ID is random (RFC 9000 §10.3), so it is not steered: it is seen by
//! a client only if it arrives on the client's queue.

mod cid;
mod client_ports;

use crossbeam_channel::{Receiver, Sender, bounded};
use poll::Datagram;

pub(crate) use cid::CidGenerator;
pub use cid::{CID_LEN, CidCodec, CidConfig, CidError, CidKey};
pub(crate) use client_ports::PortChoice;
pub use client_ports::{ClientPorts, ClientPortsError, RssQueue};

/// What one shard needs to hand datagrams over and to take them: made by [`mesh`] for all shards of a port at once.
pub struct Steering {
    codec: CidCodec,
    shard: u8,
    /// The way to each other shard of the port, by its number. Empty when there is no other.
    peers: Box<[Option<Sender<Datagram>>]>,
    inbox: Receiver<Datagram>,
}

/// Joins the `shards` of one port (DPDK device), named by their numbers in connection IDs: one end for each, in the
/// same order. An inbox holds at most `capacity` datagrams (at least 1); what comes above that is dropped and counted.
///
/// Numbers that occur twice share nothing: the last of them gets what is handed over. The plan gives each shard of the
/// process its own.
pub fn mesh(codec: &CidCodec, shards: &[u8], capacity: usize) -> Vec<Steering> {
    let channels: Vec<_> = shards.iter().map(|_| bounded(capacity.max(1))).collect();
    let numbers = usize::from(shards.iter().copied().max().unwrap_or(0)) + 1;
    let ends = shards.iter().zip(&channels);
    ends.map(|(&shard, (_, inbox))| {
        let mut peers = Vec::new();
        if shards.len() > 1 {
            peers.resize(numbers, None);
            for (&peer, (sender, _)) in shards.iter().zip(&channels) {
                if peer != shard {
                    peers[usize::from(peer)] = Some(sender.clone());
                }
            }
        }
        Steering {
            codec: codec.clone(),
            shard,
            peers: peers.into(),
            inbox: inbox.clone(),
        }
    })
    .collect()
}

impl Steering {
    /// The number of this shard in connection IDs.
    pub fn shard(&self) -> u8 {
        self.shard
    }

    /// What reads and makes the connection IDs.
    pub fn codec(&self) -> &CidCodec {
        &self.codec
    }

    /// The other shard of this port that a connection ID names: `None` when it names this one, or nobody here.
    #[inline]
    pub(crate) fn elsewhere(&self, cid: &[u8]) -> Option<u8> {
        if self.peers.is_empty() {
            return None;
        }
        let shard = self.codec.decode(cid)?;
        let known = self.peers.get(usize::from(shard))?.is_some();
        known.then_some(shard)
    }

    /// Hands a datagram over; gives it back as an error when the inbox is full or its shard has ended.
    #[inline]
    pub(crate) fn hand_over(&self, shard: u8, datagram: Datagram) -> Result<(), Datagram> {
        match self.peers.get(usize::from(shard)) {
            Some(Some(peer)) => peer.try_send(datagram).map_err(|error| error.into_inner()),
            _ => Err(datagram),
        }
    }

    /// The next datagram that another shard handed over.
    #[inline]
    pub(crate) fn take(&self) -> Option<Datagram> {
        // Most are empty, and this finds out without a memory fence.
        match self.inbox.is_empty() {
            true => None,
            false => self.inbox.try_recv().ok(),
        }
    }

    /// True while there is something to [`take`](Self::take).
    #[inline]
    pub(crate) fn waits(&self) -> bool {
        !self.inbox.is_empty()
    }
}

impl Drop for Steering {
    /// Gives back the packet memory of what nobody will take any more; the others hold the channel open otherwise.
    fn drop(&mut self) {
        while self.take().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use poll::{Ecn, Path};
    use proptest::prelude::*;

    use super::*;

    fn codec() -> CidCodec {
        CidCodec::new(&CidConfig {
            host_id: vec![0x0a, 0x01],
            keys: vec![CidKey {
                rotation: 0,
                key: [7; 16],
            }],
        })
        .unwrap()
    }

    fn datagram(payload: &[u8]) -> Datagram {
        Datagram {
            path: Path {
                remote: "[fd00::2]:1000".parse().unwrap(),
                local: "fd00::1".parse().unwrap(),
                local_udp_port: 4433,
            },
            ecn: Ecn::NotEct,
            payload: BytesMut::from(payload),
        }
    }

    #[test]
    fn an_id_leads_to_its_shard_from_every_other() {
        let codec = codec();
        let shards = [3, 0, 200];
        let ends = mesh(&codec, &shards, 4);
        for from in &ends {
            for to in &ends {
                let cid = codec.encode(to.shard(), 99);
                if from.shard() == to.shard() {
                    assert_eq!(from.elsewhere(&cid), None);
                    continue;
                }
                assert_eq!(from.elsewhere(&cid), Some(to.shard()));
                from.hand_over(to.shard(), datagram(&cid)).unwrap();
                assert!(to.waits());
                assert_eq!(to.take().unwrap().payload[..], cid[..]);
                assert!(!to.waits());
            }
            // A shard of another port, or of a process before this one.
            assert_eq!(from.elsewhere(&codec.encode(7, 99)), None);
            assert_eq!(from.elsewhere(&codec.encode(255, 99)), None);
            assert!(from.hand_over(7, datagram(b"x")).is_err());
        }
    }

    #[test]
    fn a_full_inbox_and_an_ended_shard_give_the_datagram_back() {
        let mut ends = mesh(&codec(), &[0, 1], 2);
        let ended = ends.pop().unwrap();
        let end = &ends[0];
        assert!(end.hand_over(1, datagram(b"1")).is_ok());
        assert!(end.hand_over(1, datagram(b"2")).is_ok());
        let back = end.hand_over(1, datagram(b"3")).unwrap_err();
        assert_eq!(&back.payload[..], b"3");
        assert_eq!(&ended.take().unwrap().payload[..], b"1");
        assert!(end.hand_over(1, datagram(b"4")).is_ok());
        drop(ended);
        assert!(end.hand_over(1, datagram(b"5")).is_err());
    }

    #[test]
    fn what_waits_for_a_shard_goes_with_it() {
        let mut ends = mesh(&codec(), &[0, 1], 2);
        let mut buffer = BytesMut::from(&[0; 200][..]);
        let datagram = Datagram {
            payload: buffer.split_to(150),
            ..datagram(b"")
        };
        ends[0].hand_over(1, datagram).unwrap();
        assert!(!buffer.try_reclaim(100), "the datagram is still there");
        let first = ends.remove(0);
        drop(ends);
        assert!(buffer.try_reclaim(100));
        drop(first);
    }

    proptest! {
        /// Whatever a datagram shows as its ID, it is handed to a shard that there is, or stays.
        #[test]
        fn any_bytes_lead_somewhere(cid in prop::collection::vec(any::<u8>(), 0..32), own in 0..3u8) {
            let ends = mesh(&codec(), &[0, 1, 2], 1);
            let to = ends[usize::from(own)].elsewhere(&cid);
            prop_assert!(to.is_none_or(|to| to < 3 && to != own));
        }
    }
}
