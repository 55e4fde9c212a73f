//! Handles of a real engine, over the in-process link: what the tests within the crate cannot see, because it takes
//! threads, devices or another program's runtime. No root, no huge pages.
//!
//! A process can have one engine. Tests that only use one share it; those that stop theirs, or start it with something
//! of their own, run as processes of their own.

mod io;
mod lives;
mod misuse;
mod program;
mod shared;
mod threads;
