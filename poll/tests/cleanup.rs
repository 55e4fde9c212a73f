//! What is held when EAL is to be cleaned up keeps its memory. One process, one EAL: one test.

mod common;

use poll::offload::OffloadConfig;
use poll::{CleanupError, NicConfig, PortConfig, emulated};

/// The ports of the NICs are closed, but the model behind them goes on using its rings.
#[test]
fn an_emulation_that_is_still_held_keeps_eal() {
    let eal = common::eal();
    let pool = common::pool(&eal, 511);
    let config = PortConfig {
        mtu: 1500,
        queues: 1,
        rx_descriptors: 64,
        tx_descriptors: 64,
        pool,
        tx_pool: pool,
        rss_key: None,
        offload: OffloadConfig::default(),
    };
    let nics = [NicConfig::default(), NicConfig::default()];
    let (ends, mut emulation) =
        emulated(&eal, ["left", "right"], [&config, &config], nics).expect("two emulated NICs");
    drop(ends);
    // A ring for each direction of each of the two queue pairs.
    assert_eq!(eal.cleanup(), Err(CleanupError::Rings(4)));
    let now = emulation.clock().epoch();
    assert_eq!(emulation.step(now), 0);
}
