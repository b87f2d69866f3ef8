//! What a program says of itself, in the user's terms: places in generated sources are places in
//! cells, and names of generated crates are no names.

use super::books::Books;
use super::cell::Compiler;

impl Compiler {
    /// Replaces places in generated sources by the user's cell, line and column.
    pub fn in_user_terms(&self, text: &str) -> String {
        let folder = format!("{}/", self.shared.store.src().display());
        let rewritten = text.contains(&folder).then(|| self.shared.books.rewrite(&folder, text));
        // The trail after the places: it leaves out what the line above it says.
        let text = self.with_trail(rewritten.as_deref().unwrap_or(text));
        if CRATES.iter().any(|prefix| text.contains(prefix)) {
            self.shared.books.rename(&folder, &text)
        } else {
            text
        }
    }
}

impl Books {
    /// Replaces what else of ours a program can print (`module_path!()`, the names of types): a
    /// crate is the cell that it was made from, and the paths of its names begin behind it.
    pub(super) fn rename(&self, folder: &str, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((at, length)) = crate_name(rest) {
            let (before, name, after) = (&rest[..at], &rest[at..at + length], &rest[at + length..]);
            let label = self.label(&format!("{folder}{name}.rs"));
            out.push_str(before);
            rest = after;
            match (after.strip_prefix("::"), label) {
                (Some(path), _) => {
                    rest = path.strip_prefix("prust_cell::{{closure}}::").unwrap_or(path);
                }
                // The name of some file, not of a crate.
                (None, _) if after.starts_with('.') => out.push_str(name),
                (None, Some(label)) => out.push_str(&label),
                (None, None) => out.push_str("crate"),
            }
        }
        out.push_str(rest);
        out
    }
}

/// Where the next name of a generated crate stands, and its length.
fn crate_name(text: &str) -> Option<(usize, usize)> {
    let starts = text.match_indices(['u', 'l']).map(|(at, _)| at);
    let named = starts.filter_map(|at| {
        let digits = CRATES.iter().find_map(|prefix| text[at..].strip_prefix(prefix))?;
        let count = digits.bytes().take_while(u8::is_ascii_hexdigit).count();
        (count == CRATE_DIGITS).then_some((at, text[at..].len() - digits.len() + count))
    });
    named.into_iter().next()
}

/// What names of generated crates begin with, and how many digits follow.
const CRATES: [&str; 2] = ["unit_", "leaf_"];
const CRATE_DIGITS: usize = 24;

#[cfg(test)]
mod tests {
    use super::super::books::{Entry, Page};
    use super::*;
    use crate::cell::Source;

    #[test]
    fn names_of_generated_crates_are_no_names_for_the_user() {
        let books = Books::default();
        let page = Page { label: "In[3]".into(), text: "1".into(), map: Source::default().map };
        let entry = Entry { pages: vec![page], generated: "1".into() };
        let (leaf, unit) = ("leaf_0123456789abcdef01234567", "unit_0123456789abcdef01234567");
        books.add(&format!("/store/src/{leaf}.rs"), entry);
        let shown = |text: &str| books.rename("/store/src/", text);
        assert_eq!(shown(&format!("Vec<{unit}::S>, {unit}::m::T")), "Vec<S>, m::T");
        assert_eq!(shown(&format!("{leaf}::prust_cell::{{{{closure}}}}::f")), "f");
        assert_eq!(shown(&format!("[{leaf}] [{unit}]")), "[In[3]] [crate]");
        for other in ["lib/libunit_0123456789abcdef01234567.so", "unit_test::S", "leaf_ unit_1"] {
            assert_eq!(shown(other), other);
        }
    }
}
