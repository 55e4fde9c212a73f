//! What bindgen wrote. DPDK's own names, undocumented here: see <https://doc.dpdk.org/api/>.
#![allow(
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    missing_docs,
    unnecessary_transmutes,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    clippy::missing_safety_doc,
    reason = "generated from C headers, whose names and contracts are DPDK's"
)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
