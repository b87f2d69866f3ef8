//! The integration tests, in one binary.

mod asynchronous;
mod cells;
mod dependencies;
mod face;
mod fuzzed;
mod items;
mod model;
mod support;
mod tidy;
mod tokens;
mod variables;
