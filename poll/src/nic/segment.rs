//! UDP segmentation (USO): one large datagram becomes several that a receiver cannot tell from such as were sent one by
//! one.

use super::headers::put_u16;
use super::kit::Kit;
use super::transmit::{Layout, fill_checksum};

/// Cuts the payload of `frame` into datagrams of `layout.segment` bytes, the last of which may be shorter. Each gets a copy
/// of the headers with its own lengths.
///
/// The checksum field holds the sum of the pseudo-header without the length (`rte_ipv6_phdr_cksum` with a segmentation
/// flag), which differs from segment to segment and is added here. With `checksum` not set the field stays as it is.
pub(super) fn segment(
    frame: &[u8],
    layout: &Layout,
    checksum: bool,
    kit: &mut Kit,
    mut emit: impl FnMut(Vec<u8>, &mut Kit),
) {
    let Some((headers, payload)) = frame.split_at_checked(layout.headers()) else {
        return;
    };
    for chunk in payload.chunks(layout.segment) {
        let mut segment = kit.take();
        segment.extend_from_slice(headers);
        segment.extend_from_slice(chunk);
        let udp_len = (layout.l4 + chunk.len()) as u16;
        put_u16(
            &mut segment,
            layout.l2 + 4,
            udp_len.wrapping_add(layout.extensions()),
        );
        put_u16(&mut segment, layout.udp() + 4, udp_len);
        if checksum && fill_checksum(&mut segment, layout.udp(), udp_len) {
            kit.stats.tx_checksums += 1;
        }
        emit(segment, kit);
    }
}
