//! Completion: variables, items, magics and their options, keywords, methods of common types.
//! Works on a snapshot of names; never runs or compiles anything.
use std::collections::BTreeSet;

use super::magics::{self, Spec};
use super::seam::Names;
use super::words::{self, KEYWORDS, WORDS};
use crate::wire::jupyter::{CompleteReply, CompleteRequest, Completion};

/// More matches help nobody.
const MATCHES_MAX: usize = 500;

pub(super) fn complete(request: &CompleteRequest, names: &Names) -> CompleteReply {
    let chars: Vec<char> = request.code.chars().collect();
    let cursor = request.cursor_pos.unwrap_or(chars.len()).min(chars.len());
    let before = &chars[..cursor];
    let line_start = before.iter().rposition(|c| *c == '\n').map_or(0, |at| at + 1);
    let line: String = before[line_start..].iter().collect();
    if let Some((length, found)) = magic(&line) {
        return reply(cursor - length, cursor, found);
    }
    let word_length = before.iter().rev().take_while(|c| c.is_alphanumeric() || **c == '_').count();
    let start = cursor - word_length;
    let word: String = before[start..].iter().collect();
    let previous = before[..start].last().copied();
    let found = match previous {
        Some('.') => methods(&before[..start - 1], names),
        Some(':') => Vec::new(),
        _ => plain(names),
    };
    let found = found.into_iter().filter(|found| found.name.starts_with(&word)).collect();
    reply(start, cursor, found)
}

struct Found {
    name: String,
    kind: &'static str,
    signature: String,
}

fn found(name: impl Into<String>, kind: &'static str, signature: impl Into<String>) -> Found {
    Found { name: name.into(), kind, signature: signature.into() }
}

fn reply(start: usize, end: usize, found: Vec<Found>) -> CompleteReply {
    let mut seen = BTreeSet::new();
    let completions = found
        .into_iter()
        .filter(|found| seen.insert(found.name.clone()))
        .take(MATCHES_MAX)
        .map(|Found { name, kind, signature }| Completion {
            start,
            end,
            text: name,
            kind: kind.to_owned(),
            signature,
        })
        .collect();
    CompleteReply::new(start, end, completions)
}

/// On a magic's line: how many characters are to be replaced, and by what.
fn magic(line: &str) -> Option<(usize, Vec<Found>)> {
    let text = line.trim_start();
    let sign = ["%%", "%", ":"].into_iter().find(|sign| text.starts_with(sign))?;
    if text.starts_with("::") {
        return None;
    }
    let rest = &text[sign.len()..];
    let Some((name, arguments)) = rest.split_once(char::is_whitespace) else {
        let known = |spec: &&Spec| match sign {
            "%%" => spec.is_cell(),
            "%" => true,
            _ => spec.colon,
        };
        let matching = magics::MAGICS.iter().filter(known).filter(|s| s.name.starts_with(rest));
        let full = |spec: &Spec| {
            let sign = if sign == "%" && !spec.is_line() { "%%" } else { sign };
            found(format!("{sign}{}", spec.name), "magic", spec.summary)
        };
        return Some((text.chars().count(), matching.map(full).collect()));
    };
    let spec = magics::find(name)?;
    let word = arguments.rsplit(char::is_whitespace).next().unwrap_or_default();
    let length = word.chars().count();
    let previous = arguments[..arguments.len() - word.len()].trim_end();
    let previous = previous.rsplit(char::is_whitespace).next().unwrap_or_default();
    let mut all = Vec::new();
    if let Some(values) = values_of(spec, previous) {
        all.extend(values.map(|value| found(value, "value", "")));
    } else if word.starts_with('-') {
        for choice in spec.options {
            all.push(found(format!("--{}", choice.long), "option", choice.help));
            if !choice.short.is_empty() {
                all.push(found(format!("-{}", choice.short), "option", choice.help));
            }
        }
    } else if !spec.words.is_empty() {
        all.extend(spec.words.iter().map(|word| found(*word, "value", "")));
    } else if spec.name == "help" {
        all.extend(magics::MAGICS.iter().map(|spec| found(spec.name, "magic", spec.summary)));
    } else if !["dep", "env", "fmt", "writefile", "bash"].contains(&spec.name) {
        // What follows is code.
        return None;
    }
    all.retain(|found| found.name.starts_with(word) && found.name != "-" && found.name != "--n");
    Some((length, all))
}

/// The words an option's value can be, when `word` is that option.
fn values_of(spec: &Spec, word: &str) -> Option<impl Iterator<Item = &'static str> + use<>> {
    let choice = spec.options.iter().find(|choice| {
        word.strip_prefix("--").is_some_and(|long| long == choice.long)
            || (!choice.short.is_empty()
                && word.strip_prefix('-').is_some_and(|short| short == choice.short))
    })?;
    let values = match choice.value {
        "" => return None,
        "TARGETS" => "all|0",
        "SIGNAL" => "SIGINT|SIGTERM|SIGKILL",
        values if values.contains('|') => values,
        _ => "",
    };
    Some(values.split('|').filter(|value| !value.is_empty()))
}

/// What can follow the `.` behind `before`: methods of a variable's type, as far as it is known.
fn methods(before: &[char], names: &Names) -> Vec<Found> {
    let is_word = |c: &&char| c.is_alphanumeric() || **c == '_';
    let length = before.iter().rev().take_while(is_word).count();
    let name: String = before[before.len() - length..].iter().collect();
    if let Some(variable) = names.variables.iter().find(|variable| variable.name == name) {
        let methods = words::methods(&variable.type_text);
        return methods.map(|method| found(method, "function", &variable.type_text)).collect();
    }
    let starts_number = name.chars().next().is_some_and(|first| first.is_ascii_digit());
    if starts_number {
        return Vec::new();
    }
    // Behind a call the value is most often an iterator, a result or an option.
    let likely = ["Iterator", "Result", "Option", "Vec", "str"];
    let methods = likely.iter().flat_map(|name| words::methods(name));
    methods.map(|method| found(method, "function", "")).collect()
}

fn plain(names: &Names) -> Vec<Found> {
    let mut all = Vec::new();
    for variable in &names.variables {
        all.push(found(&variable.name, "instance", &variable.type_text));
    }
    for item in &names.items {
        let kind = match item.kind.as_str() {
            "fn" => "function",
            "struct" | "enum" | "union" | "trait" | "type" => "class",
            "mod" => "module",
            "macro" => "macro",
            _ => "instance",
        };
        all.push(found(&item.name, kind, &item.signature));
    }
    all.extend(names.crates.iter().map(|name| found(name, "module", "crate")));
    all.extend(WORDS.iter().map(|word| found(word.name, word.kind, word.about)));
    all.extend(KEYWORDS.iter().map(|keyword| found(*keyword, "keyword", "")));
    all.sort_by_key(|found| found.name.starts_with('_'));
    all
}

#[cfg(test)]
mod tests {
    use super::super::seam::{Item, Variable};
    use super::*;

    fn names() -> Names {
        let variable = |name: &str, type_text: &str| Variable {
            name: name.to_owned(),
            type_text: type_text.to_owned(),
            mutable: false,
            cell: "In[1]".to_owned(),
        };
        let item = Item {
            name: "is_prime".to_owned(),
            kind: "fn".to_owned(),
            signature: "fn is_prime(n: u64) -> bool".to_owned(),
            docs: String::new(),
            cell: "In[1]".to_owned(),
        };
        Names {
            variables: vec![variable("größe", "f64"), variable("values", "Vec<u64>")],
            items: vec![item],
            crates: vec!["rand".to_owned()],
        }
    }

    /// `|` is the cursor; the matches are separated by spaces.
    #[track_caller]
    fn check(marked: &str, expect: &str) {
        let cursor_pos = marked.chars().position(|c| c == '|');
        let request = CompleteRequest { code: marked.replacen('|', "", 1), cursor_pos };
        let reply = complete(&request, &names());
        assert_eq!(reply.matches.join(" "), expect, "{marked}");
        let prefix: String = request
            .code
            .chars()
            .skip(reply.cursor_start)
            .take(reply.cursor_end - reply.cursor_start)
            .collect();
        // One `%` may become two.
        let prefix = prefix.trim_start_matches('%');
        let fits = |found: &String| found.trim_start_matches('%').starts_with(prefix);
        assert!(reply.matches.iter().all(fits), "{prefix}");
    }

    #[test]
    fn names_of_the_session_are_completed() {
        check("is_pr|", "is_prime");
        check("let y = val| + 1;", "values");
        check("'ä'; gr|", "größe");
        check("ran|", "rand");
        check("let x = 1;\npri", "println! print!");
    }

    #[test]
    fn methods_follow_the_type() {
        check("values.pus|", "push");
        check("größe.pus|", "");
        check("f(x).unwrap_or_d|", "unwrap_or_default");
    }

    #[test]
    fn magics_and_options_are_completed() {
        check("%%p|", "%%px");
        check("%px_|", "%px_cancel %px_retry");
        check("1;\n  %writ|", "%%writefile");
        check(":va|", ":vars");
        check("%%px --targ|", "--targets");
        check("%%px --group-outputs e|", "engine");
        check("%cluster st|", "status start stop");
        check("%%px --targets a|", "all");
        check("%px is_pr|", "is_prime");
    }

    #[test]
    fn odd_cursors_do_not_panic() {
        for cursor_pos in [None, Some(0), Some(3), Some(999)] {
            complete(&CompleteRequest { code: "é.".to_owned(), cursor_pos }, &names());
        }
        for code in [".", "::", "%", "%%", ":", "-", "%px -", "% ", "%px "] {
            complete(&CompleteRequest { code: code.to_owned(), cursor_pos: None }, &names());
        }
    }
}
