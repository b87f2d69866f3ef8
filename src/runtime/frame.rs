//! The frames between a host (kernel or engine) and its worker: a length, a tag, fields in order.
//! Hand-made because the runtime is std only. Never carries the user's stdout or stderr.

use std::io::{self, Read, Write};

/// A frame longer than this is a protocol fault, not a message.
pub const FRAME_BYTES_MAX: usize = 1 << 34;

/// The words of an error are cut after this many bytes.
const WORDS_BYTES_MAX: usize = 64 << 10;

/// How a reply to a worker's request turned out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ok,
    Error,
    /// The user interrupted while the cell waited: the waiting call unwinds.
    Interrupted,
}

/// What a display does to what is already shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisplayKind {
    /// The value of the cell's final expression.
    Result,
    Display,
    Update,
    Clear,
}

/// Why user code ended early, in the user's terms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// `panic`, or the type name of the error that `?` met.
    pub ename: String,
    pub evalue: String,
    /// Where in generated source: file, line, column (1-based). Empty file when unknown.
    pub file: String,
    pub line: u32,
    pub column: u32,
    /// Frames of user code, innermost first, one per line.
    pub backtrace: Vec<String>,
}

/// From the host to its worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToWorker {
    /// Run the leaf in `library`; `snapshot` says whether to take one first.
    Run {
        run: u64,
        library: String,
        entry: String,
        snapshot: bool,
    },
    /// Call the trampoline at `offset` in `library`.
    Call {
        run: u64,
        library: String,
        offset: u64,
        snapshot: bool,
        payload: Vec<u8>,
    },
    /// The answer to [`FromWorker::Request`].
    Reply {
        request: u64,
        status: Status,
        head: Vec<u8>,
        body: Vec<u8>,
    },
    /// Load a library without running anything.
    Load {
        library: String,
    },
    /// Give back the calls that have not begun.
    Recall,
    /// Only to a sleeping snapshot: become the worker.
    Wake,
    /// Say what a snapshot of the state as it is costs.
    Measure,
    /// Say where processes that a cell starts begin.
    Surroundings,
    Exit,
}

/// From the worker to its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromWorker {
    /// First frame of every connection. A snapshot connects too, and then sleeps; `snapshot` is the
    /// run it was taken for, 0 for the worker itself. `threads` names those that the fork left
    /// behind.
    Hello {
        pid: u32,
        snapshot: u64,
        threads: Vec<String>,
    },
    /// A run or call ended. `lost` names variables that unwinding destroyed; `unread` says that it
    /// has printed what nobody had read by then, and that no other begins before that is read.
    Done {
        run: u64,
        failure: Option<Failure>,
        lost: Vec<String>,
        value: Vec<u8>,
        unread: bool,
    },
    Display {
        kind: DisplayKind,
        id: String,
        data: Vec<(String, String)>,
    },
    /// The process is about to end by this failure (a panic that cannot unwind).
    LastWords {
        failure: Failure,
    },
    /// The answer to [`ToWorker::Surroundings`]: the working folder, and the environment as
    /// `NAME=VALUE`, in the system's bytes.
    Surroundings {
        folder: Vec<u8>,
        variables: Vec<Vec<u8>>,
    },
    /// The answer to [`ToWorker::Recall`]: the calls that will not run.
    Recalled {
        runs: Vec<u64>,
    },
    /// The answer to [`ToWorker::Measure`].
    Measured {
        fork_micros: u64,
        write_micros_per_gibibyte: u64,
    },
    /// The cell asks the host and waits for [`ToWorker::Reply`]; `request` 0 expects none.
    Request {
        request: u64,
        topic: String,
        head: Vec<u8>,
        body: Vec<u8>,
    },
}

/// Field-by-field writing; the reading twin is [`Fields`].
struct Body(Vec<u8>);

impl Body {
    fn new(tag: u8) -> Self {
        Self(vec![0, 0, 0, 0, 0, 0, 0, 0, tag])
    }
    fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }
    fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }
    fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }
    fn bytes(self, value: &[u8]) -> Self {
        let mut this = self.u64(value.len() as u64);
        this.0.extend_from_slice(value);
        this
    }
    fn text(self, value: &str) -> Self {
        self.bytes(value.as_bytes())
    }
    fn texts(self, values: &[String]) -> Self {
        values.iter().fold(self.u32(values.len() as u32), |body, value| body.text(value))
    }
    fn finish(mut self) -> Vec<u8> {
        let length = (self.0.len() - 8) as u64;
        self.0[..8].copy_from_slice(&length.to_le_bytes());
        self.0
    }
}

/// Field-by-field reading; every shortfall is an error, never a panic.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take(&mut self, count: usize) -> io::Result<&[u8]> {
        if self.0.len() < count {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "frame ends inside a field"));
        }
        let (head, tail) = self.0.split_at(count);
        self.0 = tail;
        Ok(head)
    }
    fn u8(&mut self) -> io::Result<u8> {
        Ok(self.take(1)?[0])
    }
    fn u32(&mut self) -> io::Result<u32> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().expect("four bytes were taken")))
    }
    fn u64(&mut self) -> io::Result<u64> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into().expect("eight bytes were taken")))
    }
    fn bytes(&mut self) -> io::Result<Vec<u8>> {
        let count = self.u64()?;
        let count = usize::try_from(count).map_err(|_| bad("length"))?;
        Ok(self.take(count)?.to_vec())
    }
    fn text(&mut self) -> io::Result<String> {
        String::from_utf8(self.bytes()?).map_err(|_| bad("text that is not UTF-8"))
    }
    fn texts(&mut self) -> io::Result<Vec<String>> {
        let count = self.u32()?;
        (0..count).map(|_| self.text()).collect()
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("bad frame: {what}"))
}

impl Status {
    fn read(value: u8) -> io::Result<Self> {
        [Self::Ok, Self::Error, Self::Interrupted]
            .into_iter()
            .find(|status| *status as u8 == value)
            .ok_or_else(|| bad("status"))
    }
}

impl DisplayKind {
    fn read(value: u8) -> io::Result<Self> {
        [Self::Result, Self::Display, Self::Update, Self::Clear]
            .into_iter()
            .find(|kind| *kind as u8 == value)
            .ok_or_else(|| bad("display kind"))
    }
}

impl Failure {
    /// The same with words of a length that a person may read: an error is sent and kept several
    /// times over.
    pub fn bounded(mut self) -> Self {
        let end = self.evalue.floor_char_boundary(WORDS_BYTES_MAX);
        if end < self.evalue.len() {
            self.evalue.truncate(end);
            self.evalue.push_str("… (cut here, after 64 KiB)");
        }
        self
    }

    fn write(&self, body: Body) -> Body {
        body.text(&self.ename)
            .text(&self.evalue)
            .text(&self.file)
            .u32(self.line)
            .u32(self.column)
            .texts(&self.backtrace)
    }
    fn read(fields: &mut Fields<'_>) -> io::Result<Self> {
        Ok(Self {
            ename: fields.text()?,
            evalue: fields.text()?,
            file: fields.text()?,
            line: fields.u32()?,
            column: fields.u32()?,
            backtrace: fields.texts()?,
        })
    }
}

impl ToWorker {
    /// The frame's bytes, length included.
    pub fn write(&self) -> Vec<u8> {
        match self {
            Self::Run { run, library, entry, snapshot } => {
                Body::new(1).u64(*run).text(library).text(entry).u8((*snapshot).into()).finish()
            }
            Self::Call { run, library, offset, snapshot, payload } => Body::new(2)
                .u64(*run)
                .text(library)
                .u64(*offset)
                .u8((*snapshot).into())
                .bytes(payload)
                .finish(),
            Self::Reply { request, status, head, body } => {
                Body::new(3).u64(*request).u8(*status as u8).bytes(head).bytes(body).finish()
            }
            Self::Load { library } => Body::new(4).text(library).finish(),
            Self::Wake => Body::new(5).finish(),
            Self::Exit => Body::new(6).finish(),
            Self::Measure => Body::new(7).finish(),
            Self::Surroundings => Body::new(8).finish(),
            Self::Recall => Body::new(9).finish(),
        }
    }

    /// Reads one frame's body (without its length).
    pub fn read(body: &[u8]) -> io::Result<Self> {
        let mut fields = Fields(body);
        Ok(match fields.u8()? {
            1 => Self::Run {
                run: fields.u64()?,
                library: fields.text()?,
                entry: fields.text()?,
                snapshot: fields.u8()? != 0,
            },
            2 => Self::Call {
                run: fields.u64()?,
                library: fields.text()?,
                offset: fields.u64()?,
                snapshot: fields.u8()? != 0,
                payload: fields.bytes()?,
            },
            3 => Self::Reply {
                request: fields.u64()?,
                status: Status::read(fields.u8()?)?,
                head: fields.bytes()?,
                body: fields.bytes()?,
            },
            4 => Self::Load { library: fields.text()? },
            5 => Self::Wake,
            6 => Self::Exit,
            7 => Self::Measure,
            8 => Self::Surroundings,
            9 => Self::Recall,
            _ => return Err(bad("tag")),
        })
    }
}

impl FromWorker {
    /// The frame's bytes, length included.
    pub fn write(&self) -> Vec<u8> {
        match self {
            Self::Hello { pid, snapshot, threads } => {
                Body::new(1).u32(*pid).u64(*snapshot).texts(threads).finish()
            }
            Self::Done { run, failure, lost, value, unread } => {
                let body = Body::new(2).u64(*run).u8(failure.is_some().into());
                let body = failure.iter().fold(body, |body, failure| failure.write(body));
                body.texts(lost).bytes(value).u8((*unread).into()).finish()
            }
            Self::Display { kind, id, data } => {
                let body = Body::new(3).u8(*kind as u8).text(id).u32(data.len() as u32);
                data.iter().fold(body, |body, (mime, text)| body.text(mime).text(text)).finish()
            }
            Self::Request { request, topic, head, body } => {
                Body::new(4).u64(*request).text(topic).bytes(head).bytes(body).finish()
            }
            Self::LastWords { failure } => failure.write(Body::new(5)).finish(),
            Self::Surroundings { folder, variables } => {
                let body = Body::new(7).bytes(folder).u32(variables.len() as u32);
                variables.iter().fold(body, |body, each| body.bytes(each)).finish()
            }
            Self::Recalled { runs } => {
                let body = Body::new(8).u32(runs.len() as u32);
                runs.iter().fold(body, |body, run| body.u64(*run)).finish()
            }
            Self::Measured { fork_micros, write_micros_per_gibibyte } => {
                Body::new(6).u64(*fork_micros).u64(*write_micros_per_gibibyte).finish()
            }
        }
    }

    /// Reads one frame's body (without its length).
    pub fn read(body: &[u8]) -> io::Result<Self> {
        let mut fields = Fields(body);
        Ok(match fields.u8()? {
            1 => Self::Hello {
                pid: fields.u32()?,
                snapshot: fields.u64()?,
                threads: fields.texts()?,
            },
            2 => Self::Done {
                run: fields.u64()?,
                failure: match fields.u8()? {
                    0 => None,
                    _ => Some(Failure::read(&mut fields)?),
                },
                lost: fields.texts()?,
                value: fields.bytes()?,
                unread: fields.u8()? != 0,
            },
            3 => Self::Display {
                kind: DisplayKind::read(fields.u8()?)?,
                id: fields.text()?,
                data: (0..fields.u32()?)
                    .map(|_| Ok((fields.text()?, fields.text()?)))
                    .collect::<io::Result<_>>()?,
            },
            4 => Self::Request {
                request: fields.u64()?,
                topic: fields.text()?,
                head: fields.bytes()?,
                body: fields.bytes()?,
            },
            5 => Self::LastWords { failure: Failure::read(&mut fields)? },
            7 => Self::Surroundings {
                folder: fields.bytes()?,
                variables: (0..fields.u32()?).map(|_| fields.bytes()).collect::<io::Result<_>>()?,
            },
            8 => Self::Recalled {
                runs: (0..fields.u32()?).map(|_| fields.u64()).collect::<io::Result<_>>()?,
            },
            6 => Self::Measured {
                fork_micros: fields.u64()?,
                write_micros_per_gibibyte: fields.u64()?,
            },
            _ => return Err(bad("tag")),
        })
    }
}

/// Writes a finished frame.
pub fn send(mut to: impl Write, frame: &[u8]) -> io::Result<()> {
    to.write_all(frame)
}

/// Reads one frame's body; `UnexpectedEof` when the other side is gone.
pub fn receive(mut from: impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let length = usize::try_from(u64::from_le_bytes(length)).map_err(|_| bad("length"))?;
    if length > FRAME_BYTES_MAX {
        return Err(bad("length over the limit"));
    }
    let mut body = Vec::new();
    from.take(length as u64).read_to_end(&mut body)?;
    if body.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_reads_back_as_written() {
        let failure = Failure { ename: "panic".into(), line: 3, ..Failure::default() };
        let frames = [
            FromWorker::LastWords { failure: failure.clone() },
            FromWorker::Measured { fork_micros: 1, write_micros_per_gibibyte: 2 },
            FromWorker::Recalled { runs: vec![3, 4] },
            FromWorker::Surroundings { folder: b"/".into(), variables: vec![b"A=\xff".into()] },
            FromWorker::Hello { pid: 7, snapshot: 9, threads: vec!["a".into()] },
            FromWorker::Done {
                run: 1,
                failure: Some(failure),
                lost: vec!["x".into()],
                value: vec![1],
                unread: true,
            },
            FromWorker::Display {
                kind: DisplayKind::Update,
                id: "d".into(),
                data: vec![("text/plain".into(), "é".into())],
            },
        ];
        for frame in frames {
            let bytes = frame.write();
            let body = receive(&bytes[..]).expect("the frame is whole");
            assert_eq!(FromWorker::read(&body).expect("the body is whole"), frame);
        }
    }

    #[test]
    fn every_truncation_is_an_error_and_never_a_panic() {
        let call = ToWorker::Call {
            run: 1,
            library: "l".into(),
            offset: 2,
            snapshot: false,
            payload: vec![0; 40],
        }
        .write();
        for length in 0..call.len() {
            assert!(receive(&call[..length]).is_err());
        }
        for length in 0..call.len() - 8 {
            assert!(ToWorker::read(&call[8..8 + length]).is_err());
        }
    }
}
