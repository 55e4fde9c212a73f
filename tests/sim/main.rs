//! Shards in a simulated network: a virtual clock, no device, and faults from a seed.

mod agents;
mod apps;
mod attack;
mod fairness;
mod flight;
mod hostile;
mod lifecycle;
mod listeners;
mod net;
mod observed;
mod offloads;
mod pressure;
mod services;
mod steering;
mod streams;
mod tls;
mod transfer;
