//! What an `impl` is for, and how a type's own is written as a trait's.

use std::collections::BTreeSet;
use std::ops::Range;

use proc_macro2::{Group, TokenStream, TokenTree};
use quote::ToTokens;
use serde::{Deserialize, Serialize};
use syn::spanned::Spanned;
use syn::{ImplItem, ItemImpl, Type};

use super::item::{has_items, is_plain_signature};
use super::map::Edit;
use super::mentions;

/// What an `impl` is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImplRole {
    /// Everything up to the brace, normalised.
    pub header: String,
    /// The type, with `_` for what the impl is generic over.
    pub of_type: String,
    /// The first segment of the trait's path.
    pub of_trait: Option<String>,
    /// The types that may make it local, the type itself first: their paths' first segments. What
    /// the impl is generic over is `_`.
    pub subjects: Vec<String>,
    /// The wrapper that the orphan rule looks through, if the type is in one: `Box`, `Pin`. The
    /// user may have a type of that name.
    pub wrapper: Option<String>,
    /// Its members, by name.
    pub members: Vec<(String, Range<usize>)>,
    /// Those that may be part of what other types are: constants, and functions that a constant may
    /// call or that have a type of their own. An empty name is a macro's call.
    pub deciding: BTreeSet<String>,
    /// Those that have types and statics of their own inside.
    pub homes: BTreeSet<String>,
    /// What its constants, types and `const` functions say.
    pub deciding_words: BTreeSet<String>,
    /// What its header says.
    pub header_words: BTreeSet<String>,
    /// How an inherent impl is written as a trait's; `None` where it cannot be.
    pub extension: Option<Extension>,
}

/// An inherent impl as the impl of a trait of its own. `{}` stands for the trait's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    pub head: String,
    /// What it declares, in the order of the impl's members.
    pub declarations: Vec<String>,
    /// Those that are `const fn`, which no trait has: as a trait's, they run at run time only.
    pub constant: BTreeSet<String>,
    pub edits: Vec<Edit>,
}

impl ImplRole {
    pub fn has(&self, member: &str) -> bool {
        self.members.iter().any(|(name, _)| name == member)
    }

    /// Whether some type may have both impls. `is_same`: whether the paths of their types begin at
    /// the same item, by whatever name.
    pub fn may_overlap(&self, other: &Self, is_same: bool) -> bool {
        let has_arguments = |role: &Self| role.of_type.contains('<');
        if self.subjects.first() != other.subjects.first() {
            return is_same && !has_arguments(self) && !has_arguments(other);
        }
        let read = |role: &Self| syn::parse_str::<Type>(&role.of_type);
        match (read(self), read(other)) {
            (Ok(one), Ok(other)) => may_be_one(&one, &other),
            _ => self.header == other.header,
        }
    }

    /// Whether these of an inherent impl's members can be written as a trait's, and nobody misses
    /// anything.
    pub fn may_be_a_trait(&self, which: impl Fn(&str) -> bool) -> bool {
        self.extension.as_ref().is_some_and(|it| !it.constant.iter().any(|name| which(name)))
    }
}

pub(super) fn impl_role(item: &ItemImpl) -> ImplRole {
    let mut subjects: Vec<String> = head(&item.self_ty).into_iter().collect();
    let mut of_trait = None;
    if let Some((path, _)) = &item.trait_ {
        of_trait = path.segments.first().map(|segment| segment.ident.to_string());
        for segment in &path.segments {
            if let syn::PathArguments::AngleBracketed(arguments) = &segment.arguments {
                subjects.extend(arguments.args.iter().filter_map(|argument| match argument {
                    syn::GenericArgument::Type(argument) => head(argument),
                    _ => None,
                }));
            }
        }
    }
    let mut bare = item.clone();
    bare.items.clear();
    bare.attrs.clear();
    let members = item
        .items
        .iter()
        .filter_map(|member| Some((impl_member(member)?, member.span().byte_range())));
    let deciding = item.items.iter().filter(|member| !is_plain_member(member));
    let generic: Vec<String> = item
        .generics
        .params
        .iter()
        .map(|parameter| match parameter {
            syn::GenericParam::Type(parameter) => parameter.ident.to_string(),
            syn::GenericParam::Const(parameter) => parameter.ident.to_string(),
            syn::GenericParam::Lifetime(_) => String::new(),
        })
        .collect();
    let homes = item.items.iter().filter(|member| match member {
        ImplItem::Fn(method) => has_items(&method.block.to_token_stream()),
        _ => false,
    });
    let said = item.items.iter().filter(|member| has_constant(member));
    let said = said.flat_map(|member| mentions::mentions(member.to_token_stream()));
    let is_generic = |name: &String| generic.contains(name);
    subjects.iter_mut().filter(|name| is_generic(name)).for_each(|name| *name = "_".to_owned());
    let own = |words: BTreeSet<String>| -> BTreeSet<String> {
        words.into_iter().filter(|word| !is_generic(word)).collect()
    };
    ImplRole {
        wrapper: wrapper(&item.self_ty),
        homes: homes.filter_map(impl_member).collect(),
        deciding_words: own(said.collect()),
        of_type: open(item.self_ty.to_token_stream(), &generic).to_string(),
        deciding: deciding.map(|member| impl_member(member).unwrap_or_default()).collect(),
        header_words: own(mentions::mentions(bare.to_token_stream())),
        header: bare.to_token_stream().to_string(),
        of_trait,
        subjects,
        members: members.collect(),
        extension: if item.trait_.is_some() { None } else { extension(item) },
    }
}

/// Whether another type may be made of what a member is: hidden types cannot be said.
fn has_constant(member: &ImplItem) -> bool {
    match member {
        ImplItem::Fn(method) => method.sig.constness.is_some(),
        _ => true,
    }
}

/// Tokens with `_` in place of these names.
fn open(tokens: TokenStream, names: &[String]) -> TokenStream {
    let opened = tokens.into_iter().map(|token| match token {
        TokenTree::Ident(ident) if names.iter().any(|name| ident == name) => {
            TokenTree::Ident(proc_macro2::Ident::new("_", ident.span()))
        }
        TokenTree::Group(group) => {
            TokenTree::Group(Group::new(group.delimiter(), open(group.stream(), names)))
        }
        other => other,
    });
    opened.collect()
}

/// Whether one type may be both: `_` is any, and lifetimes do not count.
fn may_be_one(one: &Type, other: &Type) -> bool {
    match (one, other) {
        (Type::Infer(_), _) | (_, Type::Infer(_)) => true,
        (Type::Reference(one), Type::Reference(other)) => may_be_one(&one.elem, &other.elem),
        (Type::Paren(one), other) | (other, Type::Paren(one)) => may_be_one(&one.elem, other),
        (Type::Path(one), Type::Path(other)) => {
            let (one, other) = (&one.path.segments, &other.path.segments);
            one.len() == other.len()
                && one.iter().zip(other).all(|(one, other)| {
                    let (arguments, others) = (types_of(one), types_of(other));
                    one.ident == other.ident
                        && arguments.len() == others.len()
                        && arguments.iter().zip(others).all(|(one, other)| may_be_one(one, other))
                })
        }
        _ => one.to_token_stream().to_string() == other.to_token_stream().to_string(),
    }
}

/// The types, and constants, among a path's arguments.
fn types_of(segment: &syn::PathSegment) -> Vec<&Type> {
    let syn::PathArguments::AngleBracketed(arguments) = &segment.arguments else {
        return Vec::new();
    };
    let types = arguments.args.iter().filter_map(|argument| match argument {
        syn::GenericArgument::Type(argument) => Some(argument),
        _ => None,
    });
    types.collect()
}

/// `impl A { pub fn f(&self) {} }` as `trait X { fn f(&self); } impl X for A { fn f(&self) {} }`.
fn extension(item: &ItemImpl) -> Option<Extension> {
    let mut declarations = Vec::new();
    let mut constant = BTreeSet::new();
    let (for_all, arguments, bounds) = item.generics.split_for_impl();
    let at = item.self_ty.span().byte_range().start;
    let insert = format!("{{}}{} for ", arguments.to_token_stream());
    let mut edits = vec![Edit { at, remove: 0, insert }];
    for member in &item.items {
        let visibility = match member {
            ImplItem::Fn(method) => {
                let moved = moved_attributes(&method.attrs, &mut edits);
                let signature = declared(&method.sig).to_token_stream();
                declarations.push(format!("{moved}{signature};\n"));
                if let Some(word) = method.sig.constness {
                    let range = word.span().byte_range();
                    edits.push(Edit {
                        at: range.start,
                        remove: range.len(),
                        insert: String::new(),
                    });
                    constant.insert(method.sig.ident.to_string());
                }
                &method.vis
            }
            ImplItem::Const(constant) => {
                let (name, of) = (&constant.ident, constant.ty.to_token_stream());
                declarations.push(format!("const {name}: {of};\n"));
                &constant.vis
            }
            _ => return None,
        };
        if !matches!(visibility, syn::Visibility::Inherited) {
            let range = visibility.span().byte_range();
            edits.push(Edit { at: range.start, remove: range.len(), insert: String::new() });
        }
    }
    let generics = for_all.to_token_stream();
    let bounds = bounds.to_token_stream();
    // Its functions may give `Option<Self>`.
    let sized = if matches!(*item.self_ty, Type::TraitObject(_)) { "" } else { ": Sized" };
    let head =
        format!("#[allow(async_fn_in_trait)]\npub trait {{}}{generics}{sized} {bounds} {{\n");
    Some(Extension { head, declarations, constant, edits })
}

/// Attributes that a trait's declaration has in place of the impl's member, or beside it.
fn moved_attributes(attributes: &[syn::Attribute], edits: &mut Vec<Edit>) -> String {
    let mut moved = String::new();
    for attribute in attributes {
        let is_moved =
            ["must_use", "deprecated"].iter().any(|name| attribute.path().is_ident(name));
        if is_moved {
            let range = attribute.span().byte_range();
            edits.push(Edit { at: range.start, remove: range.len(), insert: String::new() });
        }
        if is_moved || attribute.path().is_ident("cfg") {
            moved.push_str(&format!("{}\n", attribute.to_token_stream()));
        }
    }
    moved
}

/// A signature as a trait may declare it: names instead of patterns.
pub(super) fn declared(signature: &syn::Signature) -> syn::Signature {
    let mut declared = syn::Signature { constness: None, ..signature.clone() };
    for (number, input) in declared.inputs.iter_mut().enumerate() {
        match input {
            syn::FnArg::Receiver(receiver) => receiver.mutability = None,
            syn::FnArg::Typed(typed) => {
                let name = quote::format_ident!("__prust_{number}");
                *typed.pat = syn::Pat::Ident(syn::PatIdent {
                    attrs: Vec::new(),
                    by_ref: None,
                    mutability: None,
                    ident: name,
                    subpat: None,
                });
            }
        }
    }
    declared
}

/// The first segment of the path that a type is, behind references and the wrappers that the
/// orphan rule looks through.
fn head(of: &Type) -> Option<String> {
    match of {
        Type::Reference(reference) => head(&reference.elem),
        Type::Paren(inner) => head(&inner.elem),
        Type::Group(inner) => head(&inner.elem),
        Type::TraitObject(object) => object.bounds.iter().find_map(|bound| match bound {
            syn::TypeParamBound::Trait(bound) => first_segment(&bound.path),
            _ => None,
        }),
        Type::Path(path) => {
            let last = path.path.segments.last()?;
            if let syn::PathArguments::AngleBracketed(arguments) = &last.arguments
                && WRAPPERS.iter().any(|wrapper| last.ident == wrapper)
                && let Some(syn::GenericArgument::Type(inner)) = arguments.args.first()
            {
                return head(inner);
            }
            first_segment(&path.path)
        }
        _ => None,
    }
}

/// The wrapper around what [`head`] gives.
fn wrapper(of: &Type) -> Option<String> {
    let Type::Path(path) = of else { return None };
    let last = path.path.segments.last()?.ident.to_string();
    let is_one = path.path.segments.len() == 1 && WRAPPERS.contains(&last.as_str());
    is_one.then_some(last)
}

/// What the orphan rule looks through.
const WRAPPERS: [&str; 2] = ["Box", "Pin"];

fn first_segment(path: &syn::Path) -> Option<String> {
    let roots = ["crate", "self"];
    let mut segments = path.segments.iter().map(|segment| segment.ident.to_string());
    segments.find(|segment| !roots.contains(&segment.as_str()))
}

pub(super) fn impl_member(member: &ImplItem) -> Option<String> {
    Some(match member {
        ImplItem::Fn(method) => method.sig.ident.to_string(),
        ImplItem::Const(constant) => constant.ident.to_string(),
        ImplItem::Type(alias) => alias.ident.to_string(),
        _ => return None,
    })
}

pub(super) fn is_plain_member(member: &ImplItem) -> bool {
    match member {
        ImplItem::Fn(method) => {
            method.sig.constness.is_none()
                && is_plain_signature(&method.sig)
                && !has_items(&method.block.to_token_stream())
        }
        _ => false,
    }
}
