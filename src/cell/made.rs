//! Where the words of items come from that a macro made: from the arguments of its call, where the
//! user wrote them, or from the macro, for which the call itself stands.

use std::ops::Range;

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};
use serde::{Deserialize, Serialize};

/// A text that a call made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Where it stands, in the cell's text with all that was made.
    pub range: Range<usize>,
    /// The call, in the cell's text.
    pub call: Range<usize>,
    /// Words of the call's, in order: where they stand in what was made, and where in the cell.
    pub words: Vec<(Range<usize>, usize)>,
}

impl Made {
    /// `tokens` are what a call made, written as `text` at `start`. `of_call` is a place in the
    /// tokens of the call, which begins at `call`.
    pub(super) fn new(
        tokens: &TokenStream,
        text: &str,
        start: usize,
        of_call: Span,
        call: Range<usize>,
    ) -> Self {
        let (mut origins, mut places) = (Vec::new(), Vec::new());
        spans(tokens.clone(), &mut origins);
        spans(text.parse().unwrap_or_default(), &mut places);
        // rustc's tokens are cut in other ways than ours here and there.
        let pairs = origins.iter().zip(&places).take_while(|_| origins.len() == places.len());
        let words = pairs.filter_map(|(origin, place)| {
            // Only what stands in one text is joined.
            of_call.join(*origin)?;
            let (origin, place) = (origin.byte_range(), place.byte_range());
            let is_same = origin.len() == place.len() && !place.is_empty();
            is_same.then(|| (start + place.start..start + place.end, call.start + origin.start))
        });
        let words = words.collect();
        Self { range: start..start + text.len(), call, words }
    }
}

/// The place of each word and sign.
fn spans(tokens: TokenStream, all: &mut Vec<Span>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::None => {
                spans(group.stream(), all);
            }
            TokenTree::Group(group) => {
                all.push(group.span_open());
                spans(group.stream(), all);
                all.push(group.span_close());
            }
            other => all.push(other.span()),
        }
    }
}
