//! What an item is generic over: by these names, it means nothing of the session's.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{GenericParam, Generics, Item};

/// The names of an item's type and constant parameters, but for those by which it may also mean a
/// function or a macro.
pub(super) fn own_names(item: &Item) -> Vec<String> {
    let Some(generics) = generics(item) else { return Vec::new() };
    let names = generics.params.iter().filter_map(|parameter| match parameter {
        GenericParam::Type(parameter) => Some(parameter.ident.to_string()),
        GenericParam::Const(parameter) => Some(parameter.ident.to_string()),
        GenericParam::Lifetime(_) => None,
    });
    let tokens = item.to_token_stream();
    names.filter(|name| !is_called(tokens.clone(), name)).collect()
}

fn generics(item: &Item) -> Option<&Generics> {
    match item {
        Item::Enum(item) => Some(&item.generics),
        Item::Fn(item) => Some(&item.sig.generics),
        Item::Impl(item) => Some(&item.generics),
        Item::Struct(item) => Some(&item.generics),
        Item::Trait(item) => Some(&item.generics),
        Item::Type(item) => Some(&item.generics),
        Item::Union(item) => Some(&item.generics),
        _ => None,
    }
}

/// Whether the name stands where a function's or a macro's does.
fn is_called(tokens: TokenStream, name: &str) -> bool {
    let mut is_name = false;
    tokens.into_iter().any(|token| {
        let was_name = std::mem::replace(&mut is_name, false);
        match token {
            TokenTree::Ident(word) => {
                is_name = word == name;
                false
            }
            TokenTree::Group(group) => {
                (was_name && group.delimiter() == Delimiter::Parenthesis)
                    || is_called(group.stream(), name)
            }
            TokenTree::Punct(sign) => was_name && sign.as_char() == '!',
            TokenTree::Literal(_) => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_nobody_elses_names() {
        let names = |text: &str| own_names(&syn::parse_str(text).expect("it is an item"));
        assert_eq!(names("impl<'a, T: Tr, const N: usize> Tr for [T; N] {}"), ["T", "N"]);
        assert_eq!(names("struct W<T>(T);"), ["T"]);
        assert_eq!(names("fn f<T, P>(t: T) -> i32 { P(3) }"), ["T"]);
        assert_eq!(names("fn f<T>(t: T) { T!() }"), [""; 0]);
        assert_eq!(names("static S: u8 = 1;"), [""; 0]);
    }
}
