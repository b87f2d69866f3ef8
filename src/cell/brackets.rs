//! Brackets that do not match. Within text of ours, rustc would match the user's brackets with
//! ours, and complain about one that nobody wrote: such a cell is given to it alone.

use proc_macro2::TokenStream;

use super::map::Source;
use super::rustc_json::Message;

/// The cell's text and nothing else, where its brackets may not match: it is no sequence of tokens.
pub fn alone(text: &str) -> Option<Source> {
    text.parse::<TokenStream>().err()?;
    let mut source = Source::default();
    source.user(text, 0..text.len());
    Some(source)
}

/// What rustc says of such a text, with the place where a bracket was opened that is not closed,
/// rather than the end of the text. `None` where it misses no bracket.
pub fn told(mut messages: Vec<Message>) -> Option<Vec<Message>> {
    let is_about = |message: &Message| TITLES.iter().any(|title| message.message.contains(title));
    if !messages.iter().any(is_about) {
        return None;
    }
    for message in messages.iter_mut().filter(|message| message.message.contains(UNCLOSED)) {
        message.spans.retain(|span| span.label.is_some());
        for span in &mut message.spans {
            span.is_primary = span.label.as_deref() == Some("unclosed delimiter");
        }
        let n_open = message.spans.iter().filter(|span| span.is_primary).count();
        message.message = match n_open {
            1 => "this bracket is not closed".to_owned(),
            _ => "the cell has unclosed brackets".to_owned(),
        };
    }
    Some(messages)
}

const UNCLOSED: &str = "this file contains an unclosed delimiter";

/// How rustc begins to speak of brackets.
const TITLES: [&str; 3] =
    [UNCLOSED, "mismatched closing delimiter: `", "unexpected closing delimiter: `"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_text_whose_brackets_may_not_match_stands_alone() {
        for text in ["f(", "f)", "(]", "}\nfn f() {", "let a = '(';\n\"{\"; r#\"}\"#; /* ( */ )"] {
            assert_eq!(alone(text).expect(text).text, text);
        }
        for text in
            ["let a = ;", "let c = '('; // )", "r#\"}\"#", "fn f<'a>() {} /* { */", "f(1) +"]
        {
            assert_eq!(alone(text), None, "{text}");
        }
    }

    fn message(title: &str, spans: &[(usize, Option<&str>)]) -> Message {
        let span = |(at, label): &(usize, Option<&str>)| {
            serde_json::json!({"file_name": "leaf.rs", "byte_start": at, "byte_end": at + 1,
                "is_primary": label.is_none(), "label": label, "suggested_replacement": null,
                "expansion": null})
        };
        let spans: Vec<_> = spans.iter().map(span).collect();
        let json = serde_json::json!({"message": title, "level": "error", "code": null,
            "spans": spans});
        serde_json::from_value(json).expect("the shape is rustc's")
    }

    #[test]
    fn a_bracket_that_is_not_closed_is_told_where_it_was_opened() {
        let maybe = "this delimiter might not be properly closed...";
        let spans = [(7, Some("unclosed delimiter")), (20, Some(maybe)), (90, None)];
        let told = told(vec![message(UNCLOSED, &spans)]).expect("it is about brackets");
        let primary = |span: &crate::cell::rustc_json::Span| (span.byte_start, span.is_primary);
        let spans: Vec<_> = told[0].spans.iter().map(primary).collect();
        assert_eq!(spans, [(7, true), (20, false)]);
        assert_eq!(told[0].message, "this bracket is not closed");
        let two = [(4, Some("unclosed delimiter")), (8, Some("unclosed delimiter")), (90, None)];
        let told = super::told(vec![message(UNCLOSED, &two)]).expect("it is about brackets");
        assert_eq!(told[0].message, "the cell has unclosed brackets");
    }

    #[test]
    fn what_else_is_wrong_is_told_only_beside_a_bracket() {
        let token = || message("unknown start of token: \\u{201c}", &[(0, None)]);
        assert!(told(vec![token()]).is_none());
        let surplus = message("unexpected closing delimiter: `]`", &[(4, None)]);
        let both = told(vec![token(), surplus]).expect("it is about brackets, too");
        assert!(both.len() == 2 && both[1].spans[0].is_primary);
    }
}
