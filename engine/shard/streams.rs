//! Streams granted as they are used.
//!
//! quinn-proto allocates every stream that a peer may open, at once. So a connection begins with
//! [`STREAMS_AT_START`](crate::transport::STREAMS_AT_START) of each direction, and an idle one stays small. Whenever the
//! peer uses half of what it has, the grant doubles, up to the limit; it is never taken back. Use is the larger of two
//! things: streams open at a time, and streams opened within a round trip. The latter counts where streams end as soon as
//! they are read: few are open then, and still the peer waits for permission once in a round trip.
//!
//! A burst that fills the grant doubles it twice: of 1024 streams wanted at once, the last is open after three round
//! trips.

use std::time::Instant;

use quinn_proto::{Dir, StreamId, VarInt};

use crate::transport::StreamLimits;

/// What the peer of one connection may open.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Grants {
    bidi: Grant,
    uni: Grant,
}

#[derive(Debug, Clone, Copy, Default)]
struct Grant {
    limit: u32,
    /// When the present round trip began, and the first stream that was opened in it.
    round: Option<(Instant, u64)>,
}

impl Grants {
    /// Grants up to `limits`.
    pub(crate) fn new(limits: StreamLimits) -> Self {
        let grant = |limit| Grant { limit, round: None };
        Self {
            bidi: grant(limits.bidi),
            uni: grant(limits.uni),
        }
    }

    /// Grants more if it is time to, now that stream `id` of the peer was accepted.
    pub(crate) fn accepted(
        &mut self,
        quinn: &mut quinn_proto::Connection,
        id: StreamId,
        now: Instant,
    ) {
        let dir = id.dir();
        let grant = match dir {
            Dir::Bi => &mut self.bidi,
            Dir::Uni => &mut self.uni,
        };
        let granted = quinn.max_concurrent_streams(dir);
        if granted >= u64::from(grant.limit) {
            return;
        }
        let open = quinn.streams().remote_open_streams(dir);
        let opened = grant.opened_in_round(id.index(), now, quinn);
        if 2 * open.max(opened) < granted {
            return;
        }
        grant.round = None;
        // No small step at the end: quinn-proto says nothing of less than an eighth.
        let double = (granted as u32).saturating_mul(2);
        let more = match double.saturating_mul(2) > grant.limit {
            true => grant.limit,
            false => double,
        };
        quinn.set_max_concurrent_streams(dir, VarInt::from_u32(more));
    }
}

impl Grant {
    fn opened_in_round(
        &mut self,
        index: u64,
        now: Instant,
        quinn: &quinn_proto::Connection,
    ) -> u64 {
        match self.round {
            Some((start, first)) if now - start <= quinn.rtt() => index.saturating_sub(first) + 1,
            _ => {
                self.round = Some((now, index));
                1
            }
        }
    }
}
