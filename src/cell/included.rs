//! Files that cells read: kept as they are when the cell is run, for whenever its text is compiled
//! again.

use std::ops::Range;

use proc_macro2::{TokenStream, TokenTree};
use syn::LitStr;

use super::depth;
use super::item::ItemPiece;
use super::map::Edit;
use super::namespace::{Kind, digest};
use super::split::Split;

/// The macros that read files.
pub(super) const INCLUDING: [&str; 3] = ["include", "include_str", "include_bytes"];

/// A copy of an included file.
pub struct Kept {
    pub path: String,
    /// As code, it reads nothing from beside itself.
    pub stands_alone: bool,
}

/// Whether code reads no other files.
pub fn stands_alone(code: &str) -> bool {
    fn includes(tokens: TokenStream) -> bool {
        tokens.into_iter().any(|token| match token {
            TokenTree::Group(group) => includes(group.stream()),
            TokenTree::Ident(word) => INCLUDING.iter().any(|name| word == name),
            TokenTree::Punct(_) | TokenTree::Literal(_) => false,
        })
    }
    let tokens = depth::tokens(code);
    tokens.is_some_and(|tokens| file_module(tokens.clone()).is_none() && !includes(tokens))
}

/// A module without its text, `mod name;`: a file.
fn file_module(tokens: TokenStream) -> Option<Range<usize>> {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    tokens.iter().enumerate().find_map(|(at, token)| match token {
        TokenTree::Group(group) => file_module(group.stream()),
        TokenTree::Ident(word) if word == "mod" => match tokens.get(at + 2)? {
            TokenTree::Punct(sign) if sign.as_char() == ';' => {
                Some(token.span().byte_range().start..sign.span().byte_range().end)
            }
            _ => None,
        },
        _ => None,
    })
}

impl Split {
    /// Has `include_str!("data.txt")` and its relatives look in `folder`, the notebook's, and not
    /// beside the generated source.
    /// `read` keeps what a file says now; `None` where it cannot be read. What is compiled again
    /// later finds it as it was.
    pub fn include_from(
        &mut self,
        text: &str,
        folder: &str,
        mut read: impl FnMut(&str) -> Option<Kept>,
    ) {
        let Some(tokens) = depth::tokens(text) else { return };
        let mut files = Vec::new();
        if text.contains("include") {
            included(tokens, &mut files);
        }
        let written = |path: &str| format!("\"{}\"", path.escape_default());
        let mut salt: Vec<String> = Vec::new();
        for Included { at, length, path, is_code } in files {
            let kept = read(&path);
            salt.push(kept.as_ref().map_or_else(|| path.clone(), |kept| kept.path.clone()));
            let edit = match kept.filter(|kept| !is_code || kept.stands_alone) {
                Some(kept) => Edit { at, remove: length, insert: written(&kept.path) },
                None if !path.starts_with('/') => {
                    Edit { at, remove: length, insert: written(&format!("{folder}/{path}")) }
                }
                None => continue,
            };
            match self.items.iter_mut().find(|item| item.range.contains(&at)) {
                Some(item) => {
                    item.edits.push(edit);
                    item.edits.sort_by_key(|edit| edit.at);
                }
                None => {
                    self.edits.push(edit);
                    self.edits.sort_by_key(|edit| edit.at);
                }
            }
        }
        if !salt.is_empty() {
            self.salt = digest(salt.iter().map(String::as_str));
        }
    }

    /// A module of the cell that is a file: what stands in the cell, or is included, is kept as it
    /// is now.
    pub fn file_module(&self, text: &str) -> Option<Range<usize>> {
        let is_module = |item: &&ItemPiece| item.provides.iter().any(|it| it.kind == Kind::Module);
        self.items.iter().filter(is_module).find_map(|item| {
            let found = file_module(depth::tokens(text.get(item.range.clone())?)?)?;
            Some(item.range.start + found.start..item.range.start + found.end)
        })
    }
}

/// A file that a macro reads.
struct Included {
    /// Where its path stands, and how long it is written there.
    at: usize,
    length: usize,
    path: String,
    is_code: bool,
}

fn included(tokens: TokenStream, files: &mut Vec<Included>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (index, token) in tokens.iter().enumerate() {
        let TokenTree::Group(group) = token else { continue };
        let name = match index.checked_sub(2).map(|at| &tokens[at..index]) {
            Some([TokenTree::Ident(name), TokenTree::Punct(sign)]) if sign.as_char() == '!' => {
                INCLUDING.iter().find(|known| name == **known)
            }
            _ => None,
        };
        match (group.stream().into_iter().next(), name) {
            (Some(TokenTree::Literal(path)), Some(name)) => {
                let text = path.to_string();
                if let Ok(read) = syn::parse_str::<LitStr>(&text) {
                    files.push(Included {
                        at: path.span().byte_range().start,
                        length: text.len(),
                        path: read.value(),
                        is_code: *name == "include",
                    });
                }
            }
            _ => included(group.stream(), files),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn included_files_are_kept_as_they_are_read() {
        let text = "let t = include_str!(\"a.txt\"); let u = include!(\"b.rs\"); \
                    let v = include_bytes!(\"/gone\");";
        let mut split = Split::read(text);
        let kept = |path: String| Kept { path, stands_alone: true };
        let read = |path: &str| (path != "/gone").then(|| kept(format!("/kept/{path}")));
        split.include_from(text, "/nb", read);
        let mut source = crate::cell::map::Source::default();
        source.user_edited(text, 0..text.len(), &split.edits);
        for path in ["include_str!(\"/kept/a.txt\")", "include!(\"/kept/b.rs\")", "(\"/gone\")"] {
            assert!(source.text.contains(path), "{}", source.text);
        }
        let mut other = Split::read(text);
        let beside = |path: &str| Kept { path: format!("/other/{path}"), stands_alone: false };
        other.include_from(text, "/nb", |path| Some(beside(path)));
        assert_ne!(split.salt, other.salt);
        let mut source = crate::cell::map::Source::default();
        source.user_edited(text, 0..text.len(), &other.edits);
        assert!(source.text.contains("include!(\"/nb/b.rs\")"), "{}", source.text);
        assert!(stands_alone("mod m { fn f() {} }"));
        for text in ["mod m;", "fn f() { include!(\"c.rs\") }", "fn f( {"] {
            assert!(!stands_alone(text), "{text}");
        }
    }

    #[test]
    fn a_module_that_is_a_file_is_found() {
        let text = "fn f() {}\nmod a { pub mod b; }";
        let found = Split::read(text).file_module(text).expect("there is one");
        assert_eq!(&text[found], "mod b;");
        for text in ["mod a { fn f() {} }", "macro_rules! m { () => { mod a; } }", "let modx = 1;"]
        {
            assert_eq!(Split::read(text).file_module(text), None, "{text}");
        }
    }
}
