//! From cell text to what is compiled, and back from rustc's words to the user's. Pure: text in,
//! text out; no files, no processes, no clock.
//!
//! [`split`] cuts a cell into items, imports, statements and the final expression; [`expand`] plays
//! the macros that make items; [`mentions`]
//! lists the names a piece uses; [`items`] decides which definition is in force and which crate it
//! stands in; [`plan`] writes the unit and the leaf around the user's text with
//! a [`map::Map`] of where each byte came from; [`mir`] reads the variables' types from the
//! compiler's MIR, [`keep`] boxes what has no writable type, [`facade`] writes types by their own
//! crates; [`diagnostic`] carries rustc's errors
//! back to the user's cell, line and column, with what [`borrowed`] says of borrows and
//! [`brackets`] of brackets that do not match; [`namespace`] is what persists.

mod advice;
mod assigned;
mod bare;
mod borrowed;
pub mod brackets;
pub mod calls;
mod configured;
pub mod depth;
pub mod diagnostic;
mod everyday;
pub mod expand;
pub mod facade;
mod generated;
mod generic;
pub mod impls;
pub mod included;
pub mod item;
pub mod items;
pub mod jumps;
pub mod keep;
mod keeper;
pub mod made;
pub mod map;
pub mod mentions;
pub mod mir;
pub mod namespace;
pub mod place;
pub mod plan;
pub mod publish;
mod rules;
pub mod rustc_json;
mod shared_macros;
pub mod similar;
pub mod split;
mod suggestion;
mod wrapped;

pub use diagnostic::Diagnostic;
pub use generated::function_name;
pub use items::{Items, Unit};
pub use map::{Map, Origin, Source};
pub use namespace::{CrateSet, Delta, Import, Namespace, Variable};
pub use split::Split;
