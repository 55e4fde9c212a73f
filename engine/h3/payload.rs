//! Body bytes that get past h3's frames without a copy.
//!
//! h3 hands a transport its frames as `WriteBuf`: a header, then a payload that shows itself as a
//! plain slice only, even when `Bytes` are behind it. [`Payload`] therefore lends the `Bytes`
//! behind its slice to the transport, out of band: the transport leaves word on its own thread that
//! it is about to look (`Slot::Asked`), and the payload whose slice is looked at answers there.

use std::cell::Cell;

use bytes::{Buf, Bytes};

/// A piece of a body that h3 sends through this library without copying it.
///
/// Used in place of `Bytes` as h3's buffer type: `stream.send_data(Payload::from(bytes))`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload(Bytes);

impl<T: Into<Bytes>> From<T> for Payload {
    fn from(bytes: T) -> Self {
        Self(bytes.into())
    }
}

impl Buf for Payload {
    fn remaining(&self) -> usize {
        self.0.len()
    }

    fn chunk(&self) -> &[u8] {
        // A thread that is being taken down has no slot left, and nobody who asks.
        let _ = SLOT.try_with(|slot| match slot.take() {
            Slot::Asked => slot.set(Slot::Lent(self.0.clone())),
            other => slot.set(other),
        });
        &self.0
    }

    fn advance(&mut self, count: usize) {
        self.0.advance(count);
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        self.0.copy_to_bytes(length)
    }
}

/// Where a transport asks for `Bytes`, and a payload leaves them.
#[derive(Default)]
enum Slot {
    /// Nobody asks.
    #[default]
    Idle,
    /// The transport is in `chunk_of`.
    Asked,
    /// A payload was looked at since.
    Lent(Bytes),
}

thread_local! {
    static SLOT: Cell<Slot> = const { Cell::new(Slot::Idle) };
}

/// The next piece of a buffer; and the same as `Bytes`, if a `Payload` holds it.
pub(super) fn chunk_of(buffer: &impl Buf) -> (&[u8], Option<Bytes>) {
    SLOT.set(Slot::Asked);
    let chunk = buffer.chunk();
    let lent = match SLOT.take() {
        // A buffer made of several may look at a payload and show something else.
        Slot::Lent(bytes) if bytes.as_ptr() == chunk.as_ptr() && bytes.len() >= chunk.len() => {
            Some(bytes.slice(..chunk.len()))
        }
        _ => None,
    };
    (chunk, lent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_lends_its_bytes() {
        let bytes = Bytes::from(vec![7; 100]);
        let mut payload = Payload::from(bytes.clone());
        payload.advance(10);
        let (chunk, lent) = chunk_of(&payload);
        assert_eq!(chunk, &bytes[10..]);
        assert_eq!(lent.expect("lent").as_ptr(), bytes[10..].as_ptr());
    }

    #[test]
    fn pieces_of_wrapped_payloads_are_lent_as_far_as_they_show() {
        let (head, body) = (Bytes::from(vec![1; 3]), Bytes::from(vec![2; 50]));
        let mut buffer = head.chain(Payload::from(body.clone()).take(20));
        assert_eq!(chunk_of(&buffer), (&[1; 3][..], None));
        buffer.advance(3);
        let (chunk, lent) = chunk_of(&buffer);
        assert_eq!(chunk, &body[..20]);
        assert_eq!(lent.as_deref(), Some(chunk));
        assert_eq!(lent.expect("lent").as_ptr(), body.as_ptr());
    }

    #[test]
    fn what_another_payload_left_is_not_taken_for_this_one() {
        /// Shows `1`, and looks at a payload on the way.
        struct Sly(Payload, Bytes);
        impl Buf for Sly {
            fn remaining(&self) -> usize {
                self.1.remaining()
            }
            fn chunk(&self) -> &[u8] {
                let _ = self.0.chunk();
                &self.1
            }
            fn advance(&mut self, count: usize) {
                self.1.advance(count);
            }
        }
        let sly = Sly(Payload::from(vec![1, 2]), Bytes::from(vec![1, 2]));
        assert_eq!(chunk_of(&sly), (&[1, 2][..], None));
        assert_eq!(
            chunk_of(&&[3_u8][..]),
            (&[3][..], None),
            "nothing is left over"
        );
    }
}
