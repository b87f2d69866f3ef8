//! Edits around what the user wrote: `prust::display(&x)` becomes the macro that shows anything,
//! and the code of `%timeit` becomes the body of a closure. What the user sees keeps their text.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::map::Edit;
use super::split::Split;

/// Functions of the `prust` crate with a macro of the same name, which also takes values that have
/// no display of their own. A function cannot choose between `Display` and `Debug`; a macro can.
const SHOWING: [&str; 3] = ["display", "display_as", "update_display"];

/// Text of ours around the cell's statements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Around {
    pub open: String,
    pub close: String,
}

impl Split {
    /// Has `prust::display(..)` and its relatives take everything that a cell can show.
    pub(super) fn show_anything(&mut self, text: &str) {
        let mut ends = Vec::new();
        if let Some(Ok(tokens)) = text.contains("display").then(|| text.parse()) {
            showing(tokens, &mut ends);
        }
        for at in ends {
            let edit = Edit { at, remove: 0, insert: "!".to_owned() };
            let item = self.items.iter_mut().find(|item| item.range.contains(&at));
            let edits = item.map_or(&mut self.edits, |item| &mut item.edits);
            edits.push(edit);
            edits.sort_by_key(|edit| edit.at);
        }
    }

    /// Has the statements run many times, timed, and leave no variable. Zero `loops` or `repeat`:
    /// chosen by the time that one run takes.
    pub fn measure(&mut self, loops: u32, repeat: u32) {
        if self.unparsed || !self.runs() {
            return;
        }
        self.declares.clear();
        self.hot = true;
        self.around = Some(Around {
            open: format!(
                "::prust_runtime::measure::timeit({loops}, {repeat}, \
                 || -> ::core::result::Result<(), ::prust_runtime::cell::CellError> {{\n"
            ),
            close: "::core::result::Result::Ok(())\n})?;\n".to_owned(),
        });
    }
}

/// Where the names of showing functions end: `prust :: display` in front of arguments.
fn showing(tokens: TokenStream, ends: &mut Vec<usize>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (index, token) in tokens.iter().enumerate() {
        let TokenTree::Group(group) = token else { continue };
        showing(group.stream(), ends);
        let Some([crate_name, colon, colon_too, name]) =
            index.checked_sub(4).and_then(|from| tokens.get(from..index))
        else {
            continue;
        };
        let is = |token: &TokenTree, word: &str| match token {
            TokenTree::Ident(ident) => ident == word,
            _ => false,
        };
        let is_colon =
            |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ':');
        let path = is(crate_name, "prust") && is_colon(colon) && is_colon(colon_too);
        let called = group.delimiter() == Delimiter::Parenthesis;
        if called && path && SHOWING.iter().any(|word| is(name, word)) {
            ends.push(name.span().byte_range().end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::map::Source;

    fn edited(text: &str) -> String {
        let split = Split::read(text);
        let mut source = Source::default();
        let items = split.items.iter().flat_map(|item| item.edits.clone());
        let mut edits: Vec<Edit> = split.edits.iter().cloned().chain(items).collect();
        edits.sort_by_key(|edit| edit.at);
        source.user_edited(text, 0..text.len(), &edits);
        source.text
    }

    #[test]
    fn calls_by_path_become_macros() {
        assert_eq!(edited("prust::display(&1)"), "prust::display!(&1)");
        assert_eq!(
            edited("for x in y { ::prust :: update_display (\"id\", &x); }"),
            "for x in y { ::prust :: update_display! (\"id\", &x); }"
        );
        assert_eq!(edited("fn f() { prust::display(&1) }"), "pub fn f() { prust::display!(&1) }");
    }

    #[test]
    fn other_names_stay() {
        let texts =
            ["use prust::display;", "display(&1)", "my::display(&1)", "\"prust::display(&1)\""];
        for text in texts {
            assert_eq!(edited(text), text);
        }
    }
}
