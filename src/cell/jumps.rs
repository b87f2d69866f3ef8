//! `return`, `break` and `continue` that stand in no function and no loop of the user's: said in
//! the user's terms, as rustc would speak of the closure that we have put around the cell.

use std::ops::Range;

use syn::parse::Parser;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Block, Expr, ExprAsync, ExprClosure, Item};

use super::depth;
use super::split::Split;

/// A jump to nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Astray {
    pub at: Range<usize>,
    pub code: &'static str,
    pub message: &'static str,
    pub help: &'static str,
}

/// Finds the jumps of a cell that have no target in it.
pub fn astray(cell: &str, split: &Split) -> Vec<Astray> {
    let mut found = Vec::new();
    for range in split.statements.iter().chain(&split.value) {
        let text = &cell[range.clone()];
        if !["return", "break", "continue"].iter().any(|word| text.contains(word)) {
            continue;
        }
        if depth::too_deep(text).is_some() {
            continue;
        }
        if let Ok(statements) = Block::parse_within.parse_str(text) {
            let mut finder = Finder { from: range.start, loops: 0, found: &mut found };
            statements.iter().for_each(|statement| finder.visit_stmt(statement));
        }
    }
    found
}

struct Finder<'a> {
    from: usize,
    /// How many loops are around.
    loops: usize,
    found: &'a mut Vec<Astray>,
}

impl Finder<'_> {
    fn push(&mut self, at: Range<usize>, code: &'static str, message: &'static str) {
        let help = if code == "E0572" {
            "a cell runs to its end: put what depends on a condition in an `if` or a function; \
             `panic!(\"..\")`, or `?` on an error, ends the cell as failed"
        } else {
            "it stands in no loop of this cell"
        };
        let at = self.from + at.start..self.from + at.end;
        self.found.push(Astray { at, code, message, help });
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_expr(&mut self, expression: &'ast Expr) {
        match expression {
            Expr::Return(jump) => {
                let message = "`return` outside of a function";
                self.push(jump.return_token.span().byte_range(), "E0572", message);
            }
            Expr::Break(jump) if self.loops == 0 && jump.label.is_none() => {
                let message = "`break` outside of a loop";
                self.push(jump.break_token.span().byte_range(), "E0268", message);
            }
            Expr::Continue(jump) if self.loops == 0 && jump.label.is_none() => {
                let message = "`continue` outside of a loop";
                self.push(jump.continue_token.span().byte_range(), "E0268", message);
            }
            _ => (),
        }
        let in_loop = matches!(expression, Expr::Loop(_) | Expr::While(_) | Expr::ForLoop(_));
        self.loops += usize::from(in_loop);
        visit::visit_expr(self, expression);
        self.loops -= usize::from(in_loop);
    }

    // Functions and futures of the user's have their own ends.
    fn visit_expr_closure(&mut self, _: &'ast ExprClosure) {}

    fn visit_expr_async(&mut self, _: &'ast ExprAsync) {}

    fn visit_item(&mut self, _: &'ast Item) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(cell: &str, expected: &[&str]) {
        let found = astray(cell, &Split::read(cell));
        let words: Vec<&str> = found.iter().map(|jump| &cell[jump.at.clone()]).collect();
        assert_eq!(words, expected);
    }

    #[test]
    fn jumps_without_a_target_are_found_at_their_place() {
        check("let ö = 1;\nif ö == 1 { return; }", &["return"]);
        check("let Some(x) = None::<u8> else { return Ok(()) };", &["return"]);
        check("break; loop { break } continue", &["break", "continue"]);
    }

    #[test]
    fn jumps_with_a_target_are_left_alone() {
        check("let f = || { return 1; }; async { return 2; };", &[]);
        check("for _ in 0..1 { while true { break } continue }", &[]);
        check("let x = 'a: { if true { break 'a 1 } 2 }; fn f() { return; }", &[]);
    }
}
