//! The worker's stdout and stderr: two pipes, read as they fill, cut at UTF-8 borders; blocks of
//! the evcxr display convention are taken out of the text. Never waits for a newline.

use std::io::{self, Read};
use std::os::fd::OwnedFd;

use prust_runtime::frame::DisplayKind;
use tokio::net::unix::pipe;

use super::{Std, WorkerEvent};

const BEGIN: &str = "EVCXR_BEGIN_CONTENT ";
const END: &str = "EVCXR_END_CONTENT";

/// One read takes at most this much, so that a flood on one stream does not starve the other.
const READ_BYTES: usize = 64 * 1024;

/// Reads per turn while a run goes on.
pub(super) const LIVE_READS: usize = 4;

/// Reads at the end of a run, when only the user's own threads may still write: 256 MiB.
const FINAL_READS: usize = 4096;

/// The reading end of one stream.
pub(super) struct Stream {
    which: Std,
    wake: pipe::Receiver,
    /// The same open pipe, for reads that do not go through the reactor's cached readiness.
    raw: std::fs::File,
    buffer: Vec<u8>,
    decode: Decode,
}

impl Stream {
    /// Makes a pipe; the writing end is the worker's.
    pub(super) fn new(which: Std) -> io::Result<(Self, io::PipeWriter)> {
        let (reader, writer) = io::pipe()?;
        let reader = OwnedFd::from(reader);
        let raw = std::fs::File::from(reader.try_clone()?);
        let wake = pipe::Receiver::from_owned_fd(reader)?;
        let buffer = vec![0; READ_BYTES];
        Ok((Self { which, wake, raw, buffer, decode: Decode::default() }, writer))
    }

    /// Waits until there may be something to read. Cancel-safe.
    pub(super) async fn readable(&self) {
        // An error of the pipe shows again at the read.
        let _ = self.wake.readable().await;
    }

    /// Reads what there is now, at most `reads` times.
    pub(super) fn drain(&mut self, reads: usize) -> Vec<WorkerEvent> {
        let mut events = Vec::new();
        for _ in 0..reads {
            // Through the reactor first, so that it learns when the pipe is empty; then past its
            // memory.
            let read = match self.wake.try_read(&mut self.buffer) {
                Err(_) => self.raw.read(&mut self.buffer),
                read => read,
            };
            let Ok(count @ 1..) = read else { break };
            for piece in self.decode.push(&self.buffer[..count]) {
                events.push(match piece {
                    Piece::Text(text) => WorkerEvent::Output { stream: self.which, text },
                    Piece::Content { mime, content } => WorkerEvent::Display {
                        kind: DisplayKind::Display,
                        id: String::new(),
                        data: vec![(mime, content)],
                    },
                });
            }
        }
        events
    }

    /// At the end of a run: what is left of an unfinished character or line marker is text after
    /// all.
    pub(super) fn finish(&mut self) -> Vec<WorkerEvent> {
        let mut events = self.drain(FINAL_READS);
        let rest = self.decode.finish();
        if !rest.is_empty() {
            events.push(WorkerEvent::Output { stream: self.which, text: rest });
        }
        events
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Content { mime: String, content: String },
}

/// Bytes to text and evcxr content blocks.
#[derive(Default)]
struct Decode {
    bytes: Vec<u8>,
    /// Text not yet given out: the start of what may become a marker line, or an open block.
    held: String,
    /// Whether `held` starts at the start of a line.
    mid_line: bool,
}

impl Decode {
    fn push(&mut self, bytes: &[u8]) -> Vec<Piece> {
        self.bytes.extend_from_slice(bytes);
        self.take_text();
        let mut pieces = Vec::new();
        while let Some(piece) = self.next_piece() {
            pieces.push(piece);
        }
        pieces
    }

    /// Moves whole characters from `bytes` to `held`; bytes that can never be UTF-8 become U+FFFD.
    fn take_text(&mut self) {
        let keep = match std::str::from_utf8(&self.bytes) {
            Ok(_) => 0,
            Err(error) if error.error_len().is_none() => self.bytes.len() - error.valid_up_to(),
            Err(_) => unfinished_tail(&self.bytes),
        };
        let tail = self.bytes.split_off(self.bytes.len() - keep);
        let whole = std::mem::replace(&mut self.bytes, tail);
        self.held.push_str(&String::from_utf8_lossy(&whole));
    }

    fn next_piece(&mut self) -> Option<Piece> {
        if self.held.is_empty() {
            return None;
        }
        if !self.mid_line && BEGIN.starts_with(&self.held[..floor(&self.held, BEGIN.len())]) {
            return self.block();
        }
        let marker = self.held.find(&format!("\n{BEGIN}")).map(|at| at + 1);
        let cut = marker.unwrap_or_else(|| self.before_possible_marker());
        if cut == 0 {
            return None;
        }
        let rest = self.held.split_off(cut);
        let text = std::mem::replace(&mut self.held, rest);
        self.mid_line = !text.ends_with('\n');
        Some(Piece::Text(text))
    }

    /// Where a marker may begin at the very end of the text: after the last newline, if all that
    /// follows is a prefix of the marker.
    fn before_possible_marker(&self) -> usize {
        let line = self.held.rfind('\n').map_or(0, |at| at + 1);
        let last = &self.held[line..];
        let starts_a_line = line > 0 || !self.mid_line;
        if starts_a_line && !last.is_empty() && BEGIN.starts_with(last) {
            line
        } else {
            self.held.len()
        }
    }

    /// The block that `held` starts with, once it is whole.
    fn block(&mut self) -> Option<Piece> {
        if self.held.len() < BEGIN.len() {
            return None;
        }
        let (first, rest) = self.held.split_once('\n')?;
        let mime = first[BEGIN.len()..].trim().to_owned();
        let end_line = format!("{END}\n");
        let (content, after) = if let Some(after) = rest.strip_prefix(&end_line) {
            (String::new(), after.to_owned())
        } else {
            let end = rest.find(&format!("\n{end_line}"))?;
            (rest[..end].to_owned(), rest[end + 1 + end_line.len()..].to_owned())
        };
        self.held = after;
        self.mid_line = false;
        Some(Piece::Content { mime, content })
    }

    fn finish(&mut self) -> String {
        let bytes = std::mem::take(&mut self.bytes);
        let mut rest = std::mem::take(&mut self.held);
        rest.push_str(&String::from_utf8_lossy(&bytes));
        self.mid_line = false;
        rest
    }
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

/// The largest character border at or below `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(chunks: &[&[u8]]) -> Vec<Piece> {
        let mut decode = Decode::default();
        let mut pieces: Vec<Piece> = chunks.iter().flat_map(|chunk| decode.push(chunk)).collect();
        let rest = decode.finish();
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest));
        }
        pieces
    }

    #[test]
    fn a_partial_line_is_given_out_at_once() {
        assert_eq!(Decode::default().push(b"50%"), [Piece::Text("50%".into())]);
    }

    #[test]
    fn a_character_cut_in_two_comes_whole() {
        assert_eq!(decode(&[b"\xc3", b"\xa9"]), [Piece::Text("é".into())]);
        assert_eq!(decode(&[b"a\xff\xc3", b"\xa9"]).len(), 2);
    }

    #[test]
    fn content_blocks_are_taken_out_wherever_the_chunks_are_cut() {
        let text =
            b"before\nEVCXR_BEGIN_CONTENT text/html\n<b>x</b>\n<i>y</i>\nEVCXR_END_CONTENT\nafter";
        for cut in 0..text.len() {
            let pieces = decode(&[&text[..cut], &text[cut..]]);
            let content =
                Piece::Content { mime: "text/html".into(), content: "<b>x</b>\n<i>y</i>".into() };
            assert!(pieces.contains(&content), "cut at {cut}: {pieces:?}");
            let words: String = pieces
                .iter()
                .filter_map(|piece| match piece {
                    Piece::Text(text) => Some(text.as_str()),
                    Piece::Content { .. } => None,
                })
                .collect();
            assert_eq!(words, "before\nafter", "cut at {cut}");
        }
    }

    #[test]
    fn a_marker_in_the_middle_of_a_line_is_text() {
        let text = "say EVCXR_BEGIN_CONTENT text/html\n";
        assert_eq!(decode(&[text.as_bytes()]), [Piece::Text(text.into())]);
    }
}
