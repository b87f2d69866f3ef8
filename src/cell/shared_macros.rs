//! The macros of modules, for other cells. Within a crate a module's macro is known by where its
//! text stands, or by a `use`; other cells are other crates, and what these may call is exported
//! and stands at the root of its crate. So what a module shows by `pub(crate) use` is a copy of its
//! macro under a name of ours, and what is for all that follows the module is an item beside it.

use std::ops::Range;

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::{Attribute, Item, ItemMacro, ItemMod, ItemUse, UseTree, Visibility};

use super::item::{self, ItemPiece};
use super::map::{Edit, PREFIX};

/// A macro that is in scope somewhere in a module.
#[derive(Clone)]
struct Known<'a> {
    name: String,
    made: &'a ItemMacro,
    /// Leads to its module.
    path: String,
}

impl Known<'_> {
    fn copy(&self) -> String {
        format!("{PREFIX}{}_{}", self.path, self.name)
    }
}

/// The macros that a module defines for all that follows it, as items of their own.
pub(super) fn at_root(item: &Item, text: &str) -> Vec<ItemPiece> {
    let Item::Mod(module) = item else { return Vec::new() };
    let macros = for_all(module).into_iter();
    macros.map(|item| item::read(item, item.span().byte_range(), text)).collect()
}

/// The names that a module gives a meaning of its own, so that nothing else's is meant there.
pub(super) fn own_names(item: &Item) -> Vec<String> {
    let Item::Mod(module) = item else { return Vec::new() };
    let own = for_all(module).into_iter().filter(|item| !is_exported(item));
    own.filter_map(name).collect()
}

fn for_all(module: &ItemMod) -> Vec<&Item> {
    let follows = module.attrs.iter().any(|each| each.path().is_ident("macro_use"));
    let items = module.content.iter().flat_map(|(_, items)| items);
    let macros = items.flat_map(|item| match item {
        Item::Mod(inner) => for_all(inner),
        item => name(item).map(|_| item).into_iter().collect(),
    });
    macros.filter(|item| follows || is_exported(item)).collect()
}

/// Adds the edits by which a module shows its macros to other crates.
pub(super) fn show(module: &ItemMod, text: &str, edits: &mut Vec<Edit>) {
    within(module, &module.ident.to_string(), Vec::new(), text, edits);
}

/// `known` are the macros in scope where the module begins; `path` leads to it.
fn within<'a>(
    module: &'a ItemMod,
    path: &str,
    mut known: Vec<Known<'a>>,
    text: &str,
    edits: &mut Vec<Edit>,
) {
    for item in module.content.iter().flat_map(|(_, items)| items) {
        match item {
            Item::Mod(inner) => {
                let path = format!("{path}_{}", inner.ident);
                within(inner, &path, known.clone(), text, edits);
            }
            Item::Use(shown) => {
                let mut places = Vec::new();
                single_names(&shown.tree, &mut places);
                for place in places {
                    let named = known.iter().find(|known| known.name == place.name);
                    let Some(known) = named.filter(|known| is_shown(shown, known)) else {
                        continue;
                    };
                    // In another module than its own, rustc would not know which of the two is
                    // called.
                    if known.path != path && is_called(module.to_token_stream(), &place.name) {
                        keep(&shown.vis, edits);
                    } else {
                        show_copy(known, &place, text, edits);
                    }
                }
            }
            Item::Macro(made) if let Some(name) = name(item) => {
                known.retain(|known| known.name != name);
                known.push(Known { name, made, path: path.to_owned() });
                // The item beside the module is.
                let exports = made.attrs.iter().filter(|each| exports(each));
                edits.extend(exports.map(|each| {
                    let range = each.span().byte_range();
                    Edit { at: range.start, remove: range.len(), insert: String::new() }
                }));
            }
            _ => (),
        }
    }
}

/// Whether a `use` shows a macro outside of its module.
fn is_shown(shown: &ItemUse, known: &Known<'_>) -> bool {
    match &shown.vis {
        Visibility::Public(_) => known.made.attrs.iter().any(exports),
        Visibility::Restricted(to) => !to.path.is_ident("self"),
        Visibility::Inherited => false,
    }
}

/// What is shown is a copy of the macro.
fn show_copy(known: &Known<'_>, place: &Place, text: &str, edits: &mut Vec<Edit>) {
    let ends = known.made.span().byte_range().end;
    let begins = known.made.mac.path.span().byte_range().start;
    let Some(name) = known.made.ident.as_ref().map(|name| name.span().byte_range()) else { return };
    let around = (text.get(begins..name.start), text.get(name.end..ends));
    let (Some(before), Some(after)) = around else { return };
    let copy = known.copy();
    let insert = format!("\n#[macro_export] {before}{copy}{after}\n");
    let made = Edit { at: ends, remove: 0, insert };
    if !edits.contains(&made) {
        edits.push(made);
    }
    let (remove, insert) =
        if place.is_renamed { (place.range.len(), copy) } else { (0, format!("{copy} as ")) };
    edits.push(Edit { at: place.range.start, remove, insert });
}

/// What is for the crate alone stays so.
fn keep(visibility: &Visibility, edits: &mut Vec<Edit>) {
    if let Visibility::Restricted(to) = visibility {
        let at = to.paren_token.span.join().byte_range().start;
        edits.retain(|edit| edit.at != at);
    }
}

/// Whether there is a call `name!` without a path.
fn is_called(tokens: TokenStream, name: &str) -> bool {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let is = |at: Option<usize>, text: &str| {
        at.and_then(|at| tokens.get(at)).is_some_and(|token| token.to_string() == text)
    };
    tokens.iter().enumerate().any(|(at, token)| match token {
        TokenTree::Group(group) => is_called(group.stream(), name),
        _ => {
            let is_bare = !is(at.checked_sub(1), ":");
            is(Some(at), name) && is(Some(at + 1), "!") && is_bare
        }
    })
}

/// Where a `use` says a name that no path leads to.
struct Place {
    name: String,
    range: Range<usize>,
    is_renamed: bool,
}

fn single_names(tree: &UseTree, places: &mut Vec<Place>) {
    let (ident, is_renamed) = match tree {
        UseTree::Name(it) => (&it.ident, false),
        UseTree::Rename(it) => (&it.ident, true),
        UseTree::Group(group) => {
            return group.items.iter().for_each(|tree| single_names(tree, places));
        }
        UseTree::Path(_) | UseTree::Glob(_) => return,
    };
    let (name, range) = (ident.to_string(), ident.span().byte_range());
    places.push(Place { name, range, is_renamed });
}

/// Of a macro's definition.
fn name(item: &Item) -> Option<String> {
    match item {
        Item::Macro(item) => item.ident.as_ref().map(ToString::to_string),
        _ => None,
    }
}

fn is_exported(item: &Item) -> bool {
    item::attributes(item).iter().any(exports)
}

fn exports(attribute: &Attribute) -> bool {
    attribute.path().is_ident("macro_export")
}

#[cfg(test)]
mod tests {
    use crate::cell::map::Source;
    use crate::cell::split::Split;

    /// What is written for each item of a cell.
    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let split = Split::read(text);
        let written = split.items.iter().map(|piece| {
            let mut source = Source::default();
            source.user_edited(text, piece.range.clone(), &piece.edits);
            source.text
        });
        assert_eq!(written.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_macro_that_a_module_shows_is_a_copy_that_is_exported() {
        check(
            "mod m { macro_rules! a { () => {} } pub mod n { pub(crate) use {a as b, super::f}; } \
             pub(crate) use a; }",
            &["pub mod m { macro_rules! a { () => {} }\n\
               #[macro_export] macro_rules! __prust_m_a { () => {} }\n \
               pub mod n { pub use {__prust_m_a as b, super::f}; } \
               pub use __prust_m_a as a; }"],
        );
        let private = "pub mod m { macro_rules! a { () => {} } use a; pub(self) use a as b; }";
        check(private, &[private]);
        let called = "pub mod m { macro_rules! a { () => {} } mod n { pub(crate) use a; a!(); } }";
        check(called, &[called]);
    }

    #[test]
    fn a_macro_for_what_follows_a_module_is_an_item_beside_it() {
        check(
            "#[macro_use] mod m { macro_rules! a { () => {} } }",
            &[
                "#[macro_use] pub mod m { macro_rules! a { () => {} } }",
                "#[macro_export] macro_rules! a { () => {} }",
            ],
        );
        check(
            "mod m { mod n { #[macro_export] macro_rules! a { () => {} } macro_rules! b {} } }",
            &[
                "pub mod m { mod n {  macro_rules! a { () => {} } macro_rules! b {} } }",
                "#[macro_export] macro_rules! a { () => {} }",
            ],
        );
    }
}
