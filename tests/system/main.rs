//! The engine as a process, against the world: other QUIC stacks over TAP, other DPDK devices, and
//! bad input on the command line and in configuration files.
//!
//! One test runs at a time (`harness::Turn`), for a machine of two cores has room for one engine
//! and one peer. A test whose needs the machine does not meet says `skipped: <test>: <reason>` on
//! standard error, past libtest's capture; `make test` repeats those lines at its end.
//!
//! The engine is the one cargo built for these tests; `ENGINE_BIN` names another one.

mod harness;
mod quinn_peer;

mod aioquic_over_tap;
mod bad_input;
mod bare_metal;
mod device_trouble;
mod devices;
mod doctor;
mod emulated;
mod http3_over_tap;
mod loopback;
mod metrics;
mod peers_alone;
mod quinn_over_tap;
mod raw_over_tap;
mod selftest;
mod terminal;
mod top;
mod two_queues;
