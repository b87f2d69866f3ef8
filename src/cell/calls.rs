//! Where code names a member of a type: behind a dot, or behind a path. Text in, places out.

use std::ops::Range;

use proc_macro2::{Spacing, TokenStream, TokenTree};

use super::depth;

/// How a name stands in code.
enum Stands {
    /// `value.name(..)`.
    Called,
    /// `Type::name`, `Type::<u8>::name`, `<Type>::name`; the last name of the path's beginning.
    Behind(Option<String>),
    /// `fn name`, `const name`.
    Defined,
    Otherwise,
}

/// Whether `text` says `name` only behind a path that begins at none of ours: `Mutex::new`.
pub fn is_of_others(text: &str, name: &str, is_ours: impl Fn(&str) -> bool) -> bool {
    let mut all = true;
    let read = each(text, &mut |word, _, stands| {
        if word == name {
            all &= match stands {
                Stands::Behind(Some(head)) => !is_ours(&head),
                _ => false,
            };
        }
    });
    read && all
}

/// Where `text` names one of a type's members: calls by a value, of whichever type, and what stands
/// behind a path that is the type's.
pub fn calls(
    text: &str,
    is_member: impl Fn(&str) -> bool,
    is_type: impl Fn(&str) -> bool,
) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    each(text, &mut |word, place, stands| {
        let is_one = match stands {
            Stands::Called => true,
            Stands::Behind(head) => head.is_some_and(|head| is_type(&head)),
            Stands::Defined | Stands::Otherwise => false,
        };
        if is_one && is_member(word) {
            found.push(place);
        }
    });
    found
}

/// Where `text` defines functions and constants of these names.
pub fn definitions(text: &str, is_member: impl Fn(&str) -> bool) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    each(text, &mut |word, place, stands| {
        if matches!(stands, Stands::Defined) && is_member(word) {
            found.push(place);
        }
    });
    found
}

/// Shows every name of the text; false when it is no sequence of tokens.
fn each(text: &str, see: &mut dyn FnMut(&str, Range<usize>, Stands)) -> bool {
    let Some(tokens) = depth::tokens(text) else { return false };
    each_of(tokens, see);
    true
}

fn each_of(tokens: TokenStream, see: &mut dyn FnMut(&str, Range<usize>, Stands)) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => each_of(group.stream(), see),
            TokenTree::Ident(word) => {
                let stands = stands(&tokens[..at], &tokens[at + 1..]);
                see(&word.to_string(), token.span().byte_range(), stands);
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => (),
        }
    }
}

fn stands(before: &[TokenTree], after: &[TokenTree]) -> Stands {
    if let Some(path) = without(before, "::") {
        return Stands::Behind(head(path));
    }
    let is_call = match after.first() {
        Some(TokenTree::Group(_)) => true,
        _ => is(after, 0, ':') && is(after, 1, ':'),
    };
    if is_call && without(before, ".").is_some() && without(before, "..").is_none() {
        return Stands::Called;
    }
    match before.last() {
        Some(TokenTree::Ident(word)) if word == "fn" || word == "const" => Stands::Defined,
        _ => Stands::Otherwise,
    }
}

/// The last name before a path's `::`: with arguments behind it, or alone between `<` and `>`.
fn head(path: &[TokenTree]) -> Option<String> {
    match path.last()? {
        TokenTree::Ident(word) => Some(word.to_string()),
        TokenTree::Punct(sign) if sign.as_char() == '>' => {
            let begins = opens(path)?;
            let outside = &path[..begins];
            let outside = without(outside, "::").unwrap_or(outside);
            if let Some(TokenTree::Ident(word)) = outside.last() {
                return Some(word.to_string());
            }
            let inside = &path[begins + 1..path.len() - 1];
            let is_as = |token: &TokenTree| matches!(token, TokenTree::Ident(word) if word == "as");
            match inside.first() {
                Some(TokenTree::Ident(word)) if !inside.iter().any(is_as) => Some(word.to_string()),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Where the `<` stands that the last `>` closes.
fn opens(path: &[TokenTree]) -> Option<usize> {
    let mut depth = 0_usize;
    for at in (0..path.len()).rev() {
        let is_arrow = at > 0 && is(path, at - 1, '-');
        if is(path, at, '>') && !is_arrow {
            depth += 1;
        } else if is(path, at, '<') {
            depth = depth.checked_sub(1)?;
            if depth == 0 {
                return Some(at);
            }
        }
    }
    None
}

fn is(tokens: &[TokenTree], at: usize, letter: char) -> bool {
    matches!(tokens.get(at), Some(TokenTree::Punct(sign)) if sign.as_char() == letter)
}

/// What stands before these signs, which are written together.
fn without<'a>(tokens: &'a [TokenTree], signs: &str) -> Option<&'a [TokenTree]> {
    let begins = tokens.len().checked_sub(signs.len())?;
    let all = signs.chars().enumerate().all(|(number, letter)| {
        let is_last = number + 1 == signs.len();
        match &tokens[begins + number] {
            TokenTree::Punct(sign) => {
                sign.as_char() == letter && (is_last || sign.spacing() == Spacing::Joint)
            }
            _ => false,
        }
    });
    all.then(|| &tokens[..begins])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_behind_a_foreign_path_is_none_of_ours() {
        let check = |text: &str| is_of_others(text, "new", |head| head == "Config");
        assert!(check("Mutex::new(vec![OnceLock::new()])"));
        for text in ["Config::new()", "Mutex::new(new())", "c.new()", "f(Config::new)", "(new"] {
            assert!(!check(text), "{text}");
        }
    }

    #[test]
    fn a_types_members_are_found_where_they_are_named() {
        let found = |text: &'static str| -> Vec<&str> {
            let calls = calls(text, |name| name == "get", |head| head == "A");
            let begins = |at: usize| text[..at].rfind([' ', '(']).map_or(0, |before| before + 1);
            calls.into_iter().map(|place| &text[begins(place.start)..place.end]).collect()
        };
        assert_eq!(found("a.get(); A::get(&a); f(A::get)"), ["a.get", "A::get", "A::get"]);
        assert_eq!(found("A::<u8>::get(); <A>::get(); A::<Vec<u8>>::get()").len(), 3);
        assert_eq!(found("println!(\"{}\", a.get::<u8>())").len(), 1);
        for text in ["a.get", "get()", "B::get()", "<B as A>::get()", "0..get()", "<A as B>::get()"]
        {
            assert_eq!(found(text), [""; 0], "{text}");
        }
        let text = "impl A { fn get(&self) { get() } const get: u8 = 1; }";
        assert_eq!(definitions(text, |name| name == "get").len(), 2);
    }
}
