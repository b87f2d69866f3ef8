//! What the integration tests share. Never a test itself.
pub mod frontend;
pub mod notebook;
