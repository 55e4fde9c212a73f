//! VLAN tags in frames (IEEE 802.1Q): four bytes between the MAC addresses and the ethertype.

use super::{MacAddr, VLAN_TAG};

/// Ethertype of a tag.
const TAG: [u8; 2] = [0x81, 0x00];
/// Bytes of both MAC addresses.
const ADDRESSES: usize = 2 * size_of::<MacAddr>();

/// The VLAN id in a tag control information; 0 for a tag that gives a priority alone.
#[inline]
pub const fn vlan_id(tci: u16) -> u16 {
    tci & 0x0fff
}

/// The tag control information (priority, drop eligibility, VLAN id) of a tagged frame.
#[inline]
pub fn tag_of(frame: &[u8]) -> Option<u16> {
    match frame.get(ADDRESSES..ADDRESSES + VLAN_TAG) {
        Some(&[a, b, high, low]) if [a, b] == TAG => Some(u16::from_be_bytes([high, low])),
        _ => None,
    }
}

/// Moves the MAC addresses of a tagged frame over its tag: without its first [`VLAN_TAG`] bytes it is the untagged frame.
/// Does nothing to a frame that is too short for a tag.
#[inline]
pub fn cover_tag(frame: &mut [u8]) {
    if let Some(head) = frame.first_chunk_mut::<{ ADDRESSES + VLAN_TAG }>() {
        head.copy_within(..ADDRESSES, VLAN_TAG);
    }
}

/// Makes a tagged frame of an untagged one that has [`VLAN_TAG`] bytes of room before it. Does nothing to a frame that is
/// too short for MAC addresses.
#[inline]
pub fn insert_tag(room_and_frame: &mut [u8], tci: u16) {
    if let Some(head) = room_and_frame.first_chunk_mut::<{ ADDRESSES + VLAN_TAG }>() {
        head.copy_within(VLAN_TAG.., 0);
        let [high, low] = tci.to_be_bytes();
        head[ADDRESSES..].copy_from_slice(&[TAG[0], TAG[1], high, low]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_tag_is_where_the_standard_puts_it() {
        let mut frame = vec![0; VLAN_TAG];
        frame.extend([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd, 0x60]);
        insert_tag(&mut frame, 0xe064);
        let expected = [
            2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x81, 0x00, 0xe0, 0x64, 0x86, 0xdd, 0x60,
        ];
        assert_eq!(frame, expected);
        assert_eq!(tag_of(&frame), Some(0xe064));
        assert_eq!(vlan_id(0xe064), 100);
    }

    #[test]
    fn other_ethertypes_and_short_frames_have_no_tag() {
        assert_eq!(tag_of(&[0x81; 15]), None);
        // An S-tag, which only bridges of providers use.
        let mut frame = [0; 18];
        frame[12..14].copy_from_slice(&[0x88, 0xa8]);
        assert_eq!(tag_of(&frame), None);
        assert_eq!(tag_of(&[]), None);
    }

    proptest! {
        #[test]
        fn covering_undoes_inserting(frame in proptest::collection::vec(any::<u8>(), 0..200), tci: u16) {
            let mut tagged = [&[0xee; VLAN_TAG][..], &frame].concat();
            insert_tag(&mut tagged, tci);
            if frame.len() >= ADDRESSES {
                prop_assert_eq!(tag_of(&tagged), Some(tci));
                prop_assert_eq!(&tagged[ADDRESSES + VLAN_TAG..], &frame[ADDRESSES..]);
            }
            cover_tag(&mut tagged);
            prop_assert_eq!(&tagged[VLAN_TAG..], &frame[..]);
        }
    }
}
