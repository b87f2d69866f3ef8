//! The runtime of tokio's that a cell's statements run in: what makes it, and where rustc says that
//! this does not compile.

/// Stands for a variable at the line that enters a runtime; no variable can be called so.
pub(super) const RUNTIME: &str = "(runtime)";

/// A runtime of tokio's, as its features allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Runtime {
    ManyThreads,
    OneThread,
}

impl Runtime {
    /// The line that makes it, once, and enters it for good: tasks go on between cells.
    pub(super) fn line(self) -> String {
        let (builder, stacks, keep) = match self {
            Self::ManyThreads => (
                "new_multi_thread",
                ".thread_stack_size(::prust_runtime::snapshot::stack_bytes())",
                "::std::boxed::Box::new(runtime)",
            ),
            // Nobody else would run its tasks between cells.
            Self::OneThread => (
                "new_current_thread",
                "",
                "::std::boxed::Box::new(::std::thread::Builder::new()\
                 .name(\"tokio\".into())\
                 .spawn(move || runtime.block_on(::core::future::pending::<()>()))?)",
            ),
        };
        format!(
            "::prust_runtime::future::enter::<::tokio::runtime::Runtime>(|| {{\n\
             let runtime = ::tokio::runtime::Builder::{builder}().enable_all()\
             {stacks}.build()?;\n\
             ::core::mem::forget(runtime.enter());\n\
             ::core::result::Result::Ok({keep})\n}})?;\n"
        )
    }

    pub(super) fn weaker(self) -> Option<Self> {
        match self {
            Self::ManyThreads => Some(Self::OneThread),
            Self::OneThread => None,
        }
    }
}
