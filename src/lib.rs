//! prust: a Jupyter kernel that computes Rust cells on many engines at once. The rooms, in reading
//! order.
#![doc = include_str!("ARCHITECTURE.md")]

pub mod cell;
pub mod client;
pub mod compile;
pub mod controller;
pub mod engine;
pub mod kernel;
pub mod pool;
pub mod process;
pub mod store;
pub mod supervisor;
pub mod wire;
pub mod worker;
