//! prust-runtime: what every cell links. Slots for variables, the door to the host, snapshots, the
//! worker's main. std only, because it is built by the user's own rustc and shared by every cell;
//! it never opens a network socket and never parses a Jupyter message.
//!
//! Reading order: [`frame`] (what host and worker say to each other), [`worker`] (the loop),
//! [`slots`] (variables), [`cell`] (what a generated leaf calls), [`future`] (cells that await),
//! [`show`] (how a final expression is displayed), [`door`] (asking the host), [`call`] (functions
//! by address), [`words`] (of errors), [`panics`], [`trail`], [`last_words`], [`snapshot`],
//! [`spin`] (before sleeping), [`os`].
#![cfg_attr(prust_cells, feature(specialization))]

pub mod call;
pub mod cell;
pub mod door;
mod erased;
pub mod frame;
pub mod future;
mod inbox;
pub mod last_words;
pub mod mapping;
pub mod measure;
pub mod os;
pub mod panics;
pub mod show;
pub mod slots;
pub mod snapshot;
pub mod spin;
pub mod trail;
mod words;
pub mod worker;
