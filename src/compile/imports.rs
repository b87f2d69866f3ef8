//! Imports of earlier cells that lead nowhere any more: what they named was defined anew without
//! it. They are in force no more; who was written with them goes on with what they gave.

use std::collections::BTreeSet;

use crate::cell::Namespace;
use crate::cell::diagnostic::{self, Diagnostic, Severity};
use crate::cell::namespace::Import;
use crate::cell::rustc_json::Message;

/// The paths that rustc cannot follow, and how it says so.
pub(super) fn unresolved<'a>(
    messages: impl IntoIterator<Item = &'a Message>,
) -> Vec<(String, String)> {
    let is_one = |message: &&Message| {
        let code = message.code.as_ref().map(|code| code.code.as_str());
        message.level == "error" && code == Some("E0432")
    };
    let mut paths = Vec::new();
    for message in messages.into_iter().filter(is_one) {
        // What stands between two backticks is a path.
        let parts = message.message.split('`').enumerate();
        let named = parts.filter(|(at, _)| at % 2 == 1);
        paths.extend(named.map(|(_, path)| (path.to_owned(), diagnostic::title(message))));
    }
    paths
}

/// The keys of the session's imports of which rustc cannot follow the path.
pub(super) fn lost<'a>(
    namespace: &Namespace,
    messages: impl IntoIterator<Item = &'a Message>,
) -> BTreeSet<String> {
    let paths = unresolved(messages);
    let is_lost = |import: &&Import| paths.iter().any(|(path, _)| import.leads_by(path));
    namespace.imports.iter().filter(is_lost).map(|import| import.key.clone()).collect()
}

/// Says that imports are in force no more.
pub(super) fn told(namespace: &Namespace, lost: &BTreeSet<String>) -> Vec<Diagnostic> {
    let gone = namespace.imports.iter().filter(|import| lost.contains(&import.key));
    let told = gone.map(|import| {
        let message = format!("`{}` leads nowhere now, and is in force no more", import.text);
        let help = "what was written with it goes on with what it gave";
        diagnostic::own(Severity::Warning, "lost_import", message, help, None)
    });
    told.collect()
}
