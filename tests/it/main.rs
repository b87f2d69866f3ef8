//! The integration tests, in one binary.

mod face;
mod support;
mod tidy;
