//! Random operations on received and to-be-sent buffers, against a model: content is always right,
//! and at the end every mbuf is back. Seeded: a failure repeats.

mod common;

use std::sync::mpsc;
use std::thread;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use common::pool;
use hugepages::{Mbuf, Mempool, PacketAlloc, into_bytes_mut};

#[global_allocator]
static ALLOCATOR: PacketAlloc = PacketAlloc;

const SEEDS: u64 = 40;
const STEPS: usize = 2_000;
/// Owners alive at a time. The pool is smaller, so that it runs empty now and then.
const OWNERS_MAX: usize = 100;

/// xorshift64*: enough to choose operations.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// In `0..=max`.
    fn up_to(&mut self, max: usize) -> usize {
        (self.next() >> 11) as usize % (max + 1)
    }
}

/// Whatever can own a packet buffer.
enum Owner {
    Mutable(BytesMut),
    Frozen(Bytes),
    Vector(Vec<u8>),
    Packet(Mbuf),
}

impl Owner {
    fn content(&self) -> &[u8] {
        match self {
            Self::Mutable(bytes) => bytes,
            Self::Frozen(bytes) => bytes,
            Self::Vector(vec) => vec,
            Self::Packet(mbuf) => mbuf.data(),
        }
    }
}

/// An owner, and what it should hold.
type Checked = (Owner, Vec<u8>);

fn receive(random: &mut Random, pool: Mempool) -> Option<Checked> {
    let mut mbuf = Mbuf::alloc(pool)?;
    let len = random.up_to(2000);
    let fill = random.next() as u8;
    for (index, byte) in mbuf.append(len).expect("fits").iter_mut().enumerate() {
        *byte = fill.wrapping_add(index as u8);
    }
    let start = random.up_to(len);
    let end = start + random.up_to(len - start);
    let model = mbuf.data()[start..end].to_vec();
    let bytes = into_bytes_mut(mbuf, start..end).expect("installed");
    Some((Owner::Mutable(bytes), model))
}

/// Does something to an owner, and the same to its model; it may become several owners, or none.
fn step(random: &mut Random, (owner, mut model): Checked) -> Vec<Checked> {
    let choice = random.up_to(9);
    let at = random.up_to(model.len());
    let grow = random.up_to(3000);
    let changed = match (owner, choice) {
        (_, 0) => return Vec::new(),
        (Owner::Mutable(mut bytes), 1) => {
            bytes.reserve(grow);
            bytes.put_bytes(0x5a, grow);
            model.resize(model.len() + grow, 0x5a);
            Owner::Mutable(bytes)
        }
        (Owner::Mutable(mut bytes), 2) => {
            bytes.advance(at);
            model.drain(..at);
            Owner::Mutable(bytes)
        }
        (Owner::Mutable(mut bytes), 3) => {
            let tail = bytes.split_off(at);
            let tail_model = model.split_off(at);
            return vec![
                (Owner::Mutable(bytes), model),
                (Owner::Mutable(tail), tail_model),
            ];
        }
        (Owner::Mutable(mut bytes), 4) => {
            let mut head = bytes.split_to(at);
            head.unsplit(bytes);
            Owner::Mutable(head)
        }
        (Owner::Mutable(mut bytes), 5) => {
            bytes.iter_mut().for_each(|byte| *byte = !*byte);
            model.iter_mut().for_each(|byte| *byte = !*byte);
            Owner::Mutable(bytes)
        }
        (Owner::Mutable(bytes), 6) => Owner::Vector(Vec::from(bytes)),
        (Owner::Mutable(bytes), _) => Owner::Frozen(bytes.freeze()),
        (Owner::Frozen(bytes), 1 | 2) => {
            let clone = bytes.clone();
            return vec![
                (Owner::Frozen(bytes), model.clone()),
                (Owner::Frozen(clone), model),
            ];
        }
        (Owner::Frozen(bytes), 3 | 4) => {
            let (head, tail) = (bytes.slice(..at), bytes.slice(at..));
            let tail_model = model.split_off(at);
            return vec![
                (Owner::Frozen(head), model),
                (Owner::Frozen(tail), tail_model),
            ];
        }
        (Owner::Frozen(bytes), 5 | 6) => match bytes.try_into_mut() {
            Ok(bytes) => Owner::Mutable(bytes),
            Err(bytes) => Owner::Frozen(bytes),
        },
        (Owner::Frozen(bytes), 7) => Owner::Vector(Vec::from(bytes)),
        (Owner::Frozen(bytes), _) => Owner::Mutable(BytesMut::from(bytes)),
        (Owner::Vector(mut vec), 1 | 2) => {
            vec.resize(vec.len() + grow, 0x33);
            model.resize(model.len() + grow, 0x33);
            Owner::Vector(vec)
        }
        (Owner::Vector(mut vec), 3) => {
            vec.truncate(at);
            vec.shrink_to_fit();
            model.truncate(at);
            Owner::Vector(vec)
        }
        (Owner::Vector(vec), 4 | 5) => Owner::Frozen(Bytes::from(vec)),
        (Owner::Vector(vec), _) => match Mbuf::from_vec(vec) {
            Ok(mbuf) => Owner::Packet(mbuf),
            Err(vec) => Owner::Vector(vec),
        },
        (Owner::Packet(mbuf), 1..=4) => {
            let len = mbuf.len();
            Owner::Mutable(into_bytes_mut(mbuf, 0..len).expect("installed"))
        }
        (Owner::Packet(mut mbuf), 5 | 6) if grow <= mbuf.headroom() => {
            mbuf.prepend(grow).expect("headroom").fill(0x77);
            model.splice(..0, std::iter::repeat_n(0x77, grow));
            Owner::Packet(mbuf)
        }
        (Owner::Packet(mbuf), _) => {
            model.clear();
            Owner::Vector(mbuf.into_vec().expect("installed"))
        }
    };
    vec![(changed, model)]
}

#[test]
fn content_matches_a_model_and_every_mbuf_comes_back() {
    let pool = pool(63);
    // Every now and then an owner is sent here to be changed further, checked and dropped.
    let (sender, receiver) = mpsc::channel::<(u64, Checked)>();
    let other = thread::spawn(move || {
        for (seed, checked) in receiver {
            let mut random = Random(seed | 1);
            for (owner, model) in step(&mut random, checked) {
                assert_eq!(owner.content(), model);
            }
        }
    });

    let mut most_in_use = 0;
    for seed in 1..=SEEDS {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut owners: Vec<Checked> = Vec::new();
        for number in 0..STEPS {
            match random.up_to(9) {
                0..=3 if owners.len() < OWNERS_MAX => owners.extend(receive(&mut random, pool)),
                4 if owners.len() < OWNERS_MAX => {
                    let vec = Mbuf::alloc(pool).map(|mbuf| mbuf.into_vec().expect("installed"));
                    owners.extend(vec.map(|vec| (Owner::Vector(vec), Vec::new())));
                }
                _ if owners.is_empty() => {}
                choice => {
                    let chosen = random.up_to(owners.len() - 1);
                    let owner = owners.swap_remove(chosen);
                    if choice == 5 {
                        sender
                            .send((random.next(), owner))
                            .expect("the other thread lives");
                    } else {
                        owners.extend(step(&mut random, owner));
                    }
                }
            }
            if let Some((owner, model)) = owners.last() {
                assert_eq!(owner.content(), model, "seed {seed}, step {number}");
            }
            most_in_use = most_in_use.max(pool.in_use());
        }
        for (owner, model) in &owners {
            assert_eq!(owner.content(), model, "seed {seed}, at the end");
        }
    }
    drop(sender);
    other.join().expect("content matched on the other thread");
    assert_eq!(pool.in_use(), 0);
    assert!(
        most_in_use > 20,
        "the test hardly used the pool: {most_in_use}"
    );
}
