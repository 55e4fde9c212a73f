//! What some devices do when they are asked for UDP segmentation: IPv6 fragments of one datagram (UFO).

use super::headers::put_u16;
use super::kit::Kit;
use super::transmit::{Layout, fill_checksum};

/// Next-header value of a fragment header (RFC 8200 §4.5).
const FRAGMENT: u8 = 44;
/// Bytes of a fragment header.
const FRAGMENT_HEADER: usize = 8;
/// Fragments but the last are a multiple of this many bytes.
const UNIT: usize = 8;

/// Sends `frame` as fragments of at most `layout.segment` bytes, after filling the one checksum of the datagram. `id` tells
/// its fragments from those of other datagrams.
pub(super) fn fragment(
    frame: &mut [u8],
    layout: &Layout,
    checksum: bool,
    id: u32,
    kit: &mut Kit,
    mut emit: impl FnMut(Vec<u8>, &mut Kit),
) {
    let udp_len = frame.len().saturating_sub(layout.udp()) as u16;
    if checksum && fill_checksum(frame, layout.udp(), udp_len) {
        kit.stats.tx_checksums += 1;
    }
    let Some((headers, datagram)) = frame.split_at_checked(layout.udp()) else {
        return;
    };
    // The fragment header comes behind the IPv6 header: extension headers in front of it are none that this NIC knows.
    let next_header = headers.get(layout.l2 + 6).copied().unwrap_or_default();
    let size = (layout.segment / UNIT).max(1) * UNIT;
    for (index, chunk) in datagram.chunks(size).enumerate() {
        let offset = index * size;
        let more = offset + chunk.len() < datagram.len();
        let mut fragment = kit.take();
        fragment.extend_from_slice(headers);
        if let Some(byte) = fragment.get_mut(layout.l2 + 6) {
            *byte = FRAGMENT;
        }
        let payload_len = (FRAGMENT_HEADER + chunk.len()) as u16;
        put_u16(
            &mut fragment,
            layout.l2 + 4,
            payload_len.wrapping_add(layout.extensions()),
        );
        fragment.extend_from_slice(&[next_header, 0]);
        // The offset counts units of 8 bytes and stands in the upper 13 bits; so its lower 3 are free as they are.
        fragment.extend_from_slice(&(offset as u16 | u16::from(more)).to_be_bytes());
        fragment.extend_from_slice(&id.to_be_bytes());
        fragment.extend_from_slice(chunk);
        emit(fragment, kit);
    }
}
