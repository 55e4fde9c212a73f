//! Options of neighbour discovery messages (RFC 4861 §4.6).

use std::net::Ipv6Addr;

use crate::wire::{DropReason, MacAddr};

const SOURCE_MAC: u8 = 1;
const TARGET_MAC: u8 = 2;
const PREFIX_INFORMATION: u8 = 3;
const MTU: u8 = 5;

/// The options of a message, all of whose lengths were checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options<'a>(&'a [u8]);

/// One option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NdOption {
    /// MAC address of the sender.
    SourceMac(MacAddr),
    /// MAC address of the target.
    TargetMac(MacAddr),
    /// A prefix of the link.
    Prefix(PrefixInformation),
    /// MTU of the link in bytes.
    Mtu(u32),
    /// An option this host has no use for, by its type, or one whose length is not that of its type.
    Other(u8),
}

/// A prefix that a router advertises (RFC 4861 §4.6.2). A lifetime of `u32::MAX` seconds never ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrefixInformation {
    /// The prefix; bits behind its length mean nothing.
    pub prefix: Ipv6Addr,
    /// Length of the prefix in bits, as sent: it may be above 128.
    pub len: u8,
    /// L flag: addresses in it are on this link.
    pub on_link: bool,
    /// A flag: hosts make their addresses from it.
    pub autonomous: bool,
    /// How long both hold, in seconds.
    pub valid_s: u32,
    /// How long addresses made from it are preferred, in seconds.
    pub preferred_s: u32,
}

impl<'a> Options<'a> {
    /// Checks the lengths of all options.
    ///
    /// # Errors
    /// [`DropReason::BadNd`] when one of them is 0 or reaches beyond the message.
    pub fn new(bytes: &'a [u8]) -> Result<Self, DropReason> {
        let mut rest = bytes;
        while !rest.is_empty() {
            (_, rest) = split_first(rest).ok_or(DropReason::BadNd)?;
        }
        Ok(Self(bytes))
    }

    /// The options one after another.
    pub fn iter(self) -> impl Iterator<Item = NdOption> + use<'a> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (option, following) = split_first(rest)?;
            rest = following;
            Some(read(option))
        })
    }

    /// The bytes of the options.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The first source MAC address option.
    pub fn source_mac(self) -> Option<MacAddr> {
        self.iter().find_map(|option| match option {
            NdOption::SourceMac(mac) => Some(mac),
            _ => None,
        })
    }

    /// The first target MAC address option.
    pub fn target_mac(self) -> Option<MacAddr> {
        self.iter().find_map(|option| match option {
            NdOption::TargetMac(mac) => Some(mac),
            _ => None,
        })
    }
}

impl NdOption {
    /// Appends the option to `out`. [`NdOption::Other`] is sent with no content.
    pub fn emit(&self, out: &mut Vec<u8>) {
        match *self {
            Self::SourceMac(mac) => {
                out.extend([SOURCE_MAC, 1]);
                out.extend(mac.0);
            }
            Self::TargetMac(mac) => {
                out.extend([TARGET_MAC, 1]);
                out.extend(mac.0);
            }
            Self::Prefix(prefix) => {
                let flags = u8::from(prefix.on_link) << 7 | u8::from(prefix.autonomous) << 6;
                out.extend([PREFIX_INFORMATION, 4, prefix.len, flags]);
                out.extend(prefix.valid_s.to_be_bytes());
                out.extend(prefix.preferred_s.to_be_bytes());
                out.extend([0; 4]);
                out.extend(prefix.prefix.octets());
            }
            Self::Mtu(mtu) => {
                out.extend([MTU, 1, 0, 0]);
                out.extend(mtu.to_be_bytes());
            }
            Self::Other(kind) => out.extend([kind, 1, 0, 0, 0, 0, 0, 0]),
        }
    }
}

/// The first option with its type and length bytes, and what follows it.
fn split_first(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    match *bytes {
        [_, units, ..] if units > 0 => bytes.split_at_checked(8 * usize::from(units)),
        _ => None,
    }
}

fn read(option: &[u8]) -> NdOption {
    match *option {
        [SOURCE_MAC, 1, a, b, c, d, e, f] => NdOption::SourceMac(MacAddr([a, b, c, d, e, f])),
        [TARGET_MAC, 1, a, b, c, d, e, f] => NdOption::TargetMac(MacAddr([a, b, c, d, e, f])),
        [MTU, 1, _, _, a, b, c, d] => NdOption::Mtu(u32::from_be_bytes([a, b, c, d])),
        [
            PREFIX_INFORMATION,
            4,
            len,
            flags,
            v0,
            v1,
            v2,
            v3,
            p0,
            p1,
            p2,
            p3,
            _,
            _,
            _,
            _,
            ref prefix @ ..,
        ] => match <[u8; 16]>::try_from(prefix) {
            Ok(prefix) => NdOption::Prefix(PrefixInformation {
                prefix: prefix.into(),
                len,
                on_link: flags & 0x80 != 0,
                autonomous: flags & 0x40 != 0,
                valid_s: u32::from_be_bytes([v0, v1, v2, v3]),
                preferred_s: u32::from_be_bytes([p0, p1, p2, p3]),
            }),
            Err(_) => NdOption::Other(PREFIX_INFORMATION),
        },
        [kind, ..] => NdOption::Other(kind),
        [] => NdOption::Other(0),
    }
}
