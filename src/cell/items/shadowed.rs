//! Methods that a type has by a trait, and by a new `impl` of its own under the same name: calls
//! mean the type's own from then on. Who does not fit that goes on with the trait's, by a name of
//! its own: a trait of ours gives it to whatever has the first.

use std::collections::BTreeSet;
use std::sync::Arc;

use quote::ToTokens;
use syn::{FnArg, GenericParam, ItemTrait, Receiver, ReceiverKind, Safety, TraitItem, TraitItemFn};

use super::advance::subjects;
use super::members::inherent;
use super::{Item, ItemId, Items, Sheet, by_macro, members};
use crate::cell::impls::declared;
use crate::cell::item::{self, Role};

/// The traits outside whose methods are called most, as far as cells say these.
const OUTSIDE: [(&str, &str); 10] = [
    ("::core::clone::Clone {", "fn clone(&self) -> Self;"),
    ("::std::string::ToString {", "fn to_string(&self) -> ::std::string::String;"),
    ("::core::default::Default: Sized {", "fn default() -> Self;"),
    (
        "::core::cmp::PartialEq<R: ?Sized> {",
        "fn eq(&self, other: &R) -> bool; fn ne(&self, other: &R) -> bool;",
    ),
    (
        "::core::cmp::PartialOrd<R: ?Sized> {",
        "fn partial_cmp(&self, other: &R) -> ::core::option::Option<::core::cmp::Ordering>;",
    ),
    ("::core::cmp::Ord {", "fn cmp(&self, other: &Self) -> ::core::cmp::Ordering;"),
    ("::core::iter::Iterator {", "fn next(&mut self) -> ::core::option::Option<Self::Item>;"),
    ("::core::convert::AsRef<R: ?Sized> {", "fn as_ref(&self) -> &R;"),
    ("::core::convert::Into<R> {", "fn into(self) -> R;"),
    ("::core::convert::From<R> {", "fn from(value: R) -> Self;"),
];

/// One of these, as it would be declared; and its path.
fn outside(number: usize) -> Option<(ItemTrait, &'static str)> {
    let (head, methods) = OUTSIDE[number];
    let path = head[..head.find(['<', ' '])?].trim_end_matches(':');
    let name = path.rsplit("::").next()?;
    let text = format!("trait {name}{} {methods} }}", &head[path.len()..]);
    Some((read(&text)?, path))
}

/// A trait whose methods new ones of a type's own hide.
#[derive(Debug)]
pub(super) struct Shadowed {
    /// One of the session's, or one of [`OUTSIDE`].
    of_trait: Result<ItemId, usize>,
    /// What the type is called.
    of_type: String,
    pub(super) names: BTreeSet<String>,
}

/// Finds the traits that were there before, and whose methods these new impls hide; and those that
/// are defined anew while somebody goes on with their methods so.
pub(super) fn find(items: &Items, old: &Items, new: &[ItemId]) -> Vec<Shadowed> {
    let mut found = again(items, old, new);
    for item in new.iter().map(|id| &items.all[id]) {
        let Some(role) = inherent(&item.piece.role) else { continue };
        let is_known = |id: &ItemId| old.all.contains_key(id) && items.all[id].is_current();
        let of = subjects(items, item);
        let Some(of_type) =
            role.subjects.first().filter(|_| !of.is_empty() && of.iter().all(is_known))
        else {
            continue;
        };
        // What was hidden before is not what anybody called.
        let hidden: BTreeSet<&str> = old
            .all
            .values()
            .filter(|before| before.is_current() && subjects(old, before) == of)
            .filter_map(|before| Some((before, inherent(&before.piece.role)?)))
            .flat_map(|(before, role)| role.members.iter().map(move |(name, _)| (before, name)))
            .filter(|(before, name)| !before.dropped.contains(*name))
            .map(|(_, name)| name.as_str())
            .collect();
        let mut shadow = |of_trait, methods: BTreeSet<&str>| {
            let names = methods.into_iter().filter(|name| role.has(name) && !hidden.contains(name));
            let names: BTreeSet<String> = names.map(str::to_owned).collect();
            if !names.is_empty() {
                found.push(Shadowed { of_trait, of_type: of_type.clone(), names });
            }
        };
        let traits = old
            .all
            .iter()
            .filter(|(id, it)| matches!(it.piece.role, Role::Trait { .. }) && is_known(id));
        for (id, of_trait) in traits {
            shadow(Ok(*id), of_trait.methods());
        }
        for number in 0..OUTSIDE.len() {
            let of_trait = outside(number).map(|(of_trait, _)| of_trait);
            let names: Vec<String> = of_trait.iter().flat_map(methods).map(named).collect();
            shadow(Err(number), names.iter().map(String::as_str).collect());
        }
    }
    found
}

/// New traits in the place of those that old definitions of ours stand for.
fn again(items: &Items, old: &Items, new: &[ItemId]) -> Vec<Shadowed> {
    let mut found = Vec::new();
    for past in old.all.values().filter(|past| stands_for_a_trait(past)) {
        let traits = new.iter().filter(|id| {
            let item = &items.all[*id];
            matches!(item.piece.role, Role::Trait { .. })
                && item.names().any(|name| past.refs.contains(name))
        });
        let Some(role) = inherent(&past.piece.role) else { continue };
        for id in traits {
            found.push(Shadowed {
                of_trait: Ok(*id),
                of_type: role.subjects.first().cloned().unwrap_or_default(),
                names: past.methods().into_iter().map(str::to_owned).collect(),
            });
        }
    }
    found
}

/// Whether an old definition gives the methods of a trait by names of their own.
pub(super) fn stands_for_a_trait(past: &Item) -> bool {
    past.is_past_trait()
        && inherent(&past.piece.role).is_some_and(|role| role.header.contains(SELF))
}

impl Shadowed {
    /// Whether an old definition gives these methods of the trait by names of their own already.
    pub(super) fn is_of(&self, items: &Items, past: &Item) -> bool {
        let Some((header, _)) = self.header(items) else { return false };
        let methods = past.methods();
        items.text(past).starts_with(&*header)
            && self.names.iter().all(|name| methods.contains(name.as_str()))
    }

    /// The trait's methods by names of their own: an old definition, for those who go on with it.
    pub(super) fn past(&self, items: &mut Items) -> Option<ItemId> {
        let (header, of_trait) = self.header(items)?;
        let path = self.path(&of_trait);
        let written = methods(&of_trait).filter(|it| self.names.contains(&named(it)));
        let written: String = written.map(|method| forwarded(method, &path)).collect();
        let text = format!("{header} {{ {written} }}");
        let parsed: syn::Item = syn::parse_str(&text).ok()?;
        let mut piece = item::read(&parsed, 0..text.len(), &text);
        let Role::Impl(role) = &mut piece.role else { return None };
        role.subjects = vec![self.of_type.clone()];
        role.of_type = of_trait.ident.to_string();
        if let Some(extension) = &mut role.extension {
            extension.head = extension.head.replacen(": Sized", &format!(": {path}"), 1);
        }
        let sheet = items.fresh();
        let known = self.of_trait.ok().map(|id| (id, items.all[&id].clone()));
        let around = known.as_ref().map(|(_, of)| (*items.sheets[&of.sheet]).clone());
        let mut around: Sheet = around.unwrap_or_default();
        let own = around.uses.drain(..).flat_map(|(_, imports)| imports);
        around.imports.extend(own);
        (around.key, around.text, around.made) = (String::new(), text, Vec::new());
        items.sheets.insert(sheet, Arc::new(around));
        let mut past = Item::of(sheet, piece);
        past.retired = true;
        past.renamed = true;
        let Some((id, known)) = known else {
            let past = items.insert(past);
            items.all.get_mut(&past).expect("it was inserted").unit = super::group::alone(past);
            return Some(past);
        };
        past.refs = known.refs.iter().cloned().chain(known.names().map(str::to_owned)).collect();
        past.pins = known.pins.clone();
        past.pins.extend(known.names().map(|name| (name.to_owned(), vec![id])));
        past.unit = known.unit;
        Some(items.insert(past))
    }

    fn header(&self, items: &Items) -> Option<(String, ItemTrait)> {
        let of_trait = match self.of_trait {
            Ok(id) => read(items.text(&items.all[&id]))?,
            Err(number) => outside(number)?.0,
        };
        let mut generics = of_trait.generics.clone();
        let is_lifetime = |it: &&GenericParam| matches!(it, GenericParam::Lifetime(_));
        let n_lifetimes = generics.params.iter().filter(is_lifetime).count();
        let is_reference = |it: &Receiver| matches!(it.kind, ReceiverKind::Reference(..));
        let by_value = methods(&of_trait)
            .filter(|it| self.names.contains(&named(it)))
            .any(|it| !it.sig.receiver().is_some_and(is_reference));
        let path = self.path(&of_trait);
        let bound = if by_value { path } else { format!("{path} + ?Sized") };
        let own = syn::parse_str(&format!("{SELF}: {bound}")).ok()?;
        generics.params.insert(n_lifetimes, own);
        let (parameters, _, bounds) = generics.split_for_impl();
        let (parameters, bounds) = (parameters.to_token_stream(), bounds.to_token_stream());
        Some((format!("impl {parameters} {SELF} {bounds}"), of_trait))
    }

    /// The trait, with its parameters.
    fn path(&self, of_trait: &ItemTrait) -> String {
        let (_, arguments, _) = of_trait.generics.split_for_impl();
        let name = match self.of_trait {
            Ok(_) => of_trait.ident.to_string(),
            Err(number) => outside(number).map_or(String::new(), |(_, path)| path.to_owned()),
        };
        format!("{name} {}", arguments.to_token_stream())
    }
}

/// Lets each of these earlier items go on with the traits' methods that it says.
pub(super) fn keep(items: &mut Items, shadowed: &[Shadowed], keepers: &BTreeSet<ItemId>) {
    for shadowed in shadowed {
        let wants = |id: &&ItemId| {
            let item = &items.all[*id];
            let mut known = members::past_traits(items, item);
            !items.said(item).is_disjoint(&shadowed.names)
                && !known.any(|past| shadowed.is_of(items, past))
        };
        let keepers: Vec<ItemId> = keepers.iter().filter(wants).copied().collect();
        if keepers.is_empty() {
            continue;
        }
        if let Some(past) = shadowed.past(items) {
            members::go_on_with(items, &keepers, past);
            keepers.iter().for_each(|keeper| by_macro::copy_macros(items, *keeper, past));
        }
    }
}

/// What has the trait.
const SELF: &str = "__PrustSelf";

fn read(text: &str) -> Option<ItemTrait> {
    syn::parse_str(text).ok()
}

fn methods(of_trait: &ItemTrait) -> impl Iterator<Item = &TraitItemFn> {
    of_trait.items.iter().filter_map(|item| match item {
        TraitItem::Fn(method) => Some(method),
        _ => None,
    })
}

fn named(method: &TraitItemFn) -> String {
    method.sig.ident.to_string()
}

/// A method that calls the trait's of the same name.
fn forwarded(method: &TraitItemFn, path: &str) -> String {
    let signature = declared(&method.sig);
    let handed: Vec<String> = signature
        .inputs
        .iter()
        .map(|input| match input {
            FnArg::Receiver(_) => "self".to_owned(),
            FnArg::Typed(typed) => typed.pat.to_token_stream().to_string(),
        })
        .collect();
    let call = format!("<Self as {path}>::{}({})", signature.ident, handed.join(", "));
    let call = if matches!(signature.safety, Safety::Unsafe(_)) {
        format!("unsafe {{ {call} }}")
    } else {
        call
    };
    let waits = if signature.asyncness.is_some() { ".await" } else { "" };
    format!("{} {{ {call}{waits} }} ", signature.to_token_stream())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_traits_outside_are_read() {
        for number in 0..OUTSIDE.len() {
            let (of_trait, path) = outside(number).expect("it is a trait");
            assert!(path.ends_with(&format!("::{}", of_trait.ident)), "{path}");
            assert!(methods(&of_trait).count() > 0, "{path}");
        }
    }
}
