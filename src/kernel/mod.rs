//! The kernel: its Jupyter face, and what runs cells behind it. Never runs the user's code in this
//! process.
//!
//! Two halves that share nothing and talk over one pair of channels:
//!
//! ```text
//!  frontends ── sockets ── face (this loop: pure `Face::handle`)
//!                             │ Work ──►          ◄── Report
//!                          executor (worker, compiler, cluster, panels)
//! ```
//!
//! The face knows messages, counters, queues and the order of things; the executor knows Rust and
//! engines. `Work` and `Report` (in `seam`) are everything either of them may say.
mod arguments;
mod comm;
mod complete;
pub mod doctor;
mod executor;
mod face;
mod inspect;
pub mod install;
pub mod magics;
mod outbox;
mod outputs;
mod panel;
mod requests;
mod scan;
mod seam;
mod serve;
mod session;
mod stdin;
mod words;

pub use arguments::run;
pub use scan::is_complete;
pub use seam::{Answer, Item, Names, Outcome, Report, Run, RunId, Variable, Work};
pub use serve::{Bound, KernelError, Settings, bind, serve};
