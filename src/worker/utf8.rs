//! Bytes that come in pieces, as text: a character that is cut in two comes whole, and what can
//! never be UTF-8 becomes U+FFFD.

/// What has come and is no whole character yet.
#[derive(Debug, Default)]
pub struct Utf8(Vec<u8>);

impl Utf8 {
    /// The whole characters so far.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.0.extend_from_slice(bytes);
        let keep = match std::str::from_utf8(&self.0) {
            Ok(_) => 0,
            Err(error) if error.error_len().is_none() => self.0.len() - error.valid_up_to(),
            Err(_) => unfinished_tail(&self.0),
        };
        let tail = self.0.split_off(self.0.len() - keep);
        let whole = std::mem::replace(&mut self.0, tail);
        into_text(whole)
    }

    /// What is left at the end.
    pub fn finish(&mut self) -> String {
        into_text(std::mem::take(&mut self.0))
    }
}

fn into_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Bytes at the end that may be the start of a character.
fn unfinished_tail(bytes: &[u8]) -> usize {
    (1..=3.min(bytes.len()))
        .find(|count| {
            let first = bytes[bytes.len() - count];
            (first >= 0xF0 && *count < 4)
                || ((0xE0..0xF0).contains(&first) && *count < 3)
                || ((0xC0..0xE0).contains(&first) && *count < 2)
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(chunks: &[&[u8]]) -> String {
        let mut utf8 = Utf8::default();
        let text: String = chunks.iter().map(|chunk| utf8.push(chunk)).collect();
        text + &utf8.finish()
    }

    #[test]
    fn characters_cut_anywhere_come_whole() {
        let text = "aé€𝄞z".as_bytes();
        for cut in 0..text.len() {
            assert_eq!(read(&[&text[..cut], &text[cut..]]), "aé€𝄞z", "cut at {cut}");
        }
        let single: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(read(&single), "aé€𝄞z");
    }

    #[test]
    fn what_is_no_text_is_replaced_and_the_rest_stays() {
        assert_eq!(read(&[b"a\xff\xc3", b"\xa9"]), "a\u{fffd}é");
        assert_eq!(read(&[b"\xe2\x82"]), "\u{fffd}");
        assert_eq!(read(&[b"\xe2\x82", b"z"]), "\u{fffd}z");
    }
}
