//! Calls of the session's macros that make items: `make_point!(P);`. They are expanded when their
//! cell is run, so that what they make are items like others: with names, a crate, an identity that
//! their text decides; defining the macro anew changes nothing of them. Of a crate's macro, a call
//! around a type is taken for one item.

use std::cell::Cell;
use std::ops::Range;

use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};
use quote::ToTokens;
use syn::parse::Parser;
use syn::spanned::Spanned;

use super::item::{self, ItemPiece, Role};
use super::items::Items;
use super::made::Made;
use super::map::Edit;
use super::mentions::mentions;
use super::namespace::{Kind, Provided};
use super::rules::{Rule, listed, read_rules};
use super::split::{self, Split};

/// How deep macros may call each other; as rustc has it.
const DEPTH_MAX: usize = 64;
/// More is left to rustc, which can be interrupted: how many calls are played for a cell, how long
/// one is, and how much it makes.
const CALLS_MAX: usize = 4096;
const CALL_BYTES_MAX: usize = 1 << 14;
const BYTES_MAX: usize = 1 << 20;

/// The items that calls made.
#[derive(Debug)]
pub struct Expanded {
    /// What they stand in: the cell's text, and theirs.
    pub text: String,
    /// Calls that make items beside other things, which stay in the cell, and their macros.
    pub mixed: Vec<(Range<usize>, String)>,
}

/// Makes items of the calls in a cell that make nothing else.
pub fn expand(items: &Items, text: &str, split: &mut Split) -> Expanded {
    let macros = Macros { items, text, split, n_left: Cell::new(CALLS_MAX) };
    let mut mixed = Vec::new();
    let mut full = format!("{text}\n");
    // Where an item begins is counted from the beginning of the cell.
    let mut padded = " ".repeat(full.len());
    let (mut made, mut wrapped, mut value) = (Vec::new(), Vec::new(), None);
    let mut declares: Vec<(String, bool)> = Vec::new();
    let mut notes = Vec::new();
    for range in split.statements.iter().chain(&split.value) {
        let said = text.get(range.clone()).unwrap_or_default().trim_end().trim_end_matches(';');
        if said.len() > CALL_BYTES_MAX {
            continue;
        }
        let Ok(call) = syn::parse_str::<syn::Macro>(said) else { continue };
        declares.extend(macros.declared(&call, 0));
        match macros.items_of(&call, 0) {
            Some(texts) if !texts.is_empty() => {
                let of_call = call.path.span();
                for tokens in texts {
                    let line = tokens.to_string();
                    let call = range.start..range.start + said.len();
                    notes.push(Made::new(&tokens, &line, full.len(), of_call, call));
                    full.extend([line.as_str(), "\n"]);
                    padded.extend([line.as_str(), "\n"]);
                }
                made.push(range.clone());
            }
            _ if macros.makes_items(&call) => {
                mixed.push((range.clone(), call.path.to_token_stream().to_string()));
            }
            _ if split.tail.as_ref() == Some(range) && macros.gives_value(&call) => {
                value = Some(range.clone());
            }
            _ if macros.knows(&call) => (),
            _ if wrapping(&call, range.clone()).is_none() => (),
            _ => {
                // Its places are counted from the beginning of the cell, too.
                let padded = format!("{}{said}", " ".repeat(range.start));
                let call = syn::parse_str(&padded).expect("it was parsed above");
                wrapped.extend(wrapping(&call, range.clone()));
            }
        }
    }
    for (name, mutable) in declares {
        if split.declares.iter().all(|(known, _)| *known != name) {
            split.declares.push((name, mutable));
        }
    }
    if let Some(range) = value {
        split.statements.retain(|statement| *statement != range);
        split.value = Some(range);
    }
    made.extend(wrapped.iter().map(|piece| piece.range.clone()));
    if made.is_empty() {
        return Expanded { text: text.to_owned(), mixed };
    }
    split.statements.retain(|range| !made.contains(range));
    split.value = split.value.take().filter(|range| !made.contains(range));
    split.items.extend(wrapped);
    split.made = notes;
    split.items.extend(Split::read(&padded).items);
    Expanded { text: full, mixed }
}

/// A call of a crate's macro around a type, as `bitflags! { struct Flags: u8 { .. } }`: it makes a
/// type of this name, with what belongs to it.
fn wrapping(call: &syn::Macro, range: Range<usize>) -> Option<ItemPiece> {
    let tokens = listed(&call.tokens);
    if !matches!(call.delimiter, syn::MacroDelimiter::Brace(_)) {
        return None;
    }
    let word = |at: usize| match tokens.get(at) {
        Some(TokenTree::Ident(word)) => word.to_string(),
        _ => String::new(),
    };
    let is_type = |at: usize| ["struct", "enum", "union"].contains(&word(at).as_str());
    let is_before = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() != Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == '#',
        TokenTree::Ident(word) => word == "pub",
        TokenTree::Literal(_) => false,
    };
    let first = tokens.iter().position(|token| !is_before(token))?;
    if !is_type(first) {
        return None;
    }
    let (mut edits, mut provides) = (Vec::new(), Vec::new());
    for at in (first..tokens.len()).filter(|at| is_type(*at) && !word(at + 1).is_empty()) {
        let start = tokens[at].span().byte_range().start;
        let in_crate = at > 1 && word(at - 2) == "pub";
        if word(at.saturating_sub(1)) != "pub" && !in_crate {
            edits.push(Edit { at: start, remove: 0, insert: "pub ".into() });
        }
        let name = word(at + 1);
        let header = format!("{} {name}", word(at));
        provides.push(Provided { name, kind: Kind::Type, header, docs: String::new() });
    }
    let text = call.to_token_stream();
    let (words, shape) = (mentions(text.clone()), Some(text.to_string()));
    Some(ItemPiece {
        range,
        edits,
        provides,
        role: Role::Identity,
        words,
        shape,
        modules: Vec::new(),
        inner_methods: std::collections::BTreeSet::new(),
        inner_names: std::collections::BTreeSet::new(),
        globbed: None,
        has_statics: false,
        bodies: std::collections::BTreeSet::new(),
        type_words: None,
    })
}

/// The macros that a cell may call.
struct Macros<'a> {
    items: &'a Items,
    text: &'a str,
    split: &'a Split,
    /// Calls that may still be played.
    n_left: Cell<usize>,
}

impl Macros<'_> {
    fn expanded(&self, call: &syn::Macro) -> Option<TokenStream> {
        self.n_left.set(self.n_left.get().checked_sub(1)?);
        let rules = self.rules(&call.path.get_ident()?.to_string())?;
        rules.iter().find_map(|rule| rule.apply(&call.tokens))
    }

    /// Whether there are items among what a call makes.
    fn makes_items(&self, call: &syn::Macro) -> bool {
        let statements = self.expanded(call).map(|made| syn::Block::parse_within.parse2(made));
        let is_item = |statement: &syn::Stmt| match statement {
            syn::Stmt::Item(item) => !matches!(item, syn::Item::Use(_) | syn::Item::Macro(_)),
            _ => false,
        };
        statements.is_some_and(|made| made.is_ok_and(|made| made.iter().any(is_item)))
    }

    /// The variables that a call makes of names that it is given; others are the macro's own.
    fn declared(&self, call: &syn::Macro, depth: usize) -> Vec<(String, bool)> {
        let mut declared = self.locals(call, depth);
        declared.retain(|(name, _)| {
            let other = format!("{name}_given");
            let tokens = renamed(call.tokens.clone(), name, &other);
            let made = || self.locals(&syn::Macro { tokens, ..call.clone() }, depth);
            mentions(call.tokens.clone()).contains(name)
                && made().iter().any(|(made, _)| *made == other)
        });
        declared
    }

    /// The variables that a call makes, its own included.
    fn locals(&self, call: &syn::Macro, depth: usize) -> Vec<(String, bool)> {
        let made = (depth <= DEPTH_MAX).then(|| self.expanded(call)).flatten();
        let statements = made.map(|made| syn::Block::parse_within.parse2(made));
        let mut locals = Vec::new();
        for statement in statements.and_then(Result::ok).iter().flatten() {
            match statement {
                syn::Stmt::Local(local) => split::declared(&local.pat, &mut locals),
                syn::Stmt::Macro(inner) => locals.extend(self.declared(&inner.mac, depth + 1)),
                _ => (),
            }
        }
        locals
    }

    fn gives_value(&self, call: &syn::Macro) -> bool {
        self.expanded(call).is_some_and(|made| syn::parse2::<syn::Expr>(made).is_ok())
    }

    fn knows(&self, call: &syn::Macro) -> bool {
        call.path.get_ident().is_some_and(|name| self.text_of(&name.to_string()).is_some())
    }

    /// What a call makes, when that is items only, the tokens of each.
    fn items_of(&self, call: &syn::Macro, depth: usize) -> Option<Vec<TokenStream>> {
        if depth > DEPTH_MAX {
            return None;
        }
        let expanded = self.expanded(call)?;
        // As a statement, what a macro makes may end in another's call without a semicolon.
        let ended = || expanded.clone().into_iter().chain(quote::quote!(;)).collect();
        let file: syn::File =
            syn::parse2(expanded.clone()).or_else(|_| syn::parse2(ended())).ok()?;
        let (mut made, mut n_bytes) = (Vec::new(), 0);
        for item in file.items {
            let n_before = made.len();
            match &item {
                syn::Item::Use(_) | syn::Item::Verbatim(_) => return None,
                syn::Item::Macro(inner) if inner.ident.is_none() => {
                    let statement = syn::StmtMacro {
                        attrs: inner.attrs.clone(),
                        mac: inner.mac.clone(),
                        semi_token: inner.semi_token,
                    };
                    match item::made_by_macro(&statement, 0..0) {
                        Some(_) => made.push(item.to_token_stream()),
                        None => made.extend(self.items_of(&inner.mac, depth + 1)?),
                    }
                }
                item => made.push(item.to_token_stream()),
            }
            n_bytes += made[n_before..].iter().map(|it| it.to_string().len()).sum::<usize>();
            if n_bytes > BYTES_MAX {
                return None;
            }
        }
        Some(made)
    }

    fn rules(&self, name: &str) -> Option<Vec<Rule>> {
        let definition: syn::ItemMacro = syn::parse_str(self.text_of(name)?).ok()?;
        read_rules(definition.mac.tokens)
    }

    /// A macro's definition: this cell's, or the session's.
    fn text_of(&self, name: &str) -> Option<&str> {
        let is_it = |piece: &ItemPiece| {
            let mut provides = piece.provides.iter();
            provides.any(|provided| provided.kind == Kind::Macro && provided.name == name)
        };
        match self.split.items.iter().find(|piece| is_it(piece)) {
            Some(own) => self.text.get(own.range.clone()),
            None => self.items.texts(name).find(|(piece, _)| is_it(piece)).map(|(_, text)| text),
        }
    }
}

fn renamed(tokens: TokenStream, name: &str, other: &str) -> TokenStream {
    let rename = |token| match token {
        TokenTree::Ident(word) if word == name => Ident::new(other, word.span()).into(),
        TokenTree::Group(group) => {
            Group::new(group.delimiter(), renamed(group.stream(), name, other)).into()
        }
        token => token,
    };
    tokens.into_iter().map(rename).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The items that the last of some cells makes, each as the user would have written it.
    #[track_caller]
    fn made(text: &str) -> Vec<String> {
        let mut split = Split::read(text);
        let full = expand(&Items::default(), text, &mut split).text;
        let is_macro = |piece: &&ItemPiece| !full[piece.range.clone()].starts_with("macro_rules");
        let pieces = split.items.iter().filter(is_macro);
        let texts = pieces.map(|piece| full[piece.range.clone()].to_owned()).collect();
        assert!(split.statements.is_empty() && split.value.is_none(), "{split:?}");
        texts
    }

    #[test]
    fn a_macro_that_makes_items_is_played() {
        let simple = "macro_rules! p { ($n:ident) => { struct $n { x: i32 } impl $n {} } }\np!(P);";
        assert_eq!(made(simple), ["struct P { x : i32 }", "impl P { }"]);
        let many = "macro_rules! all { ($($n:ident : $t:ty = $e:expr),* $(,)?) => {\n\
                    $(const $n: $t = $e * 2;)* } }\nall! { A: u8 = 1 + 1, B: u16 = 3, }";
        assert_eq!(made(many), ["const A : u8 = (1 + 1) * 2 ;", "const B : u16 = 3 * 2 ;"]);
        let rules = "macro_rules! f { ($n:ident) => { f!($n, u8); };\n\
                     ($n:ident, $t:ty) => { fn $n() -> $t { 0 } } }\nf!(g);";
        assert_eq!(made(rules), ["fn g () -> u8 { 0 }"]);
    }

    #[test]
    fn a_crates_macro_around_a_type_is_an_item() {
        let text = "bitflags! { #[derive(Clone)] struct F: u8 { const A = 1; } }";
        let mut split = Split::read(text);
        expand(&Items::default(), text, &mut split);
        assert_eq!(split.items[0].provides[0].name, "F");
        assert_eq!(split.items[0].edits.len(), 1);
    }

    #[test]
    fn what_makes_statements_stays_a_statement() {
        for call in [
            "say!(1);",
            "say!(1, 2, 3);",
            "other!(1);",
            "deep!();",
            "wide!(1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1);",
            "both!();",
            "vec![1];",
        ] {
            let text = format!(
                "macro_rules! say {{ ($e:expr) => {{ println!(\"{{}}\", $e); }} }}\n\
                 macro_rules! deep {{ () => {{ deep!(); }} }}\n\
                 macro_rules! both {{ () => {{ fn f() {{}} f(); }} }}\n\
                 macro_rules! wide {{ () => {{}};\n\
                 ($x:tt $($r:tt)*) => {{ wide!($($r)*); wide!($($r)*); }} }}\n{call}"
            );
            let mut split = Split::read(&text);
            let made = expand(&Items::default(), &text, &mut split);
            assert_eq!((made.text, split.statements.len()), (text, 1));
            assert_eq!(made.mixed.len(), usize::from(call == "both!();"));
        }
    }

    #[test]
    fn a_call_declares_what_it_is_given_a_name_for() {
        let macros = "macro_rules! make {\n\
                      ($n:ident, $e:expr) => { let mut $n = $e; let own = 1; } }\n\
                      macro_rules! all { ($($n:ident = $e:expr),*) => { $(make!($n, $e);)* } }\n";
        for (call, declares) in [
            ("make!(a, 1);", vec!["a"]),
            ("all!(a = 1, b = own + a);", vec!["a", "b"]),
            ("make!(a, own);", vec!["a"]),
            ("make!(own, own);", vec!["own"]),
            ("let a = 1; make!(b, a);", vec!["a", "b"]),
            ("{ make!(a, 1); }", vec![]),
            ("other!(a, 1);", vec![]),
        ] {
            let text = format!("{macros}{call}");
            let mut split = Split::read(&text);
            expand(&Items::default(), &text, &mut split);
            let names: Vec<&str> = split.declares.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, declares, "{call}");
        }
    }
}
