//! prust: what a cell writes. `Client`, views, `AsyncResult`, `Reference`, display. Compiled by the
//! user's own toolchain as the base library of all cells; it asks the kernel for everything and
//! opens no socket.
//!
//! Reading order: [`Client`] and the views, the results, then [`request`] (what is asked of the
//! kernel), [`outcome`] and [`items`] (the bytes of a call), [`codec`] (the bytes of a value). The
//! kernel's cluster client uses the last four and [`targets`] from the other side. [`plain`] is for
//! readers that do not know a value's type.

mod ask;
mod call;
mod cells;
mod client;
pub mod codec;
pub mod error;
pub mod items;
pub mod mapped;
mod numbers;
pub mod outcome;
pub mod plain;
mod reference;
pub mod request;
mod results;
mod show;
mod submission;
mod submitter;
pub mod targets;
mod views;

/// Names an engine of a cluster.
pub type EngineId = u32;

pub use call::Value;
#[doc(hidden)]
pub use call::{pull_plain, push};
pub use cells::CellReply;
pub use client::{Client, QueueStatus, ResultStatus};
pub use error::{CompositeError, Error, RemoteError, RemoteFailure, RemoteKind, Result};
#[doc(hidden)]
pub use prust_runtime::show as shown;
pub use prust_runtime::show::Display;
pub use reference::Reference;
pub use request::{Stopped, TaskMetadata};
pub use results::{AsyncMapResult, AsyncResult, Iter};
pub use show::{
    Media, clear_output, display, display_as, display_debug, engine_id, html, input, password, png,
    publish, svg, update_display,
};
pub use submission::{Moment, SUBMISSION_MIME};
pub use targets::Targets;
pub use views::{DirectView, EngineView, LoadBalancedView, Submitted};

/// The names that every cell has.
pub mod prelude {
    pub use crate::targets::EveryNth as _;
    pub use crate::{
        AsyncMapResult, AsyncResult, Client, DirectView, EngineId, EngineView, LoadBalancedView,
        Reference, RemoteError, Targets,
    };
}

/// A type as a cell can write it: `std::any::type_name` with the private paths of std replaced by
/// public ones.
pub(crate) fn type_text<T: ?Sized>() -> String {
    public_paths(std::any::type_name::<T>())
}

fn public_paths(name: &str) -> String {
    const PUBLIC: [(&str, &str); 16] = [
        ("alloc::collections::btree::map::", "std::collections::"),
        ("alloc::collections::btree::set::", "std::collections::"),
        ("alloc::collections::vec_deque::", "std::collections::"),
        ("alloc::collections::binary_heap::", "std::collections::"),
        ("alloc::collections::linked_list::", "std::collections::"),
        ("std::collections::hash::map::", "std::collections::"),
        ("std::collections::hash::set::", "std::collections::"),
        ("core::net::ip_addr::", "std::net::"),
        ("core::net::socket_addr::", "std::net::"),
        ("core::num::nonzero::", "std::num::"),
        ("core::ops::range::", "std::ops::"),
        ("std::ffi::os_str::", "std::ffi::"),
        ("alloc::ffi::c_str::", "std::ffi::"),
        ("core::sync::atomic::", "std::sync::atomic::"),
        ("alloc::", "std::"),
        ("core::", "std::"),
    ];
    let mut text = name.to_owned();
    if !name.contains("::") {
        return text;
    }
    for (private, public) in PUBLIC {
        text = replace_path(&text, private, public);
    }
    text
}

/// Replaces a leading path, and nothing inside of a longer one (`my_alloc::`).
fn replace_path(text: &str, private: &str, public: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(private) {
        let (before, found) = rest.split_at(at);
        out.push_str(before);
        let inside = out.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
        out.push_str(if inside { private } else { public });
        rest = &found[private.len()..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, HashMap, VecDeque};

    #[test]
    fn types_are_written_by_their_public_paths() {
        assert_eq!(
            type_text::<BTreeMap<u32, Vec<String>>>(),
            "std::collections::BTreeMap<u32, std::vec::Vec<std::string::String>>"
        );
        assert_eq!(
            type_text::<HashMap<u8, Option<VecDeque<f64>>>>(),
            "std::collections::HashMap<u8, std::option::Option<std::collections::VecDeque<f64>>>"
        );
        assert_eq!(replace_path("my_alloc::alloc::X", "alloc::", "std::"), "my_alloc::alloc::X");
    }
}
