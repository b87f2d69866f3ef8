//! The forms of a display as frontends can read them: what says it is an image must be base64, or
//! the page shows a broken one and the notebook can no longer be converted. Text in, text out.

const PLAIN: &str = "text/plain";
/// So much of what is no base64 is shown.
const EXCERPT_CHARS: usize = 40;

/// The forms with words in the place of those that nothing can read.
pub(super) fn readable(data: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut kept = Vec::with_capacity(data.len());
    let mut problems = Vec::new();
    for (mime, text) in data {
        match text {
            text if !is_binary(&mime) => kept.push((mime, text)),
            text => match base64(&text) {
                Some(text) => kept.push((mime, text)),
                None => problems.push(problem(&mime, &text)),
            },
        }
    }
    if problems.is_empty() {
        return kept;
    }
    match kept.iter_mut().find(|(mime, _)| mime == PLAIN) {
        Some((_, plain)) => *plain = format!("{}\n{plain}", problems.join("\n")),
        None => kept.push((PLAIN.to_owned(), problems.join("\n"))),
    }
    kept
}

fn is_binary(mime: &str) -> bool {
    let kind = mime.split('/').next().unwrap_or_default();
    let binary = ["image", "audio", "video"].contains(&kind) || mime == "application/pdf";
    binary && !mime.ends_with("+xml")
}

/// The text as base64 with all of its padding, if it is base64.
fn base64(text: &str) -> Option<String> {
    let trimmed = text.trim_end_matches(|c: char| c == '=' || c.is_ascii_whitespace());
    let digit = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    let digits = trimmed.bytes().filter(|byte| !byte.is_ascii_whitespace());
    let count = digits.clone().filter(digit).count();
    if count != digits.count() || count % 4 == 1 {
        return None;
    }
    Some(format!("{trimmed}{}", "=".repeat((4 - count % 4) % 4)))
}

fn problem(mime: &str, text: &str) -> String {
    let mut excerpt: String = text.chars().take(EXCERPT_CHARS).collect();
    if excerpt.len() < text.len() {
        excerpt.push('…');
    }
    format!("<{mime}> cannot be shown: its data is not base64, but {excerpt:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forms(forms: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(mime, text): &(&str, &str)| ((*mime).to_owned(), (*text).to_owned());
        readable(forms.iter().map(owned).collect())
    }

    #[test]
    fn images_in_base64_stay_and_get_their_padding() {
        for (text, expect) in [
            ("", ""),
            ("Zm9v", "Zm9v"),
            ("Zg==", "Zg=="),
            ("Zg", "Zg=="),
            ("Zm8", "Zm8="),
            ("Zm9v\nZm8=\n", "Zm9v\nZm8="),
        ] {
            assert_eq!(forms(&[("image/png", text)]), [("image/png".into(), expect.into())]);
        }
        let text = [("image/svg+xml".into(), "<svg/>".into()), (PLAIN.into(), "svg".into())];
        assert_eq!(forms(&[("image/svg+xml", "<svg/>"), (PLAIN, "svg")]), text);
    }

    #[test]
    fn what_is_not_base64_is_said_in_words() {
        for bad in ["é", "Zm9v!", "Zm9vZ", "<svg>", "Zm=v"] {
            let shown = forms(&[("image/png", bad), ("text/html", "<b>")]);
            let [(html, _), (plain, words)] = shown.as_slice() else { panic!("{shown:?}") };
            assert_eq!((html.as_str(), plain.as_str()), ("text/html", PLAIN));
            assert!(words.contains("image/png") && words.contains(bad), "{words}");
        }
        let long = "!".repeat(100);
        let shown = forms(&[(PLAIN, "a star"), ("image/png", &long)]);
        let [(_, words)] = shown.as_slice() else { panic!("{shown:?}") };
        assert!(words.ends_with("\na star") && words.len() < 130, "{words}");
    }
}
