//! Tests of [`super`]: text and blocks, cut into pieces anywhere.

use super::*;

fn decode(chunks: &[&[u8]]) -> Vec<Piece> {
    let mut decode = Decode::default();
    let mut pieces: Vec<Piece> = chunks.iter().flat_map(|chunk| decode.push(chunk)).collect();
    pieces.extend(decode.finish());
    pieces
}

/// What a person sees: neighbouring texts as one, displays in brackets.
fn seen(chunks: &[&[u8]]) -> String {
    let shown = |piece| match piece {
        Piece::Text(text) => text,
        Piece::Content(forms) => {
            let forms = forms.iter().map(|(mime, text)| format!("{mime} {text}"));
            format!("[{}]", forms.collect::<Vec<_>>().join("|"))
        }
    };
    decode(chunks).into_iter().map(shown).collect()
}

/// The same wherever the text is cut in two.
#[track_caller]
fn check(text: &str, expect: &str) {
    for cut in 0..text.len() {
        let (left, right) = text.as_bytes().split_at(cut);
        assert_eq!(seen(&[left, right]), expect, "cut at {cut}");
    }
}

fn block(mime: &str, content: &str) -> String {
    format!("{BEGIN}{mime}\n{content}\n{END}\n")
}

#[test]
fn a_partial_line_is_given_out_at_once() {
    assert_eq!(Decode::default().push(b"50%"), [Piece::Text("50%".into())]);
    // Also when it ends as a marker begins, but for a moment at the start of a line.
    let mut decode = Decode::default();
    assert_eq!(decode.push(b"ONE"), [Piece::Text("ONE".into())]);
    assert_eq!(decode.push(b"\nE"), [Piece::Text("\n".into())]);
    assert!(decode.waits());
    assert_eq!(decode.release(), [Piece::Text("E".into())]);
    assert_eq!(decode.push(b"E"), [Piece::Text("E".into())]);
}

#[test]
fn content_blocks_are_taken_out_wherever_the_chunks_are_cut() {
    let html = block("text/html", "<b>é</b>\n<i>y</i>");
    let html = html.replace('é', "e");
    check(&format!("before\n{html}after"), "before\n[text/html <b>e</b>\n<i>y</i>]after");
    let empty = format!("{BEGIN}text/html; charset=utf-8\n{END}\n");
    check(
        &format!("{empty}{html}{html}"),
        &format!("[text/html ]{0}{0}", seen(&[html.as_bytes()])),
    );
}

#[test]
fn a_block_may_begin_after_text_without_a_newline() {
    let text = format!("drawing .. {}done", block("image/png", "eA=="));
    assert_eq!(seen(&[text.as_bytes()]), "drawing .. [image/png eA==]done");
    let words = format!("a block begins with `{BEGIN}` and a type, {BEGIN}text/html say\nor so\n");
    check(&words, &words);
}

#[test]
fn a_plain_form_belongs_to_the_richer_one_that_follows_at_once() {
    let (plain, html) = (block("text/plain", "1"), block("text/html", "<b>1</b>"));
    check(&format!("{plain}{html}"), "[text/html <b>1</b>|text/plain 1]");
    check(&format!("{html}{plain}"), "[text/html <b>1</b>][text/plain 1]");
    check(&format!("{plain}{plain}{html}{html}"), {
        "[text/plain 1][text/html <b>1</b>|text/plain 1][text/html <b>1</b>]"
    });
    check(&format!("{plain}text\n{html}"), "[text/plain 1]text\n[text/html <b>1</b>]");
    // Alone it is seen at once, or nearly.
    let mut decode = Decode::default();
    assert_eq!(decode.push(plain.as_bytes()), []);
    assert!(decode.waits());
    assert_eq!(decode.release(), [plain_content("1".to_owned())]);
    assert!(!decode.waits());
}

#[test]
fn an_empty_line_of_the_block_itself_is_not_shown_below_it() {
    let html = block("text/html", "1");
    check(&format!("{html}\n{html}\n\nafter\n\n"), "[text/html 1][text/html 1]\nafter\n\n");
}

#[test]
fn the_last_line_of_a_block_may_lack_its_newline() {
    let html = block("text/html", "<b>1</b>");
    check(html.trim_end(), "[text/html <b>1</b>]");
}

#[test]
fn what_never_becomes_a_block_is_text() {
    for text in [
        format!("{BEGIN}text/html\n<b>"),
        format!("{BEGIN}text/html\n{END} and more\n"),
        format!("{BEGIN}text/html"),
        format!("{BEGIN}words\n{END}\n"),
        format!("{END}\nEVCXR_"),
        format!("E\nEV\nEVCXR_BEGIN_CONTENT{BEGIN}"),
        BEGIN.repeat(3),
    ] {
        check(&text, &text);
    }
    // Within a block everything is its content.
    let html = block("text/html", "<b>1</b>");
    check(
        &format!("{BEGIN}text/markdown\n{html}"),
        &format!("[text/markdown {}]", {
            html.strip_suffix(&format!("\n{END}\n")).expect("it ends so")
        }),
    );
}

#[test]
fn a_block_that_does_not_end_is_held_up_to_a_limit_and_read_once() {
    let mut decode = Decode::default();
    let line = [b'x'; 1 << 16];
    let mut given = 0;
    decode.push(format!("{BEGIN}text/html\n").as_bytes());
    for _ in 0..=BLOCK_BYTES_MAX / line.len() {
        assert!(decode.held.len() <= BLOCK_BYTES_MAX);
        for piece in decode.push(&line) {
            let Piece::Text(text) = piece else { panic!("it is no block") };
            given += text.len();
        }
    }
    assert!(given > BLOCK_BYTES_MAX && decode.block.is_none());
}
