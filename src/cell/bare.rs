//! An item without what makes no difference to what it is: documentation, blanks (tokens have
//! none), and the comma behind the last field.

use proc_macro2::Delimiter::Brace;
use proc_macro2::{Group, TokenStream, TokenTree};
use quote::ToTokens;
use syn::Item;

/// The tokens that decide what an item is.
pub(super) fn bare(item: &Item) -> TokenStream {
    // What a macro is called with may mean anything.
    let has_fields = matches!(item, Item::Struct(_) | Item::Enum(_) | Item::Union(_));
    without_words(item.to_token_stream(), has_fields)
}

fn without_words(tokens: TokenStream, has_fields: bool) -> TokenStream {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut kept = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let is_doc = is_sign(token, '#') && tokens.get(at + 1).is_some_and(documents);
        at += if is_doc { 2 } else { 1 };
        match token {
            _ if is_doc => (),
            TokenTree::Group(group) => {
                let mut inside: Vec<TokenTree> =
                    without_words(group.stream(), has_fields).into_iter().collect();
                let is_fields = has_fields && group.delimiter() == Brace;
                inside.pop_if(|last| is_fields && is_sign(last, ','));
                let inside = inside.into_iter().collect();
                kept.push(TokenTree::Group(Group::new(group.delimiter(), inside)));
            }
            other => kept.push(other.clone()),
        }
    }
    kept.into_iter().collect()
}

fn is_sign(token: &TokenTree, sign: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == sign)
}

/// `[doc = ".."]`, which `/// ..` is, too.
fn documents(token: &TokenTree) -> bool {
    let TokenTree::Group(group) = token else { return false };
    let mut inside = group.stream().into_iter();
    let is_doc = matches!(inside.next(), Some(TokenTree::Ident(word)) if word == "doc");
    is_doc && inside.next().is_some_and(|token| is_sign(&token, '='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_blanks_make_no_difference_and_all_else_does() {
        let read = |text: &str| bare(&syn::parse_str(text).expect("it is an item")).to_string();
        let plain = "struct A { x: u8, y: (u8,) }";
        let written =
            "/// Doc.\n#[doc = \"more\"] struct A {\n  /// x\n x: u8, // x\n y: (u8,),\n}";
        assert_eq!(read(plain), read(written));
        for other in [
            "struct A { x: u8, y: (u8) }",
            "#[doc(hidden)] struct A { x: u8, y: (u8,) }",
            "struct A { y: (u8,), x: u8 }",
        ] {
            assert_ne!(read(plain), read(other), "{other}");
        }
        let (one, other) = ("m! { A { a, } }", "m! { A { a } }");
        assert_ne!(read(one), read(other));
    }
}
