//! Python's pickles as inert data: what a Python client sends with a call, and what it is answered.
//! A pickle is a program; here it only ever makes a [`Value`]. Nothing is imported, called or
//! looked up: a class stays a name, an object what it would have been made from.
//!
//! Reads protocols 0 to 5, as far as data needs them, under the limits of [`read`](read()).
//! Writes protocol 4, which every Python 3 reads.
mod nodes;
mod op;
mod read;
mod value;
mod write;

#[cfg(test)]
mod tests;

pub use read::{
    COPIED_BYTES_MAX, COPIED_ITEMS_MAX, DEPTH_MAX, Limits, ReadError, VALUES_MAX, read, read_within,
};
pub use value::{Global, Made, Object, Value};
pub use write::write;
