//! The whole engine above the driver, in worlds that a seed decides: several shards on each side, a network that loses,
//! doubles, changes, delays and misplaces, workers that stall, strangers, and applications that check every byte.
//!
//! `cargo test --test world` lives through three thousand of them. What a failing seed prints replays it:
//!
//! ```text
//! STOQ_SEED=17 cargo test --test world -- --nocapture             one world
//! STOQ_SEED=17 STOQ_TRACE=1 cargo test --test world -- --nocapture        …with everything that happens in it
//! STOQ_SEED=17 RUST_LOG=quinn_proto=trace cargo test …                      …with what QUIC says about it
//! STOQ_FROM=5000 STOQ_SEEDS=20000 cargo test --release --test world -- --nocapture    20,000 worlds from seed 5000
//! ```
//!
//! A world repeats to the nanosecond and the byte count of each datagram. What does not repeat is what is in them: TLS
//! makes its own keys, so ciphertext differs. Handshakes have the same size all the same, since the certificate's
//! signature is of fixed length (Ed25519) and what quinn-proto varies for its own sake is padded away.

mod buffers;
mod checks;
mod client;
#[path = "../sim/flight.rs"]
mod flight;
mod genesis;
mod ledger;
mod network;
mod pattern;
mod random;
mod scenario;
mod server;
mod strangers;
mod streams;
mod trace;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use checks::{Tally, live};

/// Worlds of an ordinary test run.
const SEEDS: u64 = 3_000;
/// How often a long run says how far it is.
const PROGRESS: Duration = Duration::from_secs(10);

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{variable} is no number: {value:?}")),
    )
}

#[test]
fn all_seeds_live_well() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .without_time();
    let _ = logs.try_init();
    let one = number("STOQ_SEED");
    let first = one.or(number("STOQ_FROM")).unwrap_or(0);
    let count = one.map_or(number("STOQ_SEEDS").unwrap_or(SEEDS), |_| 1);
    let next = AtomicU64::new(first);
    let failed = Mutex::new(Vec::new());
    let total = Mutex::new((0, Tally::default(), Instant::now()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                break;
            }
            let (violations, tally) = try_live(seed);
            if !violations.is_empty() {
                report(seed, &violations);
                failed.lock().unwrap().push(seed);
            }
            let mut total = total.lock().unwrap();
            total.0 += 1;
            total.1 += tally;
            if total.2.elapsed() > PROGRESS {
                total.2 = Instant::now();
                println!("{} of {count} worlds", total.0);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let (lived, tally, _) = *total.lock().unwrap();
    println!("{lived} worlds: {tally:?}");
    let mut failed = failed.into_inner().unwrap();
    failed.sort_unstable();
    assert!(
        failed.is_empty(),
        "{} of {count} seeds fail: {failed:?}",
        failed.len()
    );
}

/// Lives through a world; a panic is a violation like others.
fn try_live(seed: u64) -> (Vec<String>, Tally) {
    match catch_unwind(AssertUnwindSafe(|| live(seed))) {
        Ok(outcome) => (outcome.violations, outcome.tally),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let text = format!("panicked: {}", text.unwrap_or("without a word"));
            (vec![text], Tally::default())
        }
    }
}

fn report(seed: u64, violations: &[String]) {
    let mut text = format!("seed {seed}:\n");
    for violation in violations.iter().take(10) {
        text += &format!("  {violation}\n");
    }
    if violations.len() > 10 {
        text += &format!("  … {} in all\n", violations.len());
    }
    println!("{text}  STOQ_SEED={seed} cargo test --test world -- --nocapture");
}

#[test]
fn a_seed_repeats() {
    for seed in 1_000_000..1_000_050 {
        let (first, second) = (live(seed), live(seed));
        assert_eq!(first.took, second.took, "seed {seed}");
        assert_eq!(first.trace, second.trace, "seed {seed}");
    }
}
