//! The worker's stdout and stderr: two pipes, read as they fill, cut at UTF-8 borders; blocks of
//! the evcxr display convention are taken out of the text. Never waits for a newline.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::time::Duration;

use prust_runtime::frame::DisplayKind;
use tokio::net::unix::pipe;
use tokio::time::Instant;

use super::{Std, Utf8, WorkerEvent, forms};

const BEGIN: &str = "EVCXR_BEGIN_CONTENT ";
const END: &str = "EVCXR_END_CONTENT";
const PLAIN: &str = "text/plain";

/// A block longer than this is text after all: its end may never come.
const BLOCK_BYTES_MAX: usize = 64 << 20;
/// What follows a marker on its line.
const MIME_BYTES_MAX: usize = 256;

/// This much of a marker is one, wherever it stands; less is held back only at the start of a line,
/// and not for long: it may be anybody's letter E.
const SURE_BYTES: usize = "EVCXR_".len();
/// What is held back because of what may follow waits this long. Crates print a value's forms at
/// once.
const HOLD: Duration = Duration::from_millis(100);

/// One read takes at most this much, so that a flood on one stream does not starve the other.
const READ_BYTES: usize = 64 * 1024;

/// Reads per turn while a run goes on.
pub(super) const LIVE_READS: usize = 4;

/// Reads at the end of a run, when only the user's own threads may still write: far more than a
/// pipe holds, so that what the run itself has printed is among it.
const FINAL_READS: usize = 64;

/// The reading end of one stream.
pub(super) struct Stream {
    which: Std,
    wake: pipe::Receiver,
    /// The same open pipe, for reads that do not go through the reactor's cached readiness.
    raw: std::fs::File,
    buffer: Vec<u8>,
    decode: Decode,
    /// Where the blocks that follow are shown, if not on their own.
    to: Option<(DisplayKind, String)>,
    /// When what is held back is given out, if anything is.
    due: Option<Instant>,
}

impl Stream {
    /// Makes a pipe; the writing end is the worker's.
    pub(super) fn new(which: Std) -> io::Result<(Self, io::PipeWriter)> {
        let (reader, writer) = io::pipe()?;
        let reader = OwnedFd::from(reader);
        let raw = std::fs::File::from(reader.try_clone()?);
        let wake = pipe::Receiver::from_owned_fd(reader)?;
        let buffer = vec![0; READ_BYTES];
        let decode = Decode::default();
        Ok((Self { which, wake, raw, buffer, decode, to: None, due: None }, writer))
    }

    /// Waits until there may be something to read. Cancel-safe.
    pub(super) async fn readable(&self) {
        // An error of the pipe shows again at the read.
        let _ = self.wake.readable().await;
    }

    /// From now on, blocks are shown as the head says (`display` or `update`) under the id that the
    /// body is; with an empty head on their own again.
    pub(super) fn direct(&mut self, head: &[u8], body: &[u8]) {
        let kind = match head {
            b"display" => DisplayKind::Display,
            b"update" => DisplayKind::Update,
            _ => return self.to = None,
        };
        self.to = Some((kind, String::from_utf8_lossy(body).into_owned()));
    }

    /// When `release` is to be called, if at all.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Reads what there is now, at most `reads` times.
    pub(super) fn drain(&mut self, reads: usize) -> Vec<WorkerEvent> {
        let mut pieces = Vec::new();
        for _ in 0..reads {
            // Through the reactor first, so that it learns when the pipe is empty; then past its
            // memory.
            let read = match self.wake.try_read(&mut self.buffer) {
                Err(_) => self.raw.read(&mut self.buffer),
                read => read,
            };
            let Ok(count @ 1..) = read else { break };
            pieces.extend(self.decode.push(&self.buffer[..count]));
        }
        self.due = self.decode.waits().then(|| Instant::now() + HOLD);
        self.events(pieces)
    }

    /// What was held back because of what might follow.
    pub(super) fn release(&mut self) -> Vec<WorkerEvent> {
        self.due = None;
        let pieces = self.decode.release();
        self.events(pieces)
    }

    /// At the end of a run: all that was printed.
    pub(super) fn finish(&mut self) -> Vec<WorkerEvent> {
        let mut events = self.drain(FINAL_READS);
        events.extend(self.end());
        events
    }

    /// At the end of a run: all that was read.
    pub(super) fn end(&mut self) -> Vec<WorkerEvent> {
        self.due = None;
        let pieces = self.decode.finish();
        let events = self.events(pieces);
        // A value that panicked while it showed itself has not said its end.
        self.to = None;
        events
    }

    fn events(&self, pieces: Vec<Piece>) -> Vec<WorkerEvent> {
        let event = |piece| match piece {
            Piece::Text(text) => WorkerEvent::Output { stream: self.which, text },
            Piece::Content(data) => {
                let alone = (DisplayKind::Display, String::new());
                let (kind, id) = self.to.clone().unwrap_or(alone);
                WorkerEvent::Display { kind, id, data: forms::readable(data) }
            }
        };
        pieces.into_iter().map(event).collect()
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// One display: its forms by MIME type, the richest first.
    Content(Vec<(String, String)>),
}

/// A block whose end has not come.
struct Block {
    /// Its first line, for the case that it is text after all.
    line: String,
    mime: String,
    /// Up to here `held` has no end in it.
    searched: usize,
}

/// Bytes to text and evcxr content blocks.
#[derive(Default)]
struct Decode {
    bytes: Utf8,
    /// Text not yet given out: the start of what may become a marker, or what an open block holds
    /// so far.
    held: String,
    block: Option<Block>,
    /// A block of plain text, until it is known whether a richer form of the same value follows:
    /// crates that print both mean one display.
    plain: Option<String>,
    /// Whether `held` starts at the start of a line.
    mid_line: bool,
    /// Whether a block has ended just before `held`.
    after_block: bool,
}

impl Decode {
    fn push(&mut self, bytes: &[u8]) -> Vec<Piece> {
        self.held.push_str(&self.bytes.push(bytes));
        let mut pieces = Vec::new();
        while let Some(piece) = self.next_piece() {
            self.give(piece, &mut pieces);
        }
        pieces
    }

    /// Gives a piece out, or keeps it where a richer form may follow.
    fn give(&mut self, piece: Piece, to: &mut Vec<Piece>) {
        match (self.plain.take(), piece) {
            (plain, Piece::Content(mut forms)) if forms[0].0 == PLAIN => {
                to.extend(plain.map(plain_content));
                self.plain = forms.pop().map(|(_, text)| text);
            }
            (Some(plain), Piece::Content(mut forms)) => {
                forms.push((PLAIN.to_owned(), plain));
                to.push(Piece::Content(forms));
            }
            (plain, piece) => to.extend(plain.map(plain_content).into_iter().chain([piece])),
        }
    }

    fn next_piece(&mut self) -> Option<Piece> {
        if self.block.is_some() {
            return self.close_block();
        }
        if self.after_block && !self.held.is_empty() {
            // Some crates print a block with its last newline by a line of its own. It would stand
            // below the display as an empty one.
            self.after_block = false;
            if self.held.starts_with('\n') {
                self.held.remove(0);
            }
        }
        let (cut, opens) = self.marker();
        if opens && cut == 0 {
            self.open_block();
            return self.close_block();
        }
        if cut == 0 {
            return None;
        }
        let rest = self.held.split_off(cut);
        let text = std::mem::replace(&mut self.held, rest);
        self.mid_line = !text.ends_with('\n');
        Some(Piece::Text(text))
    }

    /// Where the text ends before a marker, or before what may become one, and whether it is one.
    /// As with evcxr, a block may begin after text without a newline.
    fn marker(&self) -> (usize, bool) {
        for (at, _) in self.held.match_indices(BEGIN) {
            match self.held[at + BEGIN.len()..].split_once('\n') {
                Some((mime, _)) if is_mime(mime) => return (at, true),
                None if self.held.len() - at - BEGIN.len() <= MIME_BYTES_MAX => return (at, false),
                _ => (),
            }
        }
        let line = self.held.rfind('\n').map_or(0, |at| at + 1);
        let starts_a_line = line > 0 || !self.mid_line;
        let may_be = (1..BEGIN.len()).rev().find(|length| {
            self.held.ends_with(&BEGIN[..*length])
                && (*length >= SURE_BYTES || (starts_a_line && line + length == self.held.len()))
        });
        (self.held.len() - may_be.unwrap_or(0), false)
    }

    fn open_block(&mut self) {
        let end = self.held.find('\n').map_or(self.held.len(), |at| at + 1);
        let rest = self.held.split_off(end);
        let line = std::mem::replace(&mut self.held, rest);
        let mime = type_alone(&line[BEGIN.len()..]).to_owned();
        self.block = Some(Block { line, mime, searched: 0 });
    }

    /// What the open block holds, once it is whole.
    fn close_block(&mut self) -> Option<Piece> {
        let block = self.block.as_mut()?;
        let end_line = format!("{END}\n");
        let (content, after) = if self.held.starts_with(&end_line) {
            (0, end_line.len())
        } else {
            let mut from = block.searched;
            while !self.held.is_char_boundary(from) {
                from -= 1;
            }
            let Some(found) = self.held[from..].find(&format!("\n{end_line}")) else {
                // The end may have begun.
                block.searched = self.held.len().saturating_sub(end_line.len());
                return (self.held.len() > BLOCK_BYTES_MAX).then(|| self.unfinished());
            };
            (from + found, from + found + 1 + end_line.len())
        };
        let rest = self.held.split_off(after);
        let mut text = std::mem::replace(&mut self.held, rest);
        text.truncate(content);
        self.mid_line = false;
        self.after_block = true;
        let Block { mime, .. } = self.block.take()?;
        Some(Piece::Content(vec![(mime, text)]))
    }

    /// The open block as the text that it is, and all that is held.
    fn unfinished(&mut self) -> Piece {
        let mut text = self.block.take().map(|block| block.line).unwrap_or_default();
        text.push_str(&std::mem::take(&mut self.held));
        self.mid_line = !text.ends_with('\n');
        Piece::Text(text)
    }

    /// Whether something is held that is to be seen soon, whatever follows.
    fn waits(&self) -> bool {
        self.plain.is_some() || (self.block.is_none() && (1..SURE_BYTES).contains(&self.held.len()))
    }

    /// What is not held back for longer.
    fn release(&mut self) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = self.plain.take().map(plain_content).into_iter().collect();
        if self.block.is_none() && (1..SURE_BYTES).contains(&self.held.len()) {
            pieces.push(self.unfinished());
        }
        pieces
    }

    /// At the end of a run: what is left of an unfinished character or marker is text after all.
    /// The last line of a block may lack its newline.
    fn finish(&mut self) -> Vec<Piece> {
        self.held.push_str(&self.bytes.finish());
        let mut pieces = Vec::new();
        if self.block.is_some() && self.held.ends_with(END) {
            self.held.push('\n');
            if let Some(piece) = self.close_block() {
                self.give(piece, &mut pieces);
            } else {
                self.held.pop();
            }
        }
        if self.block.is_some() || !self.held.is_empty() {
            let piece = self.unfinished();
            self.give(piece, &mut pieces);
        }
        pieces.extend(self.release());
        (self.mid_line, self.after_block) = (false, false);
        pieces
    }
}

fn plain_content(text: String) -> Piece {
    Piece::Content(vec![(PLAIN.to_owned(), text)])
}

/// The type without its parameters.
fn type_alone(text: &str) -> &str {
    text.split(';').next().unwrap_or_default().trim()
}

/// Whether the rest of a marker's line names a type and nothing else.
fn is_mime(text: &str) -> bool {
    let graphic = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_graphic());
    let parts = type_alone(text).split_once('/');
    text.len() <= MIME_BYTES_MAX
        && parts.is_some_and(|(kind, form)| graphic(kind) && graphic(form) && !form.contains('/'))
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
