//! What the first bytes of a datagram say, without a key: RFC 8999 §5, and for our versions RFC 9000 §17.

use quinn_proto::DEFAULT_SUPPORTED_VERSIONS;

/// The kind of a datagram's first packet, which stands for all of it: packets in one datagram go to one connection ID
/// (RFC 9000 §12.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class<'a> {
    /// A short header: 1-RTT, or a stateless reset.
    Short {
        /// As many bytes as our connection IDs have.
        dcid: &'a [u8],
    },
    /// The packet type that begins a connection.
    Initial {
        /// 0 to 20 bytes: chosen by the client at first, then by us.
        dcid: &'a [u8],
        /// It carries a token from a Retry or a NEW_TOKEN frame, or something in its place.
        has_token: bool,
    },
    /// 0-RTT, Handshake, Retry or Version Negotiation.
    OtherLong {
        /// 0 to 20 bytes.
        dcid: &'a [u8],
    },
    /// A version that the endpoints do not speak.
    UnsupportedVersion,
    /// Too short for its kind, or with a connection ID longer than any version of ours has.
    Malformed,
}

/// The longest connection ID of QUIC version 1, in bytes (RFC 9000 §17.2).
const CID_MAX: usize = 20;
/// First byte: long header (RFC 8999 §5.1).
const LONG: u8 = 0x80;
/// First byte: packet type of a long header, Initial being 0 (RFC 9000 §17.2). The drafts that quinn-proto speaks have
/// the same.
const LONG_TYPE: u8 = 0x30;

/// Classifies a datagram. `cid_len` is the length of our connection IDs, which short headers do not tell.
///
/// Takes nothing for granted that is not in these bytes; what is encrypted or comes later may still be nonsense.
#[inline]
pub(crate) fn classify(datagram: &[u8], cid_len: usize) -> Class<'_> {
    match datagram.split_first() {
        Some((first, rest)) if first & LONG == 0 => match rest.get(..cid_len) {
            Some(dcid) => Class::Short { dcid },
            None => Class::Malformed,
        },
        Some((&first, rest)) => long(first, rest).unwrap_or(Class::Malformed),
        None => Class::Malformed,
    }
}

fn long(first: u8, rest: &[u8]) -> Option<Class<'_>> {
    let (version, rest) = rest.split_first_chunk()?;
    let version = u32::from_be_bytes(*version);
    let (dcid, rest) = connection_id(rest)?;
    let (_scid, rest) = connection_id(rest)?;
    if version == 0 {
        return Some(Class::OtherLong { dcid });
    }
    if !DEFAULT_SUPPORTED_VERSIONS.contains(&version) {
        return Some(Class::UnsupportedVersion);
    }
    if first & LONG_TYPE != 0 {
        return Some(Class::OtherLong { dcid });
    }
    // The token's length is a variable-length integer (RFC 9000 §16): 0 is one byte 0, or longer but all 0 except for
    // the two bits that say how long.
    let &length = rest.first()?;
    let bytes = rest.get(..1 << (length >> 6))?;
    let has_token = length & 0x3f != 0 || bytes.iter().skip(1).any(|&byte| byte != 0);
    Some(Class::Initial { dcid, has_token })
}

/// A connection ID with its length in front, and what follows.
fn connection_id(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = bytes.split_first()?;
    let length = usize::from(length);
    (length <= CID_MAX).then(|| rest.split_at_checked(length))?
}

impl<'a> Class<'a> {
    /// The connection ID that the datagram is for, if that can be told.
    #[inline]
    pub(crate) fn dcid(&self) -> Option<&'a [u8]> {
        match self {
            Self::Short { dcid } | Self::Initial { dcid, .. } | Self::OtherLong { dcid } => {
                Some(dcid)
            }
            Self::UnsupportedVersion | Self::Malformed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use bytes::BytesMut;
    use proptest::prelude::*;
    use quinn_proto::{FixedLengthConnectionIdParser, PacketDecodeError, ProtectedHeader};

    use super::*;

    /// A long header from its parts.
    fn header(first: u8, version: u32, dcid: &[u8], scid: &[u8], rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        bytes.extend(version.to_be_bytes());
        for cid in [dcid, scid] {
            bytes.push(cid.len() as u8);
            bytes.extend(cid);
        }
        bytes.extend(rest);
        bytes
    }

    #[test]
    fn the_first_packet_of_rfc_9001() {
        // Appendix A.2: version 1, an 8-byte DCID, no SCID, no token.
        let dcid = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];
        let bytes = header(0xc3, 1, &dcid, &[], &[0x00, 0x44, 0x9e]);
        let has_token = false;
        let initial = Class::Initial {
            dcid: &dcid,
            has_token,
        };
        assert_eq!(classify(&bytes, 17), initial);
        // The server's Retry of appendix A.4 is none.
        let scid = [0xf0, 0x67, 0xa5, 0x50, 0x2a, 0x42, 0x62, 0xb5];
        let bytes = header(0xff, 1, &[], &scid, b"token");
        assert_eq!(classify(&bytes, 17), Class::OtherLong { dcid: &[] });
    }

    #[test]
    fn tokens_of_every_length_encoding() {
        for (token_length, has_token) in [
            (&[0x00][..], false),
            (&[0x01], true),
            (&[0x3f], true),
            (&[0x40, 0x00], false),
            (&[0x40, 0x01], true),
            (&[0x80, 0, 0, 0], false),
            (&[0x80, 1, 0, 0], true),
            (&[0xc0, 0, 0, 0, 0, 0, 0, 0], false),
            (&[0xc0, 0, 0, 0, 0, 0, 0, 9], true),
        ] {
            let bytes = header(0xc0, 1, b"12345678", b"", token_length);
            let dcid = &b"12345678"[..];
            assert_eq!(classify(&bytes, 8), Class::Initial { dcid, has_token });
            assert_eq!(classify(&bytes[..bytes.len() - 1], 8), Class::Malformed);
        }
    }

    #[test]
    fn versions() {
        let unsupported = |version| {
            let bytes = header(0xc0, version, b"12345678", b"", &[0]);
            classify(&bytes, 8) == Class::UnsupportedVersion
        };
        assert!(unsupported(0x6b33_43cf)); // QUIC version 2
        assert!(unsupported(0x0a0a_0a0a)); // greasing
        assert!(!unsupported(0)); // negotiation
        for &version in DEFAULT_SUPPORTED_VERSIONS {
            assert!(!unsupported(version));
        }
    }

    fn noise() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..80)
    }

    /// Long headers of versions we know, more or less.
    fn plausible() -> impl Strategy<Value = Vec<u8>> {
        let version = prop::sample::select(&[0, 1, 2, 0xff00_001d, 0xff00_0023][..]);
        let cid = || prop::collection::vec(any::<u8>(), 0..=21);
        let rest = prop::collection::vec(prop_oneof![Just(0), 0..8u8, any::<u8>()], 0..30);
        (0x80u8.., version, cid(), cid(), rest).prop_map(|(first, version, dcid, scid, rest)| {
            header(first, version, &dcid, &scid, &rest)
        })
    }

    proptest! {
        /// Any bytes have a class, and its ID is a part of them.
        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..80), cid_len in 0..=20usize) {
            let class = classify(&bytes, cid_len);
            if let Some(dcid) = class.dcid() {
                prop_assert!(dcid.len() <= CID_MAX);
                let long = bytes[0] & 0x80 != 0;
                let start = if long { 6 } else { 1 };
                prop_assert_eq!(dcid, &bytes[start..start + dcid.len()]);
                prop_assert!(long || dcid.len() == cid_len);
            }
            // Nor is a class lost or changed by what follows; more bytes can only mend what was too short.
            let mut longer = bytes.clone();
            longer.extend([0xa5; 30]);
            if class != Class::Malformed {
                prop_assert_eq!(classify(&longer, cid_len), class);
            }
        }

        /// What quinn-proto reads is read alike; what it does not read may have a class, but no other way around.
        #[test]
        fn agrees_with_quinn_proto(
            bytes in prop_oneof![noise(), plausible()],
            cid_len in 0..=20usize,
        ) {
            let class = classify(&bytes, cid_len);
            let mut cursor = Cursor::new(BytesMut::from(&bytes[..]));
            let ids = FixedLengthConnectionIdParser::new(cid_len);
            let versions = DEFAULT_SUPPORTED_VERSIONS;
            match ProtectedHeader::decode(&mut cursor, &ids, versions, true) {
                Ok(ProtectedHeader::Short { dst_cid, .. }) => {
                    prop_assert_eq!(class, Class::Short { dcid: &dst_cid });
                }
                Ok(ProtectedHeader::Initial(header)) => {
                    let has_token = !header.token_pos.is_empty();
                    let dcid = &header.dst_cid[..];
                    prop_assert_eq!(class, Class::Initial { dcid, has_token });
                }
                Ok(other) => prop_assert_eq!(class, Class::OtherLong { dcid: other.dst_cid() }),
                Err(PacketDecodeError::UnsupportedVersion { .. }) => {
                    prop_assert_eq!(class, Class::UnsupportedVersion);
                }
                Err(PacketDecodeError::InvalidHeader(_)) => {
                    prop_assert_ne!(class, Class::UnsupportedVersion);
                }
            }
        }

        /// Well-formed headers are read for what they are.
        #[test]
        fn long_headers(
            first in 0x80u8..,
            version in prop::sample::select(DEFAULT_SUPPORTED_VERSIONS),
            dcid in prop::collection::vec(any::<u8>(), 0..=20),
            scid in prop::collection::vec(any::<u8>(), 0..=20),
            token in 0..64u8,
        ) {
            let bytes = header(first, version, &dcid, &scid, &[token]);
            let expected = match first & 0x30 {
                0 => Class::Initial { dcid: &dcid, has_token: token != 0 },
                _ => Class::OtherLong { dcid: &dcid },
            };
            prop_assert_eq!(classify(&bytes, 17), expected);
            prop_assert_eq!(classify(&bytes[..bytes.len() - 2 - scid.len()], 17), Class::Malformed);
        }

        /// Connection IDs longer than ours can be are never read.
        #[test]
        fn long_ids(length in 21..=255u8, version: u32) {
            let cid = vec![1; usize::from(length)];
            for (dcid, scid) in [(&cid[..], &b""[..]), (b"", &cid)] {
                let bytes = header(0xc0, version, dcid, scid, &[0]);
                prop_assert_eq!(classify(&bytes, 8), Class::Malformed);
            }
        }
    }
}
