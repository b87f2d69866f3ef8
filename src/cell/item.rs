//! One item of a cell: what it defines, what it names, and which part of it decides the identity
//! of types. Pure reading; where it is compiled is decided in [`super::items`].

use std::collections::BTreeSet;
use std::ops::Range;

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use serde::{Deserialize, Serialize};
use syn::spanned::Spanned;
use syn::{Attribute, Expr, Item, ItemFn, ReturnType, StmtMacro};

use super::bare::bare;
use super::generic;
use super::impls::{ImplRole, impl_member, impl_role, is_plain_member};
use super::map::Edit;
use super::mentions;
use super::namespace::{Kind, Provided};
use super::publish::{foreign, publish};
use super::shared_macros;

/// Enough of an item to recognise it.
const HEADER_CHARACTERS: usize = 400;

/// One item and the edits that make it reachable from other crates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemPiece {
    pub range: Range<usize>,
    pub edits: Vec<Edit>,
    /// The names it gives: one, but for impls (none) and some macros (several).
    pub provides: Vec<Provided>,
    pub role: Role,
    /// Every identifier of its tokens.
    pub words: BTreeSet<String>,
    /// What decides the identity of types: all of it, or nothing for a plain function. In doubt,
    /// all of it.
    pub shape: Option<String>,
    /// Where the modules in it begin, behind their brackets.
    pub modules: Vec<usize>,
    /// The methods of the traits in a module.
    pub inner_methods: BTreeSet<String>,
    /// The types and traits of a module, and what it shows of others.
    pub inner_names: BTreeSet<String>,
    /// What a glob import of it gives, traits' methods included; `None` where that is not known.
    pub globbed: Option<BTreeSet<String>>,
    /// Whether functions or modules in it have statics.
    pub has_statics: bool,
    /// The functions in it, itself or members, that make closures or async blocks.
    pub bodies: BTreeSet<String>,
    /// What the type of a static says: what it begins with is of no consequence later.
    pub type_words: Option<BTreeSet<String>>,
}

/// What an item is to the planner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Has values or vtables that outlive a cell: its crate is part of what it is.
    Identity,
    /// Its own crate, so that code can be rebuilt without resetting it.
    Static,
    /// Methods that are in force where the trait is in scope.
    Trait {
        methods: BTreeSet<String>,
    },
    /// May stand in any crate.
    Movable,
    Impl(Box<ImplRole>),
}

impl ItemPiece {
    /// Whether calling what it gives may say what its text says.
    pub fn has_macros(&self) -> bool {
        let is_module = !self.modules.is_empty();
        let is_macro = |provided: &Provided| provided.kind == Kind::Macro;
        self.provides.iter().any(is_macro) || (is_module && self.words.contains("macro_rules"))
    }

    /// Whether its crate is part of what it is.
    pub fn has_identity(&self) -> bool {
        matches!(self.role, Role::Identity | Role::Static | Role::Trait { .. })
    }
}

/// Reads one item of a cell's text.
pub fn read(item: &Item, range: Range<usize>, text: &str) -> ItemPiece {
    let mut edits = Vec::new();
    publish(item, text, &mut edits);
    edits.sort_by_key(|edit| edit.at);
    let provides = provided(item)
        .into_iter()
        .map(|(name, kind)| Provided { name, kind, header: header(item, text), docs: docs(item) })
        .collect();
    let plain = match item {
        // What it declares is elsewhere.
        Item::ForeignMod(_) => true,
        Item::Fn(item) => is_plain(item),
        Item::Impl(item) => item.items.iter().all(is_plain_member),
        _ => false,
    };
    let tokens = item.to_token_stream();
    ItemPiece {
        range,
        edits,
        provides,
        role: role(item),
        words: words(item, tokens.clone()),
        shape: (!plain).then(|| bare(item).to_string()),
        modules: modules(item),
        inner_methods: if matches!(item, Item::Mod(_)) { methods(item) } else { BTreeSet::new() },
        inner_names: inner_names(item),
        globbed: globbed(item),
        has_statics: !matches!(item, Item::Static(_)) && has_statics(tokens),
        bodies: bodies(item),
        type_words: match item {
            Item::Static(item) => Some(mentions::mentions(item.ty.to_token_stream())),
            _ => None,
        },
    }
}

fn words(item: &Item, tokens: TokenStream) -> BTreeSet<String> {
    let mut words = mentions::mentions_but(tokens, &declares(item));
    shared_macros::own_names(item).iter().for_each(|name| _ = words.remove(name));
    generic::own_names(item).iter().for_each(|name| _ = words.remove(name));
    words
}

/// Where an inline module, and those in it, begin.
fn modules(item: &Item) -> Vec<usize> {
    let Item::Mod(item) = item else { return Vec::new() };
    let Some((brace, items)) = &item.content else { return Vec::new() };
    // What the module says of itself comes first.
    let begins = brace.span.open().byte_range().end;
    let attributes =
        item.attrs.iter().filter(|each| matches!(each.style, syn::AttrStyle::Inner(_)));
    let begins = attributes.map(|each| each.span().byte_range().end).max().unwrap_or(begins);
    std::iter::once(begins).chain(items.iter().flat_map(modules)).collect()
}

/// The names of its members, fields and variants, as often as it declares them: to say them so is
/// not to use what else is called so.
fn declares(item: &Item) -> Vec<String> {
    let fields = |fields: &syn::Fields| -> Vec<String> {
        fields.iter().filter_map(|field| Some(field.ident.as_ref()?.to_string())).collect()
    };
    match item {
        Item::Struct(item) => fields(&item.fields),
        Item::Union(item) => fields(&syn::Fields::Named(item.fields.clone())),
        Item::Enum(item) => {
            let of = |variant: &syn::Variant| {
                let mut names = fields(&variant.fields);
                names.push(variant.ident.to_string());
                names
            };
            item.variants.iter().flat_map(of).collect()
        }
        Item::Trait(item) => item.items.iter().filter_map(trait_member).collect(),
        Item::Impl(item) => item.items.iter().filter_map(impl_member).collect(),
        _ => Vec::new(),
    }
}

/// The methods and constants of a trait, or of those in a module.
fn methods(item: &Item) -> BTreeSet<String> {
    match item {
        Item::Trait(item) => {
            let members = item.items.iter();
            let values = members.filter(|member| !matches!(member, syn::TraitItem::Type(_)));
            values.filter_map(trait_member).collect()
        }
        Item::Mod(item) => {
            let inner = item.content.iter().flat_map(|(_, items)| items);
            inner.flat_map(methods).collect()
        }
        _ => BTreeSet::new(),
    }
}

fn inner_names(item: &Item) -> BTreeSet<String> {
    let Item::Mod(module) = item else { return BTreeSet::new() };
    let mut names = BTreeSet::new();
    for item in module.content.iter().flat_map(|(_, items)| items) {
        let types = provided(item).into_iter();
        names.extend(
            types.filter(|(_, kind)| kind.is_type() || *kind == Kind::Trait).map(|(name, _)| name),
        );
        names.extend(inner_names(item));
        if let Item::Use(shown) = item {
            names.extend(mentions::mentions(shown.tree.to_token_stream()));
        }
    }
    names
}

fn globbed(item: &Item) -> Option<BTreeSet<String>> {
    match item {
        Item::Enum(item) => {
            Some(item.variants.iter().map(|variant| variant.ident.to_string()).collect())
        }
        Item::Mod(module) => {
            let (_, content) = module.content.as_ref()?;
            let mut names = methods(item);
            for item in content {
                let may_give_more = match item {
                    Item::Use(_) | Item::ExternCrate(_) | Item::Verbatim(_) => true,
                    Item::Macro(item) => item.ident.is_none(),
                    _ => false,
                };
                if may_give_more {
                    return None;
                }
                names.extend(provided(item).into_iter().map(|(name, _)| name));
            }
            Some(names)
        }
        _ => None,
    }
}

fn trait_member(member: &syn::TraitItem) -> Option<String> {
    Some(match member {
        syn::TraitItem::Fn(method) => method.sig.ident.to_string(),
        syn::TraitItem::Const(constant) => constant.ident.to_string(),
        syn::TraitItem::Type(alias) => alias.ident.to_string(),
        _ => return None,
    })
}

/// `thread_local! { static NAME: T = ..; }`, which is an item although it parses as a statement.
pub fn made_by_macro(mac: &StmtMacro, range: Range<usize>) -> Option<ItemPiece> {
    let name = mac.mac.path.segments.last()?.ident.to_string();
    if !["thread_local", "lazy_static"].contains(&name.as_str()) {
        return None;
    }
    let tokens: Vec<TokenTree> = mac.mac.tokens.clone().into_iter().collect();
    let mut edits = Vec::new();
    let mut names = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let is = |at: usize, word: &str| match tokens.get(at) {
            Some(TokenTree::Ident(ident)) => ident == word,
            _ => false,
        };
        // `&'static str` has a lifetime of that name.
        let is_lifetime = index > 0
            && matches!(&tokens[index - 1], TokenTree::Punct(sign) if sign.as_char() == '\'');
        if !is(index, "static") || is_lifetime {
            continue;
        }
        if index == 0 || !matches!(&tokens[index - 1], TokenTree::Ident(ident) if ident == "pub") {
            let at = token.span().byte_range().start;
            edits.push(Edit { at, remove: 0, insert: "pub ".into() });
        }
        let at = index + 1 + usize::from(is(index + 1, "ref"));
        if let Some(TokenTree::Ident(ident)) = tokens.get(at) {
            names.push(ident.to_string());
        }
    }
    let text = mac.to_token_stream();
    Some(ItemPiece {
        range,
        edits,
        provides: names
            .into_iter()
            .map(|made| Provided {
                header: format!("{name}! {{ static {made} }}"),
                name: made,
                kind: Kind::Static,
                docs: String::new(),
            })
            .collect(),
        role: Role::Static,
        words: mentions::mentions(text.clone()),
        shape: Some(text.to_string()),
        modules: Vec::new(),
        inner_methods: BTreeSet::new(),
        inner_names: BTreeSet::new(),
        globbed: None,
        has_statics: false,
        bodies: BTreeSet::new(),
        type_words: None,
    })
}

fn role(item: &Item) -> Role {
    match item {
        Item::Static(_) => Role::Static,
        Item::Trait(_) => Role::Trait { methods: methods(item) },
        Item::Impl(item) => Role::Impl(Box::new(impl_role(item))),
        Item::Fn(item) if is_plain(item) => Role::Movable,
        Item::Const(_) | Item::ForeignMod(_) | Item::Macro(_) | Item::Type(_) => Role::Movable,
        Item::Fn(item) if !has_items(&item.block.to_token_stream()) => Role::Movable,
        _ => Role::Identity,
    }
}

/// Changing the body of a plain function changes no type: not `const` (array lengths), not `async`
/// and no `impl Trait` result (hidden types), and no items inside (their paths go on).
fn is_plain(item: &ItemFn) -> bool {
    item.sig.constness.is_none() && is_plain_signature(&item.sig) && {
        !has_items(&item.block.to_token_stream())
    }
}

pub(super) fn is_plain_signature(signature: &syn::Signature) -> bool {
    let hidden = match &signature.output {
        ReturnType::Type(_, result) => {
            mentions::mentions(result.to_token_stream()).contains("impl")
        }
        ReturnType::Default => false,
    };
    signature.asyncness.is_none() && !hidden
}

pub(super) fn has_items(tokens: &TokenStream) -> bool {
    let words = mentions::mentions(tokens.clone());
    ["struct", "enum", "union", "trait", "impl", "static", "const", "mod", "thread_local"]
        .iter()
        .any(|word| words.contains(*word))
}

fn bodies(item: &Item) -> BTreeSet<String> {
    match item {
        Item::Impl(item) => {
            let members = item.items.iter().filter(|member| makes_types(member.to_token_stream()));
            members.filter_map(impl_member).collect()
        }
        Item::Fn(_) | Item::Const(_) if makes_types(item.to_token_stream()) => {
            provided(item).into_iter().map(|(name, _)| name).collect()
        }
        _ => BTreeSet::new(),
    }
}

/// Whether there may be closures or async blocks in it.
fn makes_types(tokens: TokenStream) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(word) => word == "async",
        TokenTree::Punct(sign) => sign.as_char() == '|',
        TokenTree::Group(group) => makes_types(group.stream()),
        TokenTree::Literal(_) => false,
    })
}

/// Whether something is declared `static` in it, by the word or by `thread_local!`.
fn has_statics(tokens: TokenStream) -> bool {
    // `&'static str` has a lifetime of that name.
    let mut is_lifetime = false;
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(word) => {
            let found = (word == "static" && !is_lifetime) || word == "thread_local";
            is_lifetime = false;
            found
        }
        TokenTree::Punct(sign) => {
            is_lifetime = sign.as_char() == '\'';
            false
        }
        TokenTree::Group(group) => has_statics(group.stream()),
        TokenTree::Literal(_) => false,
    })
}

/// The names that an item gives.
fn provided(item: &Item) -> Vec<(String, Kind)> {
    let (name, kind) = match item {
        Item::Const(item) if item.ident == "_" => return Vec::new(),
        Item::Const(item) => (&item.ident, Kind::Constant),
        Item::Enum(item) => (&item.ident, Kind::Type),
        Item::Fn(item) => (&item.sig.ident, Kind::Function),
        Item::ForeignMod(item) => {
            let kind = |is_function| if is_function { Kind::Function } else { Kind::Static };
            return foreign(item).map(|each| (each.name, kind(each.is_function))).collect();
        }
        Item::Macro(item) => match &item.ident {
            Some(ident) => (ident, Kind::Macro),
            None => return Vec::new(),
        },
        Item::Mod(item) => (&item.ident, Kind::Module),
        Item::Static(item) => (&item.ident, Kind::Static),
        Item::Struct(item) => {
            let is_named = matches!(item.fields, syn::Fields::Named(_));
            (&item.ident, if is_named { Kind::Type } else { Kind::Constructor })
        }
        Item::Trait(item) => (&item.ident, Kind::Trait),
        Item::TraitAlias(item) => (&item.ident, Kind::Trait),
        Item::Type(item) => (&item.ident, Kind::Type),
        Item::Union(item) => (&item.ident, Kind::Type),
        _ => return Vec::new(),
    };
    vec![(name.to_string(), kind)]
}

/// The item as it is written, without attributes; a function up to its body.
fn header(item: &Item, text: &str) -> String {
    let range = match item {
        Item::Fn(item) => item.sig.span().byte_range(),
        item => {
            let all = item.span().byte_range();
            let ends = attributes(item).iter().map(|attribute| attribute.span().byte_range().end);
            ends.max().unwrap_or(all.start)..all.end
        }
    };
    let end = if matches!(item, Item::Fn(_)) { usize::MAX } else { HEADER_CHARACTERS };
    text.get(range).unwrap_or_default().trim().chars().take(end).collect()
}

/// Tokens as people space them: `impl < T > Add < & T >` reads `impl<T> Add<&T>`.
pub fn spaced(tokens: &str) -> String {
    let closer = [(" :: ", "::"), (" < ", "<"), ("< ", "<"), (" >", ">"), ("& ", "&"), (" ,", ",")];
    let text = closer.iter().fold(tokens.to_owned(), |text, (from, to)| text.replace(from, to));
    text.replace(" : ", ": ").replace(" ; ", "; ")
}

/// The text of its doc comments.
fn docs(item: &Item) -> String {
    let line = |attribute: &Attribute| match &attribute.meta {
        syn::Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    };
    attributes(item).iter().filter_map(line).collect::<Vec<_>>().join("\n")
}

pub(super) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::spaced;

    #[test]
    fn headers_are_spaced_as_people_write_them() {
        let check = |tokens: &str, read: &str| assert_eq!(spaced(tokens), read);
        check("impl < T : Clone > Add < & T > for [T ; 3]", "impl<T: Clone> Add<&T> for [T; 3]");
        check("impl PartialEq < i32 > for m :: Node", "impl PartialEq<i32> for m::Node");
        check(
            "impl < 'a , F > S < 'a > where F : Fn (& 'a u8) -> u8",
            "impl<'a, F> S<'a> where F: Fn (&'a u8) -> u8",
        );
    }
}
