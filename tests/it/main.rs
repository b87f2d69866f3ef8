//! The integration tests, in one binary.

mod cells;
mod face;
mod items;
mod support;
mod tidy;
mod variables;
