//! What the benchmarks and comparisons share.

pub mod api;
pub mod bare;
pub mod ceiling;
pub mod child;
pub mod engine;
pub mod field;
pub mod idle;
pub mod lanes;
pub mod link;
pub mod machine;
pub mod memory;
pub mod report;
pub mod samples;
pub mod scale;
pub mod settings;
pub mod shards;
