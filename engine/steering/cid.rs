//! Connection IDs that name host and shard, for those who hold the key.
//!
//! The format is that of draft-ietf-quic-load-balancers-21 (QUIC-LB) with its single-pass encryption, so that a load
//! balancer in front can route by it to a host, and further to a shard:
//!
//! ```text
//!   first octet: 3 bits config rotation, 5 bits the length of what follows (16)
//!   16 octets:   AES-128-ECB( host ID, 1..=8 octets | shard, 1 octet | nonce, the rest )
//!                             └──────── server ID of the draft ────┘
//! ```
//!
//! A nonce is never used twice, and the cipher is a permutation: IDs do not repeat, and nobody without the key can tell
//! which of them belong together.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use aes::Aes128;
use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};
use thiserror::Error;

use crate::random;

/// The length of a connection ID, in bytes.
pub const CID_LEN: usize = 1 + BLOCK;

const BLOCK: usize = 16;
/// The longest host ID, in bytes: it leaves 7 for the nonce, of which the draft asks 4.
const HOST_ID_MAX: usize = 8;
/// Rotation bits 0b111 say that an ID is not encoded at all.
const ROTATIONS: usize = 7;

/// A key of connection IDs and the number that IDs made with it carry.
#[derive(Clone, PartialEq, Eq)]
pub struct CidKey {
    /// The config rotation bits, 0 to 6.
    pub rotation: u8,
    /// The AES-128 key.
    pub key: [u8; 16],
}

/// How connection IDs are made and read. The same on all shards of a process; the keys, and the length of the host ID,
/// the same on all hosts behind a load balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CidConfig {
    /// Which host this is among those behind a load balancer: 1 to 8 bytes.
    pub host_id: Vec<u8>,
    /// The first makes IDs, all of them are read. At least one, at most 7, each with its own rotation.
    pub keys: Vec<CidKey>,
}

/// Keys or a host ID that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CidError {
    /// The host ID is too short or too long.
    #[error("the host ID is {0} bytes long: it must be 1 to 8")]
    HostIdLength(usize),
    /// There is no key.
    #[error("connection IDs need at least one key")]
    NoKey,
    /// The rotation does not fit in its bits, or is the reserved one.
    #[error("rotation {0} is out of range: it must be 0 to 6 (7 says that an ID is not routable)")]
    Rotation(u8),
    /// Two keys have the same rotation.
    #[error("two keys have rotation {0}: each needs its own, or IDs of one could not be read")]
    RotationTwice(u8),
    /// No key has the rotation that was asked for.
    #[error("no key has rotation {0}")]
    UnknownRotation(u8),
    /// The operating system gives no random numbers.
    #[error("no random numbers from the operating system")]
    NoRandomness,
}

/// Makes and reads connection IDs. Cheap to clone; clones share their keys.
#[derive(Debug, Clone)]
pub struct CidCodec(Arc<Inner>);

struct Inner {
    /// By rotation.
    ciphers: [Option<Aes128>; ROTATIONS],
    host_id: Vec<u8>,
    /// The rotation of the key that makes IDs: one of those that are there.
    makes: AtomicU8,
}

impl CidCodec {
    /// A codec of these keys.
    pub fn new(config: &CidConfig) -> Result<Self, CidError> {
        if !(1..=HOST_ID_MAX).contains(&config.host_id.len()) {
            return Err(CidError::HostIdLength(config.host_id.len()));
        }
        let mut ciphers = [const { None }; ROTATIONS];
        for CidKey { rotation, key } in &config.keys {
            let slot = ciphers.get_mut(usize::from(*rotation));
            match slot.ok_or(CidError::Rotation(*rotation))? {
                Some(_) => return Err(CidError::RotationTwice(*rotation)),
                empty => *empty = Some(Aes128::new(&Array(*key))),
            }
        }
        let first = config.keys.first().ok_or(CidError::NoKey)?;
        Ok(Self(Arc::new(Inner {
            ciphers,
            host_id: config.host_id.clone(),
            makes: AtomicU8::new(first.rotation),
        })))
    }

    /// A codec with a random key and host ID, for a process that stands behind no load balancer. IDs of another
    /// process are not readable.
    pub fn random() -> Result<Self, CidError> {
        let host_id: [u8; 4] = random::bytes().map_err(|_| CidError::NoRandomness)?;
        let key = random::bytes().map_err(|_| CidError::NoRandomness)?;
        Self::new(&CidConfig {
            host_id: host_id.into(),
            keys: vec![CidKey { rotation: 0, key }],
        })
    }

    /// Makes new IDs with the key of this rotation from now on, on all shards that share this codec. IDs made before
    /// stay readable, and in use until peers retire them.
    pub fn rotate(&self, rotation: u8) -> Result<(), CidError> {
        let known = self
            .0
            .ciphers
            .get(usize::from(rotation))
            .is_some_and(Option::is_some);
        if !known {
            return Err(CidError::UnknownRotation(rotation));
        }
        self.0.makes.store(rotation, Ordering::Relaxed);
        Ok(())
    }

    /// The connection ID of a shard with this nonce, of which as many low bytes are used as the host ID leaves: 7 to
    /// 14. A nonce must not be used twice on a shard.
    pub fn encode(&self, shard: u8, nonce: u128) -> ConnectionId {
        let Inner {
            ciphers,
            host_id,
            makes,
        } = &*self.0;
        let mut block = nonce.to_be_bytes();
        block[..host_id.len()].copy_from_slice(host_id);
        block[host_id.len()] = shard;
        let rotation = makes.load(Ordering::Relaxed);
        let mut block = Array(block);
        if let Some(Some(cipher)) = ciphers.get(usize::from(rotation)) {
            cipher.encrypt_block(&mut block);
        }
        let mut cid = [0; CID_LEN];
        cid[0] = rotation << 5 | BLOCK as u8;
        cid[1..].copy_from_slice(&block);
        ConnectionId::new(&cid)
    }

    /// The shard that a connection ID names; `None` when it was not made by this host with one of these keys. (An ID
    /// that somebody made up passes with a probability of 2^-8 for each byte of the host ID.)
    #[inline]
    pub fn decode(&self, cid: &[u8]) -> Option<u8> {
        let (&first, block) = cid.split_first()?;
        let mut block = Array(<[u8; BLOCK]>::try_from(block).ok()?);
        if usize::from(first & 0x1f) != BLOCK {
            return None;
        }
        let Inner {
            ciphers, host_id, ..
        } = &*self.0;
        let cipher = ciphers.get(usize::from(first >> 5))?.as_ref()?;
        cipher.decrypt_block(&mut block);
        let shard = block.strip_prefix(&host_id[..])?.first()?;
        Some(*shard)
    }
}

/// Says how many keys there are, not what they are.
impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("host_id", &self.host_id)
            .field("keys", &self.ciphers.iter().flatten().count())
            .field("makes", &self.makes)
            .finish()
    }
}

/// Says which key it is, not what it is.
impl fmt::Debug for CidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CidKey")
            .field("rotation", &self.rotation)
            .finish_non_exhaustive()
    }
}

/// Gives quinn-proto the connection IDs of a shard.
pub(crate) struct CidGenerator {
    codec: CidCodec,
    shard: u8,
    /// Counts from a random start: so no nonce comes twice, nor one that a process before this one used.
    nonce: u128,
}

impl CidGenerator {
    /// IDs of `shard`, the first one with nonce `start`.
    pub(crate) fn new(codec: CidCodec, shard: u8, start: u128) -> Self {
        Self {
            codec,
            shard,
            nonce: start,
        }
    }
}

impl ConnectionIdGenerator for CidGenerator {
    fn generate_cid(&mut self) -> ConnectionId {
        let cid = self.codec.encode(self.shard, self.nonce);
        self.nonce = self.nonce.wrapping_add(1);
        cid
    }

    /// Any shard of this host: a stateless reset ends connections of a process that is gone, whatever shard it had.
    fn validate(&self, cid: &ConnectionId) -> Result<(), InvalidCid> {
        match self.codec.decode(cid) {
            Some(_) => Ok(()),
            None => Err(InvalidCid),
        }
    }

    fn cid_len(&self) -> usize {
        CID_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        let digits = hex.as_bytes().chunks(2);
        let bytes: Vec<_> = digits
            .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
            .collect();
        bytes.try_into().unwrap()
    }

    fn key(rotation: u8, first: u8) -> CidKey {
        let mut key = CidKey {
            rotation,
            key: [0x5a; 16],
        };
        key.key[0] = first;
        key
    }

    fn codec(host_id: &[u8], keys: Vec<CidKey>) -> Result<CidCodec, CidError> {
        CidCodec::new(&CidConfig {
            host_id: host_id.to_vec(),
            keys,
        })
    }

    /// The vector of the draft's appendix B.2 for a server ID of 8 octets: our host ID has 7 of them, the shard one.
    #[test]
    fn the_vector_of_the_draft() {
        let key = CidKey {
            rotation: 2,
            key: bytes("8f95f09245765f80256934e50c66207f"),
        };
        let codec = codec(&bytes::<7>("ed793a51d49b8f"), vec![key]).unwrap();
        let cid = bytes::<17>("504dd2d05a7b0de9b2b9907afb5ecf8cc3");
        assert_eq!(codec.encode(0x5f, 0xee08_0dbf_48c0_d1e5)[..], cid);
        assert_eq!(codec.decode(&cid), Some(0x5f));
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        let refused = |host_id: &[u8], keys| codec(host_id, keys).unwrap_err();
        assert_eq!(refused(&[], vec![key(0, 0)]), CidError::HostIdLength(0));
        assert_eq!(refused(&[1; 9], vec![key(0, 0)]), CidError::HostIdLength(9));
        assert_eq!(refused(&[1], vec![]), CidError::NoKey);
        assert_eq!(refused(&[1], vec![key(7, 0)]), CidError::Rotation(7));
        let twice = vec![key(3, 0), key(1, 1), key(3, 2)];
        assert_eq!(refused(&[1], twice), CidError::RotationTwice(3));
    }

    #[test]
    fn old_ids_stay_readable_when_the_key_rotates() {
        let codec = codec(&[9], vec![key(1, 1), key(6, 2)]).unwrap();
        let old = codec.encode(17, 1);
        assert_eq!(old[0] >> 5, 1);
        codec.rotate(6).unwrap();
        let new = codec.encode(18, 1);
        assert_eq!(new[0] >> 5, 6);
        assert_eq!(codec.decode(&old), Some(17));
        assert_eq!(codec.decode(&new), Some(18));
        assert_eq!(codec.rotate(2), Err(CidError::UnknownRotation(2)));
        assert_eq!(codec.rotate(7), Err(CidError::UnknownRotation(7)));
        assert_eq!(codec.encode(18, 1), new);
    }

    #[test]
    fn another_host_or_key_reads_nothing() {
        let ours = codec(&[1, 2, 3, 4], vec![key(0, 0)]).unwrap();
        let cid = ours.encode(3, 4);
        assert_eq!(ours.decode(&cid), Some(3));
        let other_host = codec(&[1, 2, 3, 5], vec![key(0, 0)]).unwrap();
        assert_eq!(other_host.decode(&cid), None);
        let other_key = codec(&[1, 2, 3, 4], vec![key(0, 1)]).unwrap();
        assert_eq!(other_key.decode(&cid), None);
        assert_eq!(CidCodec::random().unwrap().decode(&cid), None);
    }

    #[test]
    fn a_generator_repeats_with_its_start_and_never_within_a_run() {
        let codec = CidCodec::random().unwrap();
        let mut a = CidGenerator::new(codec.clone(), 5, u128::MAX - 10);
        let mut b = CidGenerator::new(codec.clone(), 5, u128::MAX - 10);
        let mut seen = HashSet::new();
        for _ in 0..1000 {
            let cid = a.generate_cid();
            assert_eq!(cid, b.generate_cid());
            assert_eq!(cid.len(), a.cid_len());
            assert_eq!(codec.decode(&cid), Some(5));
            assert!(a.validate(&cid).is_ok());
            assert!(seen.insert(cid));
        }
        assert!(a.validate(&ConnectionId::new(&[16; 17])).is_err());
        assert!(a.validate(&ConnectionId::new(&[])).is_err());
    }

    #[test]
    fn keys_are_not_printed() {
        let config = CidConfig {
            host_id: vec![1],
            keys: vec![key(0, 0xab)],
        };
        let codec = CidCodec::new(&config).unwrap();
        for text in [format!("{config:?}"), format!("{codec:?}")] {
            assert!(!text.contains("171") && !text.contains("90"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            host_id in prop::collection::vec(any::<u8>(), 1..=8),
            rotation in 0..7u8,
            key in any::<[u8; 16]>(),
            shard in any::<u8>(),
            nonce in any::<u128>(),
        ) {
            let codec = codec(&host_id, vec![CidKey { rotation, key }]).unwrap();
            let cid = codec.encode(shard, nonce);
            prop_assert_eq!(cid.len(), CID_LEN);
            prop_assert_eq!(cid[0], rotation << 5 | 16);
            prop_assert_eq!(codec.decode(&cid), Some(shard));
            // Another nonce makes another ID of the same shard.
            let other = codec.encode(shard, nonce.wrapping_add(1));
            prop_assert_ne!(other, cid);
        }

        /// Reading never panics, and takes nothing for an ID that has not its length.
        #[test]
        fn any_bytes_can_be_read(cid in prop::collection::vec(any::<u8>(), 0..40)) {
            let codec = codec(&[1], vec![key(0, 0), key(5, 1)]).unwrap();
            let shard = codec.decode(&cid);
            prop_assert!(shard.is_none() || cid.len() == CID_LEN);
        }
    }
}
