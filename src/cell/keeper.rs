//! Where a variable gets the reference that it keeps. A cell's statements stand in a closure of
//! ours, and rustc tells of what that captures the first use only, whichever one lasts.

use std::ops::Range;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::{Expr, Local, Pat, Stmt};

use super::split::{declared, parse};

/// Where a reference begins that outlives its cell.
pub(super) struct Kept {
    /// The mention of what is borrowed.
    pub(super) at: Range<usize>,
    /// What is given to the variable that keeps it: a closure without the box around it.
    pub(super) value: Range<usize>,
    pub(super) is_mutable: bool,
    /// The cell declares the variable; else it is of an earlier one.
    pub(super) is_declared: bool,
}

/// Where `keeper` gets its reference to `owner` in a cell.
pub(super) fn kept(text: &str, keeper: &str, owner: &str) -> Option<Kept> {
    let (_, statements) = parse(text).ok()?;
    let cell = Cell { text, statements: &statements };
    cell.by_let(keeper, owner, statements.len()).or_else(|| cell.by_use(keeper, owner))
}

struct Cell<'a> {
    text: &'a str,
    statements: &'a [Stmt],
}

impl Cell<'_> {
    /// By the last `let` that declares it among the first `n` statements, or by those of the
    /// variables that this one is given.
    fn by_let(&self, keeper: &str, owner: &str, n: usize) -> Option<Kept> {
        let (index, pattern, value) = self.let_of(keeper, n)?;
        let (pattern, value) = part(pattern, value, keeper);
        let range = value.span().byte_range();
        let is_mutable = matches!(bare(pattern), Pat::Ident(ident) if ident.mutability.is_some());
        if let Some(at) = mention(self.tokens(&range)?, owner, range.start) {
            let value = stored(self.text, value, &at).span().byte_range();
            return Some(Kept { at, value, is_mutable, is_declared: true });
        }
        let given = self.through(self.tokens(&range)?, owner, index)?;
        Some(Kept { value: range, is_mutable, ..given })
    }

    /// By a statement that names both, as innermost as there is.
    fn by_use(&self, keeper: &str, owner: &str) -> Option<Kept> {
        let found = self.statements.iter().enumerate().find_map(|(index, statement)| {
            let range = statement.span().byte_range();
            let tokens = self.tokens(&range)?;
            if !says(&tokens, keeper) {
                return None;
            }
            let at = match says(&tokens, owner) {
                true => mention(innermost(tokens, keeper, owner), owner, range.start)?,
                false => self.through(tokens, owner, index)?.at,
            };
            Some((at, range))
        });
        let (at, value) = found?;
        Some(Kept { at, value, is_mutable: false, is_declared: false })
    }

    /// What one of the words of some tokens keeps, by its own `let`.
    fn through(&self, tokens: TokenStream, owner: &str, n: usize) -> Option<Kept> {
        let words = super::mentions::mentions(tokens);
        words.iter().find_map(|word| self.by_let(word, owner, n))
    }

    fn let_of(&self, keeper: &str, n: usize) -> Option<(usize, &Pat, &Expr)> {
        self.statements[..n].iter().enumerate().rev().find_map(|(index, statement)| {
            let Stmt::Local(Local { pat, init: Some(init), .. }) = statement else { return None };
            declares(pat, keeper).then_some((index, pat, &*init.expr))
        })
    }

    fn tokens(&self, range: &Range<usize>) -> Option<TokenStream> {
        self.text.get(range.clone())?.parse().ok()
    }
}

fn declares(pattern: &Pat, name: &str) -> bool {
    let mut names = Vec::new();
    declared(pattern, &mut names);
    names.iter().any(|(of, _)| of == name)
}

fn bare(pattern: &Pat) -> &Pat {
    match pattern {
        Pat::Type(typed) => bare(&typed.pat),
        Pat::Paren(paren) => bare(&paren.pat),
        pattern => pattern,
    }
}

/// Of a tuple, what stands where the name does.
fn part<'a>(pattern: &'a Pat, value: &'a Expr, name: &str) -> (&'a Pat, &'a Expr) {
    let (Pat::Tuple(names), Expr::Tuple(values)) = (bare(pattern), value) else {
        return (pattern, value);
    };
    let is_rest = |pattern: &Pat| matches!(pattern, Pat::Rest(_));
    let mut pairs = names.elems.iter().zip(&values.elems);
    match pairs.find(|(pattern, _)| declares(pattern, name)) {
        Some((pattern, value)) if !names.elems.iter().any(is_rest) => part(pattern, value, name),
        _ => (pattern, value),
    }
}

/// Where a stretch of a cell mentions a variable.
pub(super) fn mentioned(text: &str, within: &Range<usize>, name: &str) -> Option<Range<usize>> {
    mention(text.get(within.clone())?.parse().ok()?, name, within.start)
}

/// Methods of iterators that keep the closure which they are given.
const LAZY: [&str; 8] =
    ["map", "filter", "filter_map", "inspect", "map_while", "scan", "skip_while", "take_while"];

/// What is stored of an expression: what a box, an `Option` or a collection is made of, or the
/// closure of an iterator that uses a value and gives no reference to it.
fn stored<'a>(text: &str, value: &'a Expr, at: &Range<usize>) -> &'a Expr {
    let holds = |part: &&Expr| {
        let range = part.span().byte_range();
        range.start <= at.start && at.end <= range.end
    };
    let is_container = |called: &Expr| {
        let Expr::Path(path) = called else { return false };
        let last = path.path.segments.last().map(|segment| segment.ident.to_string());
        last.is_some_and(|last| ["new", "from", "pin", "Some", "Ok", "Err"].contains(&&*last))
    };
    let inner = match value {
        Expr::Call(call) if is_container(&call.func) => call.args.iter().find(holds),
        Expr::Tuple(tuple) => tuple.elems.iter().find(holds),
        Expr::Array(array) => array.elems.iter().find(holds),
        Expr::Struct(made) => made.fields.iter().map(|field| &field.expr).find(holds),
        Expr::Paren(paren) => Some(&*paren.expr),
        Expr::Cast(cast) => Some(&*cast.expr),
        Expr::MethodCall(call) if holds(&&*call.receiver) => {
            let inner = Some(stored(text, &call.receiver, at));
            inner.filter(|inner| matches!(inner, Expr::Closure(_) | Expr::Async(_)))
        }
        Expr::MethodCall(call) if LAZY.iter().any(|name| call.method == name) => {
            let closures = call.args.iter().filter(|part| matches!(part, Expr::Closure(_)));
            closures.into_iter().find(holds).filter(|_| is_value(text, at))
        }
        _ => None,
    };
    inner.map_or(value, |inner| stored(text, inner, at))
}

/// Whether a mention is neither borrowed nor a part or a method of it taken.
fn is_value(text: &str, at: &Range<usize>) -> bool {
    let follows = text[at.end..].trim_start();
    !text[..at.start].trim_end().ends_with('&') && !follows.starts_with(['.', '[', '?'])
}

fn says(tokens: &TokenStream, name: &str) -> bool {
    mention(tokens.clone(), name, 0).is_some()
}

/// Where `name` is said: where it is borrowed by `&`, or else first.
fn mention(tokens: TokenStream, name: &str, from: usize) -> Option<Range<usize>> {
    let mut all = Vec::new();
    collect(tokens, name, &mut all);
    let first = all.iter().find(|(_, is_borrowed)| *is_borrowed).or(all.first());
    first.map(|(at, _)| from + at.start..from + at.end)
}

fn collect(tokens: TokenStream, name: &str, all: &mut Vec<(Range<usize>, bool)>) {
    // The last two tokens: neither `x.name` nor `name!` is the variable.
    let mut before = [String::new(), String::new()];
    for token in tokens {
        let word = match token {
            TokenTree::Group(group) => {
                collect(group.stream(), name, all);
                String::new()
            }
            TokenTree::Ident(ident) => {
                let word = ident.to_string();
                if word == name && before[1] != "." {
                    let is_borrowed = before[1] == "&" || before == ["&", "mut"];
                    all.push((ident.span().byte_range(), is_borrowed));
                }
                word
            }
            token => token.to_string(),
        };
        before = [std::mem::take(&mut before[1]), word];
    }
}

/// The first statement, of those within a text, that names both.
fn innermost(tokens: TokenStream, keeper: &str, owner: &str) -> TokenStream {
    let both = |tokens: &TokenStream| says(tokens, keeper) && says(tokens, owner);
    let mut statement = Vec::new();
    let mut found = None;
    let ended = [TokenTree::from(proc_macro2::Punct::new(';', proc_macro2::Spacing::Alone))];
    for token in tokens.clone().into_iter().chain(ended) {
        if token.to_string() != ";" {
            statement.push(token);
            continue;
        }
        let whole: TokenStream = std::mem::take(&mut statement).into_iter().collect();
        let blocks = whole.clone().into_iter().find_map(|token| match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                Some(group.stream()).filter(both)
            }
            _ => None,
        });
        if let Some(block) = blocks {
            return innermost(block, keeper, owner);
        }
        if found.is_none() && both(&whole) {
            found = Some(whole);
        }
    }
    found.unwrap_or(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, keeper: &str, at: &str, value: &str) {
        let kept = kept(text, keeper, "v").expect("it is found");
        let marked = format!("{}[{}", &text[..kept.at.start], &text[kept.at.start..]);
        assert_eq!(marked, at);
        assert_eq!(&text[kept.value], value);
    }

    #[test]
    fn the_borrow_that_lasts_is_that_of_the_variable_which_keeps_it() {
        check(
            "let n = v.len(); let it = v.iter();",
            "it",
            "let n = v.len(); let it = [v.iter();",
            "v.iter()",
        );
        check(
            "let (n, s): (_, &[_]) = (v.len(), &v[v.len() - 1..]);",
            "s",
            "let (n, s): (_, &[_]) = (v.len(), &[v[v.len() - 1..]);",
            "&v[v.len() - 1..]",
        );
        check(
            "f(&v); let a = v.iter(); let b = a.map(f);",
            "b",
            "f(&v); let a = [v.iter(); let b = a.map(f);",
            "a.map(f)",
        );
        check(
            "let m = i.map(|x| x * v).fuse();",
            "m",
            "let m = i.map(|x| x * [v).fuse();",
            "|x| x * v",
        );
        let (text, at) = ("let m = i.map(|x| v.get(x));", "let m = i.map(|x| [v.get(x));");
        check(text, "m", at, "i.map(|x| v.get(x))");
        check("let f = Box::new(|x| v(x));", "f", "let f = Box::new(|x| [v(x));", "|x| v(x)");
    }

    #[test]
    fn a_variable_of_an_earlier_cell_keeps_what_a_statement_gives_it() {
        check(
            "p(v.len()); all.push(&v[0]);",
            "all",
            "p(v.len()); all.push(&[v[0]);",
            "all.push(&v[0]);",
        );
        let text = "for i in 0..v.len() { p(v.len()); all.push(&v[i]); }";
        check(text, "all", "for i in 0..v.len() { p(v.len()); all.push(&[v[i]); }", text);
        let text = "for x in &v { all.push(x) }";
        check(text, "all", "for x in &[v { all.push(x) }", text);
    }
}
