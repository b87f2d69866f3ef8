//! A message on a link: the length of what follows, the lane, how many frames, their lengths, the
//! frames; numbers little-endian. Bytes in, messages out; no I/O.
use crate::wire::Frames;
use crate::wire::member::Lane;

/// Lane, and how many frames there are.
const HEAD_BYTES: usize = 5;
/// A message that claims more is no message.
const MESSAGE_BYTES_MAX: u64 = 1 << 36;
/// How much is made room for before each read.
const ROOM_BYTES: usize = 64 << 10;
/// Memory that is kept from one message to the next.
pub(super) const KEPT_BYTES: usize = 1 << 20;

/// What no peer of ours would say. Nothing that follows on its link can be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("what came by a link is no message")
    }
}

impl std::error::Error for Broken {}

/// Adds a message to what is to be written.
pub fn write(lane: Lane, frames: &[Vec<u8>], to: &mut Vec<u8>) {
    let n_bytes: usize = frames.iter().map(|frame| size_of::<u64>() + frame.len()).sum();
    to.reserve(size_of::<u64>() + HEAD_BYTES + n_bytes);
    to.extend(((HEAD_BYTES + n_bytes) as u64).to_le_bytes());
    to.push(lane);
    to.extend((frames.len() as u32).to_le_bytes());
    for frame in frames {
        to.extend((frame.len() as u64).to_le_bytes());
    }
    for frame in frames {
        to.extend_from_slice(frame);
    }
}

/// What has come and was not taken yet.
#[derive(Debug, Default)]
pub struct Inbound {
    /// What has come stands between `start` and `end`; the rest is room.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbound {
    /// Where what is read next is to be put.
    pub fn room(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.bytes.len() > KEPT_BYTES {
                self.bytes = Vec::new();
            }
        } else if self.start > self.bytes.len() / 2 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.bytes.len() - self.end < ROOM_BYTES {
            let n_bytes = (self.bytes.len() * 2).max(self.end + ROOM_BYTES);
            self.bytes.resize(n_bytes, 0);
        }
        &mut self.bytes[self.end..]
    }

    /// So many bytes were put there.
    pub fn filled(&mut self, n_bytes: usize) {
        self.end += n_bytes;
    }

    /// Takes the next message, behind the given first frames; nothing if it is not whole yet.
    ///
    /// # Errors
    /// When it cannot be one.
    pub fn take(&mut self, first: &[&[u8]]) -> Result<Option<(Lane, Frames)>, Broken> {
        let Some((n_bytes, rest)) = number(&self.bytes[self.start..self.end]) else {
            return Ok(None);
        };
        if n_bytes > MESSAGE_BYTES_MAX {
            return Err(Broken);
        }
        let n_bytes = usize::try_from(n_bytes).map_err(|_| Broken)?;
        let Some(message) = rest.get(..n_bytes) else { return Ok(None) };
        let message = read(message, first).ok_or(Broken)?;
        self.start += size_of::<u64>() + n_bytes;
        Ok(Some(message))
    }
}

fn read(message: &[u8], first: &[&[u8]]) -> Option<(Lane, Frames)> {
    let (&[lane, n_frames @ ..], rest) = message.split_first_chunk::<HEAD_BYTES>()?;
    let n_frames = u32::from_le_bytes(n_frames) as usize;
    let (mut lengths, mut bytes) = rest.split_at_checked(n_frames * size_of::<u64>())?;
    let mut frames = Frames::with_capacity(first.len() + n_frames);
    frames.extend(first.iter().map(|frame| frame.to_vec()));
    while let Some((length, others)) = number(lengths) {
        let (frame, after) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
        frames.push(frame.to_vec());
        (lengths, bytes) = (others, after);
    }
    bytes.is_empty().then_some((lane, frames))
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u64::from_le_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(inbound: &mut Inbound, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = inbound.room();
            let (now, later) = bytes.split_at(room.len().min(bytes.len()));
            room[..now.len()].copy_from_slice(now);
            inbound.filled(now.len());
            bytes = later;
        }
    }

    fn messages() -> Vec<(Lane, Frames)> {
        vec![
            (3, vec![b"id".to_vec(), Vec::new(), vec![7; 300]]),
            (0, Vec::new()),
            (255, vec![Vec::new()]),
            (4, vec![vec![1; 200_000]]),
        ]
    }

    #[test]
    fn messages_are_taken_whole_and_in_order_however_their_bytes_come() {
        let mut bytes = Vec::new();
        for (lane, frames) in messages() {
            write(lane, &frames, &mut bytes);
        }
        for step in [1, 7, 4096, bytes.len()] {
            let (mut inbound, mut taken) = (Inbound::default(), Vec::new());
            for piece in bytes.chunks(step) {
                put(&mut inbound, piece);
                while let Some(message) = inbound.take(&[]).expect("they are messages") {
                    taken.push(message);
                }
            }
            assert_eq!(taken, messages(), "{step} bytes at a time");
            assert_eq!(inbound.start, inbound.end, "nothing is left");
        }
    }

    #[test]
    fn the_senders_name_stands_before_the_frames() {
        let mut inbound = Inbound::default();
        let mut bytes = Vec::new();
        write(1, &[b"a".to_vec()], &mut bytes);
        put(&mut inbound, &bytes);
        let taken = inbound.take(&[b"engine"]).unwrap();
        assert_eq!(taken, Some((1, vec![b"engine".to_vec(), b"a".to_vec()])));
    }

    #[test]
    fn what_cannot_be_a_message_is_refused_before_memory_is_taken_for_it() {
        let refused = |bytes: &[u8]| {
            let mut inbound = Inbound::default();
            put(&mut inbound, bytes);
            inbound.take(&[]) == Err(Broken)
        };
        let with_length = |rest: &[u8]| [&(rest.len() as u64).to_le_bytes(), rest].concat();
        assert!(refused(&[0xFF; 8]), "too long");
        assert!(refused(&with_length(&[])), "no lane");
        assert!(refused(&with_length(&[1, 2, 0, 0, 0])), "no lengths");
        let huge = [&[1, 1, 0, 0, 0][..], &[0xFF; 8], b"ab"].concat();
        assert!(refused(&with_length(&huge)), "a frame that is longer than the message");
        let more = [&[1, 1, 0, 0, 0][..], &1u64.to_le_bytes(), b"ab"].concat();
        assert!(refused(&with_length(&more)), "bytes of no frame");
        let good = [&[1, 1, 0, 0, 0][..], &2u64.to_le_bytes(), b"ab"].concat();
        assert!(!refused(&with_length(&good)));
    }
}
