//! The words of a magic's line: options by the table, then arguments. Never knows what they mean.
use super::table::{Choice, Spec};
use crate::cell::similar::distance;

/// A line's words, with their options recognised.
#[derive(Debug, Default)]
pub(super) struct Words {
    pub(super) options: Vec<(&'static str, String)>,
    /// What follows the options, quotes removed.
    pub(super) arguments: Vec<String>,
    /// The same as it was written.
    pub(super) rest: String,
}

impl Words {
    pub(super) fn has(&self, long: &str) -> bool {
        self.options.iter().any(|(name, _)| *name == long)
    }

    /// The last value given to an option.
    pub(super) fn value(&self, long: &str) -> Option<&str> {
        let same = self.options.iter().rev().find(|(name, _)| *name == long);
        same.map(|(_, value)| value.as_str())
    }
}

/// Reads options up to the first argument (`options_first`, for magics that take code) or
/// anywhere. The error is a sentence about the option.
pub(super) fn read(spec: &Spec, text: &str, options_first: bool) -> Result<Words, String> {
    let mut words = Words { rest: text.trim().to_owned(), ..Words::default() };
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (word, after) = next_word(rest)?;
        let negative = word.strip_prefix('-').is_some_and(|digits| digits.parse::<u64>().is_ok());
        let is_option = word.len() > 1 && word.starts_with('-') && !negative;
        if word == "--" {
            words.rest = after.trim().to_owned();
            rest = after;
            while !rest.is_empty() {
                let (word, after) = next_word(rest)?;
                words.arguments.push(word);
                rest = after;
            }
            break;
        }
        if !is_option {
            if options_first {
                words.rest = rest.trim_end().to_owned();
                break;
            }
            words.arguments.push(word);
            rest = after;
            continue;
        }
        rest = option(spec, &word, after, &mut words)?;
        if options_first {
            words.rest = rest.trim().to_owned();
        }
    }
    Ok(words)
}

fn option<'a>(
    spec: &Spec,
    word: &str,
    after: &'a str,
    words: &mut Words,
) -> Result<&'a str, String> {
    let (name, mut given) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (word, None),
    };
    let mut choice = find(spec, name);
    // `-t0` and `-n4`: a short option with its value attached.
    if choice.is_none()
        && !name.starts_with("--")
        && let Some((split, _)) = name.char_indices().nth(2)
        && let Some(short) = find(spec, &name[..split]).filter(|short| !short.value.is_empty())
    {
        given = Some(word[split..].to_owned());
        choice = Some(short);
    }
    let Some(choice) = choice else { return Err(unknown(spec, name)) };
    if choice.value.is_empty() {
        if given.is_some() {
            return Err(format!("option {name} of %{} takes no value", spec.name));
        }
        words.options.push((choice.long, String::new()));
        return Ok(after);
    }
    if let Some(value) = given {
        words.options.push((choice.long, value));
        return Ok(after);
    }
    if after.is_empty() {
        return Err(format!("option {name} of %{} needs a value: {}", spec.name, choice.value));
    }
    let (value, after) = next_word(after)?;
    words.options.push((choice.long, value));
    Ok(after)
}

fn find(spec: &Spec, word: &str) -> Option<&'static Choice> {
    match word.strip_prefix("--") {
        Some(long) => spec.options.iter().find(|choice| choice.long == long),
        None => {
            let short = word.strip_prefix('-')?;
            spec.options.iter().find(|choice| !choice.short.is_empty() && choice.short == short)
        }
    }
}

fn unknown(spec: &Spec, word: &str) -> String {
    let known: Vec<String> =
        spec.options.iter().map(|choice| format!("--{}", choice.long)).collect();
    let hint = match nearest(word, known.iter().map(String::as_str)) {
        Some(near) => format!("; did you mean {near}?"),
        None if known.is_empty() => "; it takes no options".to_owned(),
        None => format!("; it has {}", known.join(", ")),
    };
    format!("%{} has no option {word}{hint}", spec.name)
}

/// The first word, quotes removed, and what follows it (leading space removed).
fn next_word(text: &str) -> Result<(String, &str), String> {
    let mut word = String::new();
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => word.push(c),
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c.is_whitespace() => return Ok((word, text[at..].trim_start())),
            None => word.push(c),
        }
    }
    match quote {
        Some(open) => Err(format!("the quote {open} is never closed")),
        None => Ok((word, "")),
    }
}

/// The known word that was probably meant.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distances = known.map(|candidate| (distance(word, candidate), candidate));
    let (distance, candidate) = distances.min_by_key(|(distance, _)| *distance)?;
    let length = word.trim_start_matches('-').chars().count();
    let near = distance <= 1 + length / 3;
    (near || (length >= 2 && candidate.starts_with(word))).then_some(candidate)
}
