//! What benchmarks share.

use std::time::Duration;

use criterion::Criterion;

/// Criterion with runs of less than a second.
pub fn short() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500))
        .configure_from_args()
}
