//! Inspection: what is known about the name at the cursor. Works on a snapshot of names; never
//! runs or compiles anything.
use super::magics;
use super::seam::{Item, Names, Variable};
use super::words::{self, Word};
use crate::wire::jupyter::{InspectReply, InspectRequest, Object, bundle};

pub(super) fn inspect(request: &InspectRequest, names: &Names) -> InspectReply {
    let chars: Vec<char> = request.code.chars().collect();
    let cursor = request.cursor_pos.unwrap_or(chars.len()).min(chars.len());
    let Some(word) = word_at(&chars, cursor) else { return InspectReply::new(None) };
    InspectReply::new(about(&word, names))
}

fn about(word: &str, names: &Names) -> Option<Object> {
    if let Some(name) = word.strip_prefix(['%', ':']) {
        let text = magics::help(Some(name)).ok()?;
        return Some(bundle([
            ("text/plain", text.as_str()),
            ("text/markdown", format!("```text\n{text}```").as_str()),
        ]));
    }
    let variable = names.variables.iter().rev().find(|variable| variable.name == word);
    if let Some(variable) = variable {
        return Some(about_variable(variable));
    }
    if let Some(item) = names.items.iter().rev().find(|item| item.name == word) {
        return Some(about_item(item));
    }
    words::find(word).map(about_word)
}

fn about_variable(variable: &Variable) -> Object {
    let mutable = if variable.mutable { "mut " } else { "" };
    let code = format!("let {mutable}{}: {}", variable.name, variable.type_text);
    described(&code, &format!("Defined in {}.", variable.cell))
}

fn about_item(item: &Item) -> Object {
    let docs = item.docs.trim();
    let origin = format!("Defined in {}.", item.cell);
    let text = if docs.is_empty() { origin } else { format!("{docs}\n\n{origin}") };
    described(&item.signature, &text)
}

fn about_word(word: &Word) -> Object {
    let mut text = word.about.to_owned();
    if !word.methods.is_empty() {
        text.push_str("\n\nMethods: ");
        text.push_str(&word.methods.split_whitespace().collect::<Vec<_>>().join(", "));
        text.push('.');
    }
    described(&format!("{} {}", word.kind, word.name), &text)
}

fn described(code: &str, text: &str) -> Object {
    bundle([
        ("text/plain", format!("{code}\n\n{text}").as_str()),
        ("text/markdown", format!("```rust\n{code}\n```\n\n{text}").as_str()),
    ])
}

/// The name around the cursor, or the one whose arguments the cursor is in; with a magic's sign,
/// or a macro's.
fn word_at(chars: &[char], cursor: usize) -> Option<String> {
    let is_word = |c: &char| c.is_alphanumeric() || *c == '_';
    let mut at = cursor;
    let inside = chars.get(at).is_some_and(is_word)
        || at.checked_sub(1).is_some_and(|before| is_word(&chars[before]));
    if !inside {
        // `foo(|` and `foo!(|` ask for foo; so does a sign before a name.
        let signs = |c: &&char| matches!(**c, '(' | '!' | ' ' | '?' | ')' | ';');
        at -= chars[..at].iter().rev().take_while(signs).count();
        let ahead = chars[at..].iter().take_while(|c| matches!(**c, '%' | ':')).count();
        at += ahead;
    }
    let start = at - chars[..at].iter().rev().take_while(|c| is_word(c)).count();
    let end = at + chars[at..].iter().take_while(|c| is_word(c)).count();
    if start == end {
        return None;
    }
    let mut word: String = chars[start..end].iter().collect();
    let line_start = chars[..start].iter().rposition(|c| *c == '\n').map_or(0, |at| at + 1);
    let prefix: String = chars[line_start..start].iter().collect();
    match prefix.trim() {
        "%" | "%%" => word.insert(0, '%'),
        ":" => word.insert(0, ':'),
        _ => (),
    }
    Some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `|` is the cursor; `expect` is in the plain text, or empty if nothing is to be found.
    #[track_caller]
    fn check(marked: &str, expect: &str) {
        let names = Names {
            variables: vec![Variable {
                name: "x".to_owned(),
                type_text: "Vec<u8>".to_owned(),
                mutable: true,
                cell: "In[2]".to_owned(),
            }],
            items: vec![Item {
                name: "prime".to_owned(),
                kind: "fn".to_owned(),
                signature: "fn prime(n: u64) -> bool".to_owned(),
                docs: "Whether n is one.".to_owned(),
                cell: "In[1]".to_owned(),
            }],
            crates: Vec::new(),
        };
        let cursor_pos = marked.chars().position(|c| c == '|');
        let code = marked.replacen('|', "", 1);
        let reply = inspect(&InspectRequest { code, cursor_pos, detail_level: 0 }, &names);
        let text = reply.data.get("text/plain").and_then(|text| text.as_str()).unwrap_or_default();
        assert_eq!(reply.found, !expect.is_empty(), "{marked}: {text}");
        assert!(text.contains(expect), "{marked}: {text}");
    }

    #[test]
    fn names_are_found_at_the_cursor_and_around_it() {
        check("x|", "let mut x: Vec<u8>");
        check("é; |x + 1", "Defined in In[2]");
        check("pr|ime(3)", "fn prime(n: u64) -> bool");
        check("prime(|", "Whether n is one.");
        check("prime", "fn prime");
        check("Vec|::new()", "growable array");
        check("println!(|", "Prints a line");
    }

    #[test]
    fn magics_are_explained() {
        check("%%p|x --targets 0", "--targets");
        check("|%vars", "list the variables");
        check("1;\n:de|p", "use a crate");
    }

    #[test]
    fn unknown_names_and_odd_cursors_find_nothing() {
        check("nobody|", "");
        check("|", "");
        check("((|", "");
        check("\"\" |", "");
    }
}
