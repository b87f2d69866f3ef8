//! What every cell knows without defining it: keywords, the prelude, common types and their
//! methods, the names of prust itself. Data for completion and inspection; not complete, and never
//! consulted for anything else.

/// A name everybody may use.
pub(super) struct Word {
    pub(super) name: &'static str,
    /// `keyword`, `struct`, `enum`, `trait`, `function`, `macro`.
    pub(super) kind: &'static str,
    pub(super) about: &'static str,
    /// Separated by spaces; empty for what has none.
    pub(super) methods: &'static str,
}

const fn word(
    name: &'static str,
    kind: &'static str,
    about: &'static str,
    methods: &'static str,
) -> Word {
    Word { name, kind, about, methods }
}

pub(super) const KEYWORDS: &[&str] = &[
    "as", "async", "await", "break", "const", "continue", "crate", "dyn", "else", "enum", "extern",
    "false", "fn", "for", "if", "impl", "in", "let", "loop", "match", "mod", "move", "mut", "pub",
    "ref", "return", "self", "static", "struct", "super", "trait", "true", "type", "union",
    "unsafe", "use", "where", "while",
];

pub(super) const WORDS: &[Word] = &[
    word(
        "Vec",
        "struct",
        "A growable array. `Vec::new()`, `vec![1, 2]`.",
        "append as_slice binary_search capacity chunks clear clone concat contains dedup drain \
         extend first get insert into_iter is_empty iter iter_mut join last len pop push remove \
         resize retain reverse sort sort_by sort_by_key sort_unstable split_at swap swap_remove \
         truncate windows with_capacity",
    ),
    word(
        "String",
        "struct",
        "A growable UTF-8 text. `String::new()`, `\"a\".to_string()`.",
        "as_bytes as_str bytes chars clear clone contains ends_with find into_bytes is_empty len \
         lines parse pop push push_str replace split split_whitespace starts_with to_lowercase \
         to_uppercase trim truncate",
    ),
    word(
        "str",
        "struct",
        "A borrowed UTF-8 text, mostly as `&str`.",
        "as_bytes bytes chars contains ends_with find is_empty len lines parse replace split \
         split_once split_whitespace starts_with strip_prefix strip_suffix to_lowercase to_owned \
         to_string to_uppercase trim trim_end trim_start",
    ),
    word(
        "Option",
        "enum",
        "A value or none: `Some(x)`, `None`.",
        "and_then as_deref as_mut as_ref cloned copied expect filter flatten get_or_insert_with \
         insert is_none is_some is_some_and map map_or map_or_else ok_or ok_or_else or or_else \
         replace take unwrap unwrap_or unwrap_or_default unwrap_or_else zip",
    ),
    word(
        "Result",
        "enum",
        "Success or failure: `Ok(x)`, `Err(e)`; `?` passes the error on.",
        "and_then as_mut as_ref err expect expect_err inspect_err is_err is_ok map map_err map_or \
         ok or_else unwrap unwrap_err unwrap_or unwrap_or_default unwrap_or_else",
    ),
    word(
        "HashMap",
        "struct",
        "A table by key, `use std::collections::HashMap;`.",
        "clear clone contains_key drain entry extend get get_mut get_or_insert_with insert \
         into_iter into_keys into_values is_empty iter iter_mut keys len remove retain values \
         values_mut",
    ),
    word(
        "BTreeMap",
        "struct",
        "A table ordered by key, `use std::collections::BTreeMap;`.",
        "clear clone contains_key entry extend first_key_value get get_mut insert into_iter \
         is_empty iter iter_mut keys last_key_value len pop_first pop_last range remove retain \
         values values_mut",
    ),
    word(
        "HashSet",
        "struct",
        "A set, `use std::collections::HashSet;`.",
        "clear clone contains difference extend insert intersection is_empty is_subset iter len \
         remove retain symmetric_difference union",
    ),
    word(
        "VecDeque",
        "struct",
        "A queue with two ends, `use std::collections::VecDeque;`.",
        "back clear contains extend front get is_empty iter len pop_back pop_front push_back \
         push_front",
    ),
    word("Box", "struct", "A value on the heap: `Box::new(x)`.", "as_mut as_ref clone"),
    word("Rc", "struct", "Shared ownership in one thread, `use std::rc::Rc;`.", "clone"),
    word("Arc", "struct", "Shared ownership across threads, `use std::sync::Arc;`.", "clone"),
    word("Mutex", "struct", "A lock, `use std::sync::Mutex;`.", "get_mut into_inner lock try_lock"),
    word(
        "Duration",
        "struct",
        "A span of time, `use std::time::Duration;`.",
        "as_micros as_millis as_nanos as_secs as_secs_f64 checked_add checked_sub is_zero",
    ),
    word(
        "Instant",
        "struct",
        "A moment of the monotonic clock, `use std::time::Instant;`.",
        "checked_add checked_duration_since duration_since elapsed",
    ),
    word(
        "Iterator",
        "trait",
        "A sequence of values, one after another.",
        "all any chain cloned collect copied count cycle enumerate filter filter_map find \
         find_map flat_map fold for_each inspect last map max max_by max_by_key min min_by \
         min_by_key next nth partition peekable position product rev scan skip skip_while \
         step_by sum take take_while zip",
    ),
    word("Clone", "trait", "Values that can be duplicated: `clone()`.", ""),
    word("Copy", "trait", "Values that are duplicated by assignment.", ""),
    word("Debug", "trait", "Values that `{:?}` can print; `#[derive(Debug)]`.", ""),
    word("Default", "trait", "Types with a default value.", ""),
    word("Some", "function", "The value of an `Option`.", ""),
    word("None", "function", "No value of an `Option`.", ""),
    word("Ok", "function", "The success of a `Result`.", ""),
    word("Err", "function", "The failure of a `Result`.", ""),
    word("println!", "macro", "Prints a line to the cell's output.", ""),
    word("print!", "macro", "Prints to the cell's output.", ""),
    word("eprintln!", "macro", "Prints a line to the cell's error output.", ""),
    word("format!", "macro", "Makes a `String` of a format.", ""),
    word("vec!", "macro", "Makes a `Vec`.", ""),
    word("assert!", "macro", "Panics unless a condition holds.", ""),
    word("assert_eq!", "macro", "Panics unless two values are equal.", ""),
    word("panic!", "macro", "Ends the cell with an error.", ""),
    word("dbg!", "macro", "Prints an expression and its value, and gives the value.", ""),
    word("write!", "macro", "Writes formatted text.", ""),
    word("matches!", "macro", "Whether a value matches a pattern.", ""),
    word(
        "Client",
        "struct",
        "The engines as a value: `Client::connect()?`.",
        "abort broadcast_view clear db_query direct_view engine get_result history ids interrupt \
         len load_balanced_view metadata outstanding purge_results queue_status restart resubmit \
         result_status shutdown wait wait_for_engines",
    ),
    word(
        "DirectView",
        "struct",
        "Certain engines: every call goes to all of them.",
        "apply apply_with execute gather label map map_with pull push run scatter timeout",
    ),
    word(
        "LoadBalancedView",
        "struct",
        "The pool: each task goes to a free engine.",
        "after apply apply_with chunksize execute follow imap label map map_with retries targets \
         time_limit timeout unordered",
    ),
    word(
        "AsyncResult",
        "struct",
        "One task that runs elsewhere; `get()` waits for its value.",
        "abort cancel data display_outputs elapsed engine_ids get get_timeout metadata msg_ids \
         progress ready results retry serial_time split stderr stdout stream_output successful \
         timedelta wait wait_interactive wait_timeout wall_time",
    ),
    word(
        "AsyncMapResult",
        "struct",
        "Many tasks, one value per item or engine; `get()` waits for all of them.",
        "abort cancel data display_outputs elapsed engine_ids get get_dict get_timeout iter len \
         metadata msg_ids progress ready results retry serial_time speedup split stderr stdout \
         stream_output successful timedelta wait wait_first_error wait_interactive wait_timeout \
         wall_time",
    ),
    word(
        "Reference",
        "struct",
        "A variable of the engine, by name: `Reference::<T>::new(\"x\")`.",
        "",
    ),
    word("RemoteError", "struct", "What went wrong in a task.", ""),
    word("CompositeError", "struct", "What went wrong in several tasks.", ""),
];

pub(super) fn find(name: &str) -> Option<&'static Word> {
    let bare = name.trim_end_matches('!');
    WORDS.iter().find(|word| word.name.trim_end_matches('!') == bare)
}

/// The methods of a value whose type is written `type_text`, and of what it dereferences to.
pub(super) fn methods(type_text: &str) -> impl Iterator<Item = &'static str> {
    let bare = type_text.trim_start_matches(['&', '*']).trim_start_matches("mut ").trim();
    let is_slice = bare.starts_with('[');
    let end = bare.find(['<', '[']).unwrap_or(bare.len());
    let name = bare[..end].rsplit("::").next().unwrap_or_default().trim();
    let name = if is_slice { "Vec" } else { name };
    let word = WORDS.iter().find(|word| word.name == name && !word.methods.is_empty());
    word.map_or("", |word| word.methods).split_whitespace()
}
