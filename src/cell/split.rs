//! Cuts the Rust text of a cell into imports, items, statements and the final expression, by byte
//! ranges of the text. Text that does not parse is handed on whole: rustc says best what is wrong
//! with it.

use std::collections::BTreeMap;
use std::ops::Range;

use proc_macro2::{TokenStream, TokenTree};
use syn::parse::{ParseStream, Parser};
use syn::spanned::Spanned;
use syn::{Attribute, Block, Expr, Item, Pat, Stmt, UseTree};

use super::configured::is_left_out;
use super::depth;
use super::item::{self, ItemPiece};
use super::made::Made;
use super::map::Edit;
use super::namespace::{Import, Kind, Variable};
use super::shared_macros;
use super::wrapped::Around;

/// A cell, cut up.
#[derive(Debug, Default)]
pub struct Split {
    pub attributes: Vec<Range<usize>>,
    pub imports: Vec<(Range<usize>, Vec<Import>)>,
    pub items: Vec<ItemPiece>,
    pub statements: Vec<Range<usize>>,
    /// What calls of macros made, of the text that items are read from.
    pub made: Vec<Made>,
    /// Makes the generated source differ from an equal one: files it includes may have changed.
    pub salt: String,
    /// Edits in statements and value, sorted.
    pub edits: Vec<Edit>,
    /// The final expression without semicolon, which is shown.
    pub value: Option<Range<usize>>,
    /// What the statements declare at the top level, with `mut` or not, in order.
    pub declares: Vec<(String, bool)>,
    /// The last statement is an assignment without its `;`.
    pub unended: bool,
    /// Text of ours around the statements: they are timed.
    pub around: Option<Around>,
    /// The text is no sequence of statements: rustc is to say why.
    pub unparsed: bool,
    /// The last statement, where that is a macro's call in braces: it may be a value.
    pub tail: Option<Range<usize>>,
    /// `.await` stands at the top level of a statement.
    pub awaits: bool,
    /// Has a loop or a closure: worth optimising. Other code runs once, and compiles faster
    /// unoptimised.
    pub hot: bool,
}

impl Split {
    /// Cuts up `text`. Never fails: text that does not parse becomes one statement.
    pub fn read(text: &str) -> Self {
        match parse(text) {
            Ok((attributes, statements)) => {
                let mut split = Self::of(text, &attributes, &statements);
                split.show_anything(text);
                split
            }
            Err(_) => Self {
                statements: Some(0..text.len())
                    .filter(|_| !text.trim().is_empty())
                    .into_iter()
                    .collect(),
                unparsed: true,
                ..Self::default()
            },
        }
    }

    fn of(text: &str, attributes: &[Attribute], statements: &[Stmt]) -> Self {
        let mut split = Self::default();
        split.attributes.extend(attributes.iter().map(|attribute| attribute.span().byte_range()));
        for (index, statement) in statements.iter().enumerate() {
            let range = statement.span().byte_range();
            let last = index + 1 == statements.len();
            match statement {
                Stmt::Item(item) if is_left_out(item::attributes(item)) => (),
                Stmt::Item(Item::Use(item)) => {
                    let mut imports = Vec::new();
                    let lead = if item.leading_colon.is_some() { "::" } else { "" };
                    flatten(&item.tree, lead, &mut imports);
                    split.imports.push((range, imports));
                }
                Stmt::Item(Item::ExternCrate(item)) if item.rename.is_some() => {
                    let (_, bound) = item.rename.as_ref().expect("it was asked for");
                    let (key, root, of) =
                        (bound.to_string(), item.ident.to_string(), String::new());
                    let text = format!("use ::{root} as {key};");
                    split.imports.push((range, vec![Import { key, text, root, of }]));
                }
                Stmt::Item(item) => {
                    split.items.push(item::read(item, range, text));
                    split.items.extend(shared_macros::at_root(item, text));
                }
                Stmt::Local(local) => {
                    declared(&local.pat, &mut split.declares);
                    split.statements.push(range);
                }
                Stmt::Expr(expression, None) if last && shows(expression) => {
                    split.value = Some(range);
                }
                Stmt::Macro(mac)
                    if last && mac.semi_token.is_none() && (!is_braced(mac) || is_value(mac)) =>
                {
                    split.value = Some(range);
                }
                Stmt::Macro(mac) if let Some(piece) = item::made_by_macro(mac, range.clone()) => {
                    split.items.push(piece);
                }
                Stmt::Expr(expression, end) => {
                    split.unended = end.is_none() && matches!(expression, Expr::Assign(_));
                    split.statements.push(range);
                }
                Stmt::Macro(mac) => {
                    split.tail = Some(range.clone()).filter(|_| last && mac.semi_token.is_none());
                    split.statements.push(range);
                }
            }
        }
        // `pub(crate) use name;` of a macro: all cells have it anyway.
        let items = &split.items;
        let is_macro = |import: &Import| {
            let mut given = items.iter().flat_map(|item| &item.provides);
            import.text == format!("use {};", import.key)
                && given.any(|it| it.kind == Kind::Macro && it.name == import.key)
        };
        split.imports.retain(|(_, imports)| !imports.iter().all(is_macro));
        let all = split.statements.iter().chain(&split.value);
        split.hot = all.clone().any(|range| is_hot(&text[range.clone()]));
        split.awaits = all.clone().any(|range| text[range.clone()].parse().is_ok_and(awaits));
        split
    }

    /// Variables of earlier cells whose names the cell gives to functions, constants, statics or
    /// constructors:
    /// the newer one counts, as with `let`. A constant would be taken for a pattern, too.
    pub fn hidden_by_items(&self, variables: &BTreeMap<String, Variable>) -> Vec<String> {
        let given = self.items.iter().flat_map(|item| &item.provides);
        let names = given.filter(|given| given.kind.is_value()).map(|given| given.name.clone());
        names.filter(|name| variables.contains_key(name)).collect()
    }

    /// Whether anything is to be run.
    pub fn runs(&self) -> bool {
        !self.statements.is_empty() || self.value.is_some()
    }
}

pub(super) fn parse(text: &str) -> syn::Result<(Vec<Attribute>, Vec<Stmt>)> {
    let tokens: TokenStream = text.parse()?;
    if let Some(at) = depth::too_deep(text) {
        let message = format!("nested too deep at byte {}", at.start);
        return Err(syn::Error::new(proc_macro2::Span::call_site(), message));
    }
    let parser = |input: ParseStream<'_>| {
        let attributes = Attribute::parse_inner(input)?;
        Ok((attributes, Block::parse_within(input)?))
    };
    parser.parse2(tokens)
}

/// By tokens, so that macro bodies count.
fn is_hot(text: &str) -> bool {
    fn hot(tokens: TokenStream) -> bool {
        tokens.into_iter().any(|token| match token {
            TokenTree::Group(group) => hot(group.stream()),
            TokenTree::Ident(ident) => ["for", "while", "loop"].iter().any(|word| ident == word),
            TokenTree::Punct(punct) => punct.as_char() == '|',
            TokenTree::Literal(_) => false,
        })
    }
    text.parse().is_ok_and(hot)
}

/// Whether `.await` stands outside of `async { .. }`.
fn awaits(tokens: TokenStream) -> bool {
    let mut words = [String::new(), String::new()];
    tokens.into_iter().any(|token| {
        let within = words.iter().any(|word| word == "async");
        let found = match &token {
            TokenTree::Group(group) => !within && awaits(group.stream()),
            TokenTree::Ident(ident) => ident == "await" && words[1] == ".",
            _ => false,
        };
        let word =
            if matches!(token, TokenTree::Group(_)) { String::new() } else { token.to_string() };
        words = [std::mem::take(&mut words[1]), word];
        // `async fn`, `async |x|` and `async move` hold for the body that follows.
        if within && !matches!(token, TokenTree::Group(_)) && words[1] == "move" {
            words[0] = "async".into();
        }
        found
    })
}

/// Macros that make a value and are called in braces, too.
const VALUES: [&str; 16] = [
    "array",
    "assert",
    "concat",
    "dbg",
    "format",
    "html",
    "join",
    "json",
    "matches",
    "parse_quote",
    "quote",
    "select",
    "toml",
    "try_join",
    "vec",
    "write",
];

fn is_value(mac: &syn::StmtMacro) -> bool {
    let name = mac.mac.path.segments.last().map(|segment| segment.ident.to_string());
    name.is_some_and(|name| VALUES.contains(&name.as_str()))
}

fn is_braced(mac: &syn::StmtMacro) -> bool {
    matches!(mac.mac.delimiter, syn::MacroDelimiter::Brace(_))
}

/// Loops without a value and assignments show nothing.
fn shows(expression: &Expr) -> bool {
    !matches!(expression, Expr::ForLoop(_) | Expr::While(_) | Expr::Assign(_))
}

/// The variables that a pattern makes, with `mut` or not.
pub(super) fn declared(pattern: &Pat, names: &mut Vec<(String, bool)>) {
    match pattern {
        Pat::Ident(ident) => {
            names.push((plain(&ident.ident), ident.mutability.is_some()));
            if let Some((_, inner)) = &ident.subpat {
                declared(inner, names);
            }
        }
        Pat::Or(or) => or.cases.first().into_iter().for_each(|case| declared(case, names)),
        Pat::Paren(paren) => declared(&paren.pat, names),
        Pat::Reference(reference) => declared(&reference.pat, names),
        Pat::Slice(slice) => slice.elems.iter().for_each(|element| declared(element, names)),
        Pat::Struct(fields) => fields.fields.iter().for_each(|field| declared(&field.pat, names)),
        Pat::Tuple(tuple) => tuple.elems.iter().for_each(|element| declared(element, names)),
        Pat::TupleStruct(tuple) => tuple.elems.iter().for_each(|element| declared(element, names)),
        Pat::Type(typed) => declared(&typed.pat, names),
        _ => (),
    }
}

/// An identifier as it must be written: raw identifiers keep their `r#`.
fn plain(ident: &syn::Ident) -> String {
    ident.to_string()
}

/// One import per bound name, so that a later one of the same name can replace it.
fn flatten(tree: &UseTree, prefix: &str, imports: &mut Vec<Import>) {
    let root = |path: &str| {
        // `N as M` begins at `N`, and so does `crate::N`.
        let mut steps = path.trim_start_matches("::").split("::");
        let first = steps.find(|step| !["crate", "self"].contains(step)).unwrap_or_default();
        first.split_whitespace().next().unwrap_or_default().to_owned()
    };
    let mut push = |key: String, path: String| {
        let root = root(&path);
        let (text, of) = (format!("use {path};"), String::new());
        imports.push(Import { key, text, root, of });
    };
    match tree {
        UseTree::Path(path) => flatten(&path.tree, &format!("{prefix}{}::", path.ident), imports),
        UseTree::Name(name) if name.ident == "self" => {
            let path = prefix.trim_end_matches("::");
            let bound = path.rsplit("::").next().unwrap_or_default();
            push(bound.to_owned(), format!("{path}::{{self}}"));
        }
        UseTree::Name(name) => push(name.ident.to_string(), format!("{prefix}{}", name.ident)),
        UseTree::Rename(rename) => {
            let (of, to) = (&rename.ident, rename.rename.to_string());
            let path = match of == "self" {
                // Only the module, of all that goes by its name.
                true => format!("{}::{{self as {to}}}", prefix.trim_end_matches("::")),
                false => format!("{prefix}{of} as {to}"),
            };
            push(if to == "_" { format!("_ {path}") } else { to }, path);
        }
        UseTree::Glob(_) => push(format!("*{prefix}"), format!("{prefix}*")),
        UseTree::Group(group) => {
            group.items.iter().for_each(|tree| flatten(tree, prefix, imports));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str) -> (Vec<&str>, Vec<&str>, Option<&str>) {
        let split = Split::read(text);
        let items = split.items.iter().map(|item| &text[item.range.clone()]).collect();
        let statements = split.statements.iter().map(|range| &text[range.clone()]).collect();
        (items, statements, split.value.map(|range| &text[range]))
    }

    #[test]
    fn a_cell_is_cut_into_items_statements_and_a_value() {
        let text = "/// Doc.\nfn f() {}\nlet x = f();\nfor _ in 0..1 {}\nx // end";
        let (items, statements, value) = pieces(text);
        assert_eq!(items, ["/// Doc.\nfn f() {}"]);
        assert_eq!(statements, ["let x = f();", "for _ in 0..1 {}"]);
        assert_eq!(value, Some("x"));
    }

    #[test]
    fn every_pattern_declares_its_names() {
        let split = Split::read(
            "let (a, mut b) = t; let S { c, d: [e, ..], .. } = s; \
             let x @ Some(_) = o else { return Ok(()) };",
        );
        let names: Vec<_> = split.declares.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c", "e", "x"]);
        assert_eq!(split.declares[1], ("b".into(), true));
    }

    #[test]
    fn imports_are_one_per_name() {
        let split = Split::read("use std::{fmt::{self, Debug as D}, io::*, ops::Add as _};");
        let texts: Vec<_> = split.imports[0].1.iter().map(|import| import.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "use std::fmt::{self};",
                "use std::fmt::Debug as D;",
                "use std::io::*;",
                "use std::ops::Add as _;"
            ]
        );
    }

    #[test]
    fn a_module_is_imported_as_itself_by_another_name_at_every_depth() {
        let text = "pub use ::std::{self as s, io::{self as sio, prelude::{self as _, Read}}, \
                    fmt::{{self as f}}};";
        let split = Split::read(text);
        let imports: Vec<_> =
            split.imports[0].1.iter().map(|it| (it.key.as_str(), it.text.as_str())).collect();
        assert_eq!(
            imports,
            [
                ("s", "use ::std::{self as s};"),
                ("sio", "use ::std::io::{self as sio};"),
                ("_ ::std::io::prelude::{self as _}", "use ::std::io::prelude::{self as _};"),
                ("Read", "use ::std::io::prelude::Read;"),
                ("f", "use ::std::fmt::{self as f};"),
            ]
        );
        assert!(split.imports[0].1.iter().all(|import| import.root == "std"));
    }

    #[test]
    fn only_what_awaits_at_the_top_level_awaits() {
        assert!(Split::read("let x = f(g.await)?;").awaits);
        assert!(Split::read("join!(async { 1 }, g.await)").awaits);
        assert!(!Split::read("let f = async { g.await }; let h = async move { g.await };").awaits);
        assert!(!Split::read("let text = \".await\"; // .await").awaits);
    }

    #[test]
    fn loops_and_closures_are_hot() {
        assert!(Split::read("for i in 0..9 { f(i) }").hot);
        assert!(Split::read("lv.map(|x: u64| x, 0..9)").hot);
        assert!(!Split::read("let v = vec![1]; f(v)").hot);
    }

    #[test]
    fn text_that_does_not_parse_is_one_statement() {
        assert_eq!(pieces("let a = std::").1, ["let a = std::"]);
        assert_eq!(pieces("fn f( {").1, ["fn f( {"]);
        assert!(!Split::read("  // nothing\n").runs());
    }

    #[test]
    fn a_final_macro_is_a_value_and_with_a_semicolon_it_is_not() {
        assert_eq!(pieces("vec![1]").2, Some("vec![1]"));
        assert_eq!(pieces("vec![1];").2, None);
        assert_eq!(pieces("x = 3").2, None);
    }
}
