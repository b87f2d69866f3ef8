//! The edits that make an item reachable from other crates: `pub` where nothing stands, `pub` for
//! `pub(crate)`. What is private inside a user's own `mod` stays so; what its crate, or the cell
//! around it, may see there is public: other cells are other crates.

use std::ops::Range;

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::parse::{ParseStream, Parser};
use syn::spanned::Spanned;
use syn::{Attribute, Field, Fields, ImplItem, Item, ItemForeignMod, Visibility};

use super::map::Edit;
use super::shared_macros;

/// Adds the edits for one top-level item.
pub(super) fn publish(item: &Item, text: &str, edits: &mut Vec<Edit>) {
    match item {
        Item::Const(item) => show(&item.vis, item.const_token.span.byte_range(), edits),
        Item::Enum(item) => show(&item.vis, item.enum_token.span.byte_range(), edits),
        Item::Fn(item) => show(&item.vis, item.sig.span().byte_range(), edits),
        Item::Mod(item) => {
            let first = item.unsafety.map_or(item.mod_token.span, |unsafety| unsafety.span);
            show(&item.vis, first.byte_range(), edits);
            if let Some((_, content)) = &item.content {
                let inside = content.iter().map(ToTokens::to_token_stream);
                inside.for_each(|tokens| within(tokens, 1, edits));
                shared_macros::show(item, text, edits);
            }
        }
        Item::Static(item) => show(&item.vis, item.static_token.span.byte_range(), edits),
        Item::Struct(item) => {
            show(&item.vis, item.struct_token.span.byte_range(), edits);
            fields(&item.fields, edits);
        }
        Item::Trait(item) => {
            let unsafety = item.unsafety.map(|token| token.span);
            let first = unsafety.unwrap_or(item.trait_token.span);
            show(&item.vis, first.byte_range(), edits);
        }
        Item::Type(item) => show(&item.vis, item.type_token.span.byte_range(), edits),
        Item::Union(item) => {
            show(&item.vis, item.union_token.span.byte_range(), edits);
            item.fields.named.iter().for_each(|each| field(each, edits));
        }
        Item::ForeignMod(item) => {
            foreign(item).for_each(|each| show(&each.visibility, each.first_token, edits));
        }
        Item::Impl(item) if item.trait_.is_none() => {
            item.items.iter().for_each(|each| impl_item(each, edits));
        }
        Item::Macro(item) if item.ident.is_some() => {
            let at = item.mac.path.span().byte_range().start;
            let exported = item.attrs.iter().any(|attr| attr.path().is_ident("macro_export"));
            if !exported {
                edits.push(Edit { at, remove: 0, insert: "#[macro_export] ".into() });
            }
        }
        _ => (),
    }
}

/// Makes public what a module shows its crate, or what is around it. `depth`: how many modules are
/// around.
fn within(tokens: TokenStream, depth: usize, edits: &mut Vec<Edit>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let is_word = |at: usize, words: &[&str]| match tokens.get(at) {
        Some(TokenTree::Ident(word)) => words.iter().any(|each| word == each),
        _ => false,
    };
    for (at, token) in tokens.iter().enumerate() {
        let TokenTree::Group(group) = token else { continue };
        let is_module = at >= 2 && is_word(at - 2, &["mod"]);
        if at == 0 || !is_word(at - 1, &["pub"]) {
            within(group.stream(), depth + usize::from(is_module), edits);
            continue;
        }
        let said = group.stream().to_string();
        let is_shown = ["crate", "in crate"].contains(&&*said) || (said == "super" && depth == 1);
        if is_shown {
            let range = token.span().byte_range();
            edits.push(Edit { at: range.start, remove: range.len(), insert: String::new() });
        }
    }
}

/// What an `extern` block declares.
pub(super) struct Foreign {
    pub(super) name: String,
    pub(super) is_function: bool,
    visibility: Visibility,
    first_token: Range<usize>,
}

/// The functions, statics and types that an `extern` block declares. Read by their tokens: some
/// forms (`safe fn`) are known to rustc alone.
pub(super) fn foreign(block: &ItemForeignMod) -> impl Iterator<Item = Foreign> + '_ {
    block.items.iter().filter_map(|item| {
        let declared = |input: ParseStream<'_>| {
            input.call(Attribute::parse_outer)?;
            Ok((input.parse::<Visibility>()?, input.parse::<TokenStream>()?))
        };
        let (visibility, tokens) = declared.parse2(item.to_token_stream()).ok()?;
        let first_token = tokens.clone().into_iter().next()?.span().byte_range();
        let words = tokens.into_iter().map(|token| token.to_string());
        let mut words = words.skip_while(|word| !["fn", "static", "type"].contains(&&**word));
        let is_function = words.next()? == "fn";
        let name = words.find(|word| word != "mut")?;
        Some(Foreign { name, is_function, visibility, first_token })
    })
}

fn fields(all: &Fields, edits: &mut Vec<Edit>) {
    all.iter().for_each(|each| field(each, edits));
}

fn field(each: &Field, edits: &mut Vec<Edit>) {
    let first = match &each.ident {
        Some(ident) => ident.span().byte_range(),
        None => each.ty.span().byte_range(),
    };
    show(&each.vis, first, edits);
}

fn impl_item(each: &ImplItem, edits: &mut Vec<Edit>) {
    match each {
        ImplItem::Const(item) => show(&item.vis, item.const_token.span.byte_range(), edits),
        ImplItem::Fn(item) => show(&item.vis, item.sig.span().byte_range(), edits),
        ImplItem::Type(item) => show(&item.vis, item.type_token.span.byte_range(), edits),
        _ => (),
    }
}

fn show(visibility: &Visibility, first_token: Range<usize>, edits: &mut Vec<Edit>) {
    match visibility {
        Visibility::Public(_) => (),
        Visibility::Restricted(restricted) => {
            let range = restricted.span().byte_range();
            edits.push(Edit { at: range.start, remove: range.len(), insert: "pub".into() });
        }
        Visibility::Inherited => {
            edits.push(Edit { at: first_token.start, remove: 0, insert: "pub ".into() });
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::cell::map::Source;
    use crate::cell::split::Split;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let split = Split::read(text);
        let mut source = Source::default();
        source.user_edited(text, split.items[0].range.clone(), &split.items[0].edits);
        assert_eq!(source.text, expected);
    }

    #[test]
    fn items_fields_and_methods_become_public() {
        check("async fn f() {}", "pub async fn f() {}");
        check(
            "#[derive(Debug)] struct S { a: u8, pub(crate) b: u8 }",
            "#[derive(Debug)] pub struct S { pub a: u8, pub b: u8 }",
        );
        check("struct T(u8, pub u8);", "pub struct T(pub u8, pub u8);");
        check(
            "impl S { fn f() {} const C: u8 = 1; }",
            "impl S { pub fn f() {} pub const C: u8 = 1; }",
        );
    }

    #[test]
    fn trait_impls_enums_and_modules_keep_their_insides() {
        check("impl D for S { fn f() {} }", "impl D for S { fn f() {} }");
        check("enum E { A { x: u8 } }", "pub enum E { A { x: u8 } }");
        check("mod m { fn private() {} }", "pub mod m { fn private() {} }");
        check(
            "mod m { pub(crate) fn f() {} pub(super) struct S { pub(crate) x: u8 } mod n { \
             pub(super) fn g() {} pub(in crate) fn h() {} } struct T(pub (crate::S)); }",
            "pub mod m { pub fn f() {} pub struct S { pub x: u8 } mod n { \
             pub(super) fn g() {} pub fn h() {} } struct T(pub (crate::S)); }",
        );
        check(
            "mod m { macro_rules! own { () => {} } pub(crate) use own; pub(crate) use super::f; }",
            "pub mod m { macro_rules! own { () => {} }\n\
             #[macro_export] macro_rules! __prust_m_own { () => {} }\n \
             pub use __prust_m_own as own; pub use super::f; }",
        );
    }

    #[test]
    fn what_an_extern_block_declares_becomes_public() {
        check(
            "unsafe extern \"C\" { fn abs(x: i32) -> i32; /// Said.\n safe fn sin(x: f64); \
             pub(crate) static mut environ: *const u8; pub fn f(); }",
            "unsafe extern \"C\" { pub fn abs(x: i32) -> i32; /// Said.\n pub safe fn sin(x: f64); \
             pub static mut environ: *const u8; pub fn f(); }",
        );
    }

    #[test]
    fn macros_are_exported() {
        check("macro_rules! m { () => {} }", "#[macro_export] macro_rules! m { () => {} }");
    }
}
