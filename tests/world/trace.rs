//! What happened in a world, as one number: two runs of a seed must agree on it.

use std::sync::LazyLock;
use std::time::Instant;

use crate::network::Wire;

/// Bytes of a datagram that are shown: the fixed part of a long header, connection IDs, and some of what follows.
const HEAD: usize = 50;

/// Whether everything is printed.
static PRINT: LazyLock<bool> = LazyLock::new(|| std::env::var_os("STOQ_TRACE").is_some());

/// Tells people what is of no use to the hash.
pub fn say(text: impl FnOnce() -> String) {
    if *PRINT {
        println!("               {}", text());
    }
}

pub struct Trace {
    start: Instant,
    hash: u64,
}

impl Trace {
    pub fn new(start: Instant) -> Self {
        Self {
            start,
            hash: 0xcbf2_9ce4_8422_2325,
        }
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Notes that something happened; `text` is for people.
    pub fn note(
        &mut self,
        now: Instant,
        what: &str,
        numbers: &[u64],
        text: impl FnOnce() -> String,
    ) {
        let at = now - self.start;
        self.mix(at.as_nanos() as u64);
        for &number in numbers {
            self.mix(number);
        }
        if *PRINT {
            println!("{at:>14?} {what} {}", text());
        }
    }

    /// Notes a datagram: where and how large, not its bytes, since the keys that encrypt it differ from run to run.
    pub fn wire(&mut self, now: Instant, what: &str, node: usize, wire: &Wire) {
        let size = wire.payload.len() as u64;
        let ports = u64::from(wire.from.port()) << 16 | u64::from(wire.to.port());
        let ecn = wire.ecn as u64;
        self.note(now, what, &[node as u64, size, ports, ecn], || {
            let head: String = wire
                .payload
                .iter()
                .take(HEAD)
                .map(|byte| format!("{byte:02x}"))
                .collect();
            let (from, to, ecn) = (wire.from, wire.to, wire.ecn);
            format!("{node}: {from} -> {to} {size} bytes, {ecn:?}, {head}")
        });
    }

    fn mix(&mut self, number: u64) {
        self.hash = (self.hash ^ number).wrapping_mul(0x100_0000_01b3);
        self.hash ^= self.hash >> 29;
    }
}
