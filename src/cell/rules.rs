//! Plays `macro_rules!` on tokens, as rustc does it, but for hygiene: what it makes is to be
//! written out. Whatever is not understood gives nothing.

use std::collections::BTreeMap;

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream, Parser};
use syn::spanned::Spanned;

/// `(matcher) => { body }`
pub(super) struct Rule {
    pattern: Vec<Pattern>,
    body: TokenStream,
}

enum Pattern {
    Token(TokenTree),
    Group(Delimiter, Vec<Self>),
    /// Name and kind of fragment.
    Bind(String, String),
    /// What is repeated, between what, and `*`, `+` or `?`.
    Repeat(Vec<Self>, Option<TokenTree>, char),
}

/// What a name of a pattern stands for.
#[derive(Clone)]
enum Bound {
    One(TokenStream),
    Many(Vec<Self>),
}

type Bindings = BTreeMap<String, Bound>;

/// The rules of a `macro_rules!`, by what stands between its braces.
pub(super) fn read_rules(tokens: TokenStream) -> Option<Vec<Rule>> {
    let groups = tokens.into_iter().filter_map(|token| match token {
        TokenTree::Group(group) => Some(group.stream()),
        _ => None,
    });
    let groups: Vec<TokenStream> = groups.collect();
    let rules = groups.chunks_exact(2).map(|pair| {
        Some(Rule { pattern: read_pattern(&listed(&pair[0]))?, body: pair[1].clone() })
    });
    rules.collect()
}

pub(super) fn listed(tokens: &TokenStream) -> Vec<TokenTree> {
    tokens.clone().into_iter().collect()
}

fn is_punct(token: Option<&TokenTree>, letter: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == letter)
}

/// The separator and the operator of a repetition, and how many tokens they are.
fn repetition(tokens: &[TokenTree]) -> Option<(Option<TokenTree>, char, usize)> {
    let operator = |token: Option<&TokenTree>| match token {
        Some(TokenTree::Punct(punct)) => Some(punct.as_char()).filter(|it| "*+?".contains(*it)),
        _ => None,
    };
    match operator(tokens.first()) {
        Some(it) => Some((None, it, 1)),
        None => Some((tokens.first().cloned(), operator(tokens.get(1))?, 2)),
    }
}

fn read_pattern(tokens: &[TokenTree]) -> Option<Vec<Pattern>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match (token, tokens.get(at)) {
            (TokenTree::Punct(punct), Some(TokenTree::Ident(name))) if punct.as_char() == '$' => {
                let Some(TokenTree::Ident(kind)) = tokens.get(at + 2) else { return None };
                found.push(Pattern::Bind(name.to_string(), kind.to_string()));
                at += 3;
            }
            (TokenTree::Punct(punct), Some(TokenTree::Group(group))) if punct.as_char() == '$' => {
                let (separator, operator, n_tokens) = repetition(&tokens[at + 1..])?;
                let inner = read_pattern(&listed(&group.stream()))?;
                found.push(Pattern::Repeat(inner, separator, operator));
                at += 1 + n_tokens;
            }
            (TokenTree::Group(group), _) => {
                let inner = read_pattern(&listed(&group.stream()))?;
                found.push(Pattern::Group(group.delimiter(), inner));
            }
            _ => found.push(Pattern::Token(token.clone())),
        }
    }
    Some(found)
}

impl Rule {
    /// What a call becomes, if it is one of this rule's.
    pub(super) fn apply(&self, call: &TokenStream) -> Option<TokenStream> {
        let mut bindings = Bindings::new();
        let rest = matched(&self.pattern, listed(call), &mut bindings)?;
        if rest.is_empty() { written(&listed(&self.body), &bindings) } else { None }
    }
}

/// Matches the beginning of `input`; gives what is left of it.
fn matched(
    patterns: &[Pattern],
    mut input: Vec<TokenTree>,
    bindings: &mut Bindings,
) -> Option<Vec<TokenTree>> {
    for pattern in patterns {
        input = match pattern {
            Pattern::Token(token) => {
                let is_same = input.first()?.to_string() == token.to_string();
                is_same.then(|| input.split_off(1))?
            }
            Pattern::Group(delimiter, inner) => {
                let TokenTree::Group(group) = input.first()? else { return None };
                let inside = (group.delimiter() == *delimiter).then(|| listed(&group.stream()))?;
                if !matched(inner, inside, bindings)?.is_empty() {
                    return None;
                }
                input.split_off(1)
            }
            Pattern::Bind(name, kind) => {
                let (fragment, rest) = fragment(kind, input)?;
                bindings.insert(name.clone(), Bound::One(fragment));
                rest
            }
            Pattern::Repeat(inner, separator, operator) => {
                repeated(inner, separator.as_ref(), *operator, input, bindings)?
            }
        };
    }
    Some(input)
}

fn repeated(
    inner: &[Pattern],
    separator: Option<&TokenTree>,
    operator: char,
    mut input: Vec<TokenTree>,
    bindings: &mut Bindings,
) -> Option<Vec<TokenTree>> {
    let mut rounds: Vec<Bindings> = Vec::new();
    while !(input.is_empty() || operator == '?' && rounds.len() == 1) {
        let mut next = input.clone();
        if let Some(separator) = separator.filter(|_| !rounds.is_empty()) {
            if next[0].to_string() != separator.to_string() {
                break;
            }
            next.remove(0);
        }
        let mut round = Bindings::new();
        let Some(rest) = matched(inner, next, &mut round) else { break };
        if rest.len() == input.len() {
            break;
        }
        (input, _) = (rest, rounds.push(round));
    }
    if operator == '+' && rounds.is_empty() {
        return None;
    }
    for name in names(inner) {
        let all = rounds.iter().filter_map(|round| round.get(&name).cloned()).collect();
        bindings.insert(name, Bound::Many(all));
    }
    Some(input)
}

fn names(patterns: &[Pattern]) -> Vec<String> {
    let of = |pattern: &Pattern| match pattern {
        Pattern::Token(_) => Vec::new(),
        Pattern::Bind(name, _) => vec![name.clone()],
        Pattern::Group(_, inner) | Pattern::Repeat(inner, ..) => names(inner),
    };
    patterns.iter().flat_map(of).collect()
}

/// One fragment at the beginning of `input`, and the rest.
fn fragment(kind: &str, mut input: Vec<TokenTree>) -> Option<(TokenStream, Vec<TokenTree>)> {
    match kind {
        "ident" => parsed(input, Ident::parse_any),
        "ty" => parsed(input, syn::Type::parse),
        "path" => parsed(input, syn::Path::parse),
        "vis" => parsed(input, syn::Visibility::parse),
        "literal" => parsed(input, syn::Lit::parse),
        "lifetime" => parsed(input, syn::Lifetime::parse),
        "block" => parsed(input, syn::Block::parse),
        "item" => parsed(input, syn::Item::parse),
        "meta" => parsed(input, syn::Meta::parse),
        "pat" => parsed(input, syn::Pat::parse_multi_with_leading_vert),
        "pat_param" => parsed(input, syn::Pat::parse_single),
        "expr" => {
            let (tokens, rest) = parsed(input, syn::Expr::parse)?;
            let n_tokens = tokens.clone().into_iter().count();
            // What was one expression stays one, at its place.
            let group = || {
                let mut group = Group::new(Delimiter::Parenthesis, tokens.clone());
                group.set_span(tokens.span());
                TokenTree::Group(group)
            };
            Some((if n_tokens == 1 { tokens } else { group().into() }, rest))
        }
        "tt" => {
            let rest = (!input.is_empty()).then(|| input.split_off(1))?;
            Some((input.into_iter().collect(), rest))
        }
        _ => None,
    }
}

fn parsed<T: ToTokens>(
    input: Vec<TokenTree>,
    parse: impl FnOnce(ParseStream<'_>) -> syn::Result<T>,
) -> Option<(TokenStream, Vec<TokenTree>)> {
    let both = |stream: ParseStream<'_>| {
        let found = parse(stream)?.to_token_stream();
        Ok((found, stream.parse::<TokenStream>()?))
    };
    let (found, rest) = both.parse2(input.into_iter().collect()).ok()?;
    Some((found, listed(&rest)))
}

/// A macro's body with what its names stand for.
fn written(body: &[TokenTree], bindings: &Bindings) -> Option<TokenStream> {
    let mut text = TokenStream::new();
    let mut at = 0;
    while let Some(token) = body.get(at) {
        at += 1;
        let after = body.get(at).filter(|_| is_punct(Some(token), '$'));
        match (token, after) {
            (_, Some(TokenTree::Ident(name))) if name == "crate" => {
                text.extend([TokenTree::Ident(Ident::new("crate", Span::call_site()))]);
                at += 1;
            }
            (_, Some(TokenTree::Ident(name))) => {
                let Bound::One(tokens) = bindings.get(&name.to_string())? else { return None };
                text.extend(tokens.clone());
                at += 1;
            }
            (_, Some(TokenTree::Group(group))) => {
                let (separator, _, n_tokens) = repetition(&body[at + 1..])?;
                let inner = listed(&group.stream());
                for (number, round) in rounds(&inner, bindings)?.iter().enumerate() {
                    text.extend(separator.clone().filter(|_| number > 0));
                    text.extend(written(&inner, round)?);
                }
                at += 1 + n_tokens;
            }
            (TokenTree::Group(group), _) => {
                let inner = written(&listed(&group.stream()), bindings)?;
                text.extend([TokenTree::Group(Group::new(group.delimiter(), inner))]);
            }
            (_, Some(_)) => return None,
            (token, None) => text.extend([token.clone()]),
        }
    }
    Some(text)
}

/// What names stand for in each round of a repetition of `body`.
fn rounds(body: &[TokenTree], bindings: &Bindings) -> Option<Vec<Bindings>> {
    let mut said = Vec::new();
    variables(body, &mut said);
    let many = |name: &String| match bindings.get(name) {
        Some(Bound::Many(all)) => Some((name.clone(), all.clone())),
        _ => None,
    };
    let many: Vec<(String, Vec<Bound>)> = said.iter().filter_map(many).collect();
    let n_rounds = many.first()?.1.len();
    if many.iter().any(|(_, all)| all.len() != n_rounds) {
        return None;
    }
    let round = |number: usize| {
        let mut round = bindings.clone();
        round.extend(many.iter().map(|(name, all)| (name.clone(), all[number].clone())));
        round
    };
    Some((0..n_rounds).map(round).collect())
}

/// Every `$name` in a body.
fn variables(body: &[TokenTree], said: &mut Vec<String>) {
    for (index, token) in body.iter().enumerate() {
        match token {
            TokenTree::Group(group) => variables(&listed(&group.stream()), said),
            TokenTree::Ident(name) if index > 0 && is_punct(body.get(index - 1), '$') => {
                said.push(name.to_string());
            }
            _ => (),
        }
    }
}
