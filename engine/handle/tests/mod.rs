//! The handle layer between two shards, under a virtual clock.

mod cancel;
mod connections;
mod datagrams;
mod early;
mod ends;
mod flow;
mod listeners;
mod opening;
mod pool;
mod programs;
mod rig;
mod streams;
mod tasks;
mod watched;
