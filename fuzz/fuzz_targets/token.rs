//! Any token into a listener, in Initial packets that are right in all else: made up, or from the server and changed.
//!
//! The input: one byte of instructions, then the token, or what is added (exclusive or) to a true one. A token that is
//! not believed costs a Retry at most; the client connects all the same.

#![no_main]

use std::collections::VecDeque;
use std::net::SocketAddrV6;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{SERVERS, address, assert_adds_up, datagram};
use libfuzzer_sys::fuzz_target;
use poll::Transport;
use quinn_proto::{ServerConfig, TokenStore};
use stoq::shard::{Shard, ShardLimits};

/// Bits of the byte of instructions.
const TRUE: u8 = 1;
const RETRY: u8 = 2;
const SHARD: u8 = 4;
/// What is sent in the client's first datagram is sent a second time, to the other shard.
const TWICE: u8 = 8;

static SERVER: LazyLock<ServerConfig> = LazyLock::new(common::server);
/// Tokens that the server gave away.
static TRUE_TOKENS: LazyLock<Vec<Bytes>> = LazyLock::new(|| {
    let store = Arc::new(Tokens::default());
    run(store.clone(), 0);
    store.came.lock().unwrap().clone()
});

/// Gives a token once, and keeps those that come.
#[derive(Default)]
struct Tokens {
    gives: Mutex<Option<Bytes>>,
    came: Mutex<Vec<Bytes>>,
}

impl TokenStore for Tokens {
    fn insert(&self, _server_name: &str, token: Bytes) {
        self.came
            .lock()
            .unwrap()
            .push(Bytes::copy_from_slice(&token));
    }

    fn take(&self, _server_name: &str) -> Option<Bytes> {
        self.gives.lock().unwrap().take()
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&instructions, material)) = input.split_first() else {
        return;
    };
    let mut token = material
        .get(..material.len().min(500))
        .unwrap_or_default()
        .to_vec();
    if instructions & TRUE != 0 {
        assert!(!TRUE_TOKENS.is_empty());
        let mut changed = TRUE_TOKENS[0].to_vec();
        for (byte, change) in changed.iter_mut().zip(&token) {
            *byte ^= change;
        }
        token = changed;
    }
    let store = Arc::new(Tokens::default());
    *store.gives.lock().unwrap() = Some(Bytes::from(token)).filter(|token| !token.is_empty());
    run(store, instructions);
});

/// A client connects; its datagrams go to one shard.
fn run(store: Arc<Tokens>, instructions: u8) {
    let mut now = Instant::now();
    let limits = ShardLimits {
        retry_above: if instructions & RETRY != 0 { 0 } else { 8 },
        connections: 8,
        incoming: 8,
        ..ShardLimits::default()
    };
    let mut config = common::client();
    config.token_store(store);
    let mut shards = common::servers(&SERVER, &limits, now);
    shards.push(common::clients(config, now));
    let at = usize::from(instructions & SHARD != 0);
    let mut buf = Vec::with_capacity(2_048);
    let mut first = true;
    for _ in 0..40 {
        let mut flights = VecDeque::new();
        for (index, shard) in shards.iter_mut().enumerate() {
            let host = usize::from(index >= SERVERS);
            shard.advance(now);
            for _ in 0..64 {
                buf.clear();
                let Some(transmit) = shard.transmit(now, &mut buf, 1) else {
                    break;
                };
                let from = SocketAddrV6::new(address(host), transmit.source_udp_port, 0, 0);
                flights.push_back((from, transmit.destination, buf.clone()));
            }
            let _ = shard.timeout();
        }
        now += Duration::from_millis(5);
        for (from, to, payload) in flights {
            let to_client = *to.ip() == address(1);
            let shard = if to_client { SERVERS } else { at };
            shards[shard].receive(now, datagram(from, to, 0, &payload));
            if !to_client && std::mem::take(&mut first) && instructions & TWICE != 0 {
                shards[1 - at].receive(now, datagram(from, to, 0, &payload));
            }
        }
    }
    assert_ended_well(&shards, instructions);
}

fn assert_ended_well(shards: &[Shard], instructions: u8) {
    for shard in shards {
        assert_adds_up(shard);
    }
    let client = shards[SERVERS].counters();
    // With two shards at it, the client may take either's answer for a violation of the protocol.
    let sure = instructions & TWICE == 0;
    assert!(!sure || client.handshakes.get() == 1, "no handshake");
}
