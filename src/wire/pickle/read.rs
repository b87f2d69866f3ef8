//! Plays a pickle's program, which fills a list of nodes; `nodes.rs` makes one tree of them. Time
//! and memory follow the length of the input, up to the limits that are named here.
use super::nodes::{self, Node, Part, Unbuilt};
use super::op;
use super::value::{Made, Value};

/// Nesting allowed; deeper is an error rather than an overflowing stack.
pub const DEPTH_MAX: usize = 100;
/// Values in one pickle, each time that it names them: a list of so many numbers is 0.6 GiB here.
pub const VALUES_MAX: usize = 1 << 24;
/// What one pickle may have copied by naming it again: items of containers, and bytes.
pub const COPIED_ITEMS_MAX: usize = 1 << 20;
pub const COPIED_BYTES_MAX: usize = 64 << 20;
/// The latest protocol that there is.
const PROTOCOL_MAX: u8 = 5;

/// Why bytes are no pickle that is read here, and at which of them that shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadError {
    pub at: usize,
    pub what: String,
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "byte {} of the pickle: {}", self.at, self.what)
    }
}

impl std::error::Error for ReadError {}

/// Reads one pickle that fills `bytes`.
///
/// # Errors
/// The byte at which it is malformed, has something that is not read here, or is beyond
/// [`DEPTH_MAX`] or [`VALUES_MAX`], or repeats too much.
pub fn read(bytes: &[u8]) -> Result<Value, ReadError> {
    let (copied_items, copied_bytes) = (COPIED_ITEMS_MAX, COPIED_BYTES_MAX);
    read_within(bytes, Limits { values: VALUES_MAX, copied_items, copied_bytes })
}

/// What a pickle may cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    pub values: usize,
    pub copied_items: usize,
    pub copied_bytes: usize,
}

impl Limits {
    pub(super) fn too_many(self) -> String {
        format!("more than {} values; an array of numpy's is one", self.values)
    }
}

/// As [`read`](read()), within other limits.
///
/// # Errors
/// As [`read`](read()).
pub fn read_within(bytes: &[u8], limits: Limits) -> Result<Value, ReadError> {
    let mut reader = Reader { bytes, limits, ..Reader::default() };
    loop {
        reader.start = reader.at;
        let [code] = reader.array()?;
        if code == op::STOP {
            break;
        }
        reader.step(code)?;
    }
    let root = reader.pop()?;
    if !reader.stack.is_empty() || !reader.marks.is_empty() {
        return Err(reader.error("it ends with more than one value"));
    }
    if reader.at < bytes.len() {
        let n = bytes.len() - reader.at;
        return Err(reader.error(format!("{n} bytes are left over after its end")));
    }
    let at = reader.start;
    nodes::build(reader.nodes, root, limits).map_err(|what| ReadError { at, what })
}

#[derive(Default)]
struct Reader<'a> {
    bytes: &'a [u8],
    limits: Limits,
    at: usize,
    /// Where the present operation began.
    start: usize,
    stack: Vec<Part>,
    /// Lengths of the stack at its marks.
    marks: Vec<usize>,
    memo: Vec<Option<Part>>,
    nodes: Vec<Node>,
    n_pushed: usize,
}

impl<'a> Reader<'a> {
    fn error(&self, what: impl Into<String>) -> ReadError {
        ReadError { at: self.start, what: what.into() }
    }

    fn take(&mut self, n: u64) -> Result<&'a [u8], ReadError> {
        let left = &self.bytes[self.at..];
        let taken = usize::try_from(n).ok().and_then(|n| left.get(..n));
        let Some(taken) = taken else {
            let what = format!("it ends here, {n} bytes were expected and {} are left", left.len());
            return Err(ReadError { at: self.at, what });
        };
        self.at += taken.len();
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let taken = self.take(N as u64)?;
        Ok(taken.try_into().expect("take gives exactly N bytes"))
    }

    /// An argument that ends with its line.
    fn line(&mut self) -> Result<&'a [u8], ReadError> {
        let left = &self.bytes[self.at..];
        let Some(length) = left.iter().position(|byte| *byte == b'\n') else {
            return Err(self.error("its line does not end"));
        };
        self.at += length + 1;
        Ok(&left[..length])
    }

    fn line_of_text(&mut self) -> Result<String, ReadError> {
        let line = self.line()?;
        self.text(line).map(str::to_owned)
    }

    fn text(&self, bytes: &'a [u8]) -> Result<&'a str, ReadError> {
        std::str::from_utf8(bytes).map_err(|_| self.error("a text that is not UTF-8"))
    }

    fn push(&mut self, part: Part) -> Result<(), ReadError> {
        self.n_pushed += 1;
        if self.n_pushed > self.limits.values {
            return Err(self.too_many());
        }
        self.stack.push(part);
        Ok(())
    }

    fn too_many(&self) -> ReadError {
        self.error(self.limits.too_many())
    }

    fn add(&mut self, node: Node) -> Result<Part, ReadError> {
        let id = u32::try_from(self.nodes.len()).map_err(|_| self.too_many())?;
        self.nodes.push(node);
        Ok(Part::Node(id))
    }

    fn push_node(&mut self, node: Node) -> Result<(), ReadError> {
        let part = self.add(node)?;
        self.push(part)
    }

    fn pop(&mut self) -> Result<Part, ReadError> {
        let bottom = self.marks.last().copied().unwrap_or(0);
        match self.stack.pop() {
            Some(part) if self.stack.len() >= bottom => Ok(part),
            _ => Err(self.error("a value was expected before it")),
        }
    }

    fn pop_mark(&mut self) -> Result<Vec<Part>, ReadError> {
        match self.marks.pop() {
            Some(mark) => Ok(self.stack.split_off(mark)),
            None => Err(self.error("a mark was expected before it")),
        }
    }

    fn pop_n(&mut self, n: usize) -> Result<Vec<Part>, ReadError> {
        let mut parts = Vec::with_capacity(n);
        for _ in 0..n {
            parts.push(self.pop()?);
        }
        parts.reverse();
        Ok(parts)
    }

    /// The value on top of the stack, as a node.
    fn top(&mut self) -> Result<&mut Node, ReadError> {
        let bottom = self.marks.last().copied().unwrap_or(0);
        match self.stack[bottom..].last() {
            Some(Part::Node(id)) => Ok(&mut self.nodes[*id as usize]),
            _ => Err(self.error("a list, a dictionary or an object was expected before it")),
        }
    }

    fn step(&mut self, code: u8) -> Result<(), ReadError> {
        match code {
            op::NONE => self.push(Part::None),
            op::NEWTRUE => self.push(Part::Bool(true)),
            op::NEWFALSE => self.push(Part::Bool(false)),
            op::BININT..=op::BININT2 | op::INT | op::LONG1 | op::LONG4 => self.number(code),
            op::FLOAT | op::BINFLOAT => self.float(code),
            op::UNICODE
            | op::BINUNICODE
            | op::SHORT_BINUNICODE
            | op::BINUNICODE8
            | op::BINBYTES
            | op::SHORT_BINBYTES
            | op::BINBYTES8
            | op::BYTEARRAY8 => self.text_or_bytes(code),
            op::PUT | op::BINPUT | op::LONG_BINPUT | op::MEMOIZE => self.remember(code),
            op::GET | op::BINGET | op::LONG_BINGET => self.recall(code),
            op::GLOBAL | op::STACK_GLOBAL | op::REDUCE | op::NEWOBJ | op::BUILD => {
                self.object(code)
            }
            op::PROTO => {
                let [protocol] = self.array()?;
                let known = protocol <= PROTOCOL_MAX;
                if known { Ok(()) } else { Err(self.error(format!("protocol {protocol}"))) }
            }
            op::FRAME => {
                let length = u64::from_le_bytes(self.array()?);
                let left = (self.bytes.len() - self.at) as u64;
                if length <= left { Ok(()) } else { Err(self.error("a frame longer than it is")) }
            }
            op::MARK => {
                self.n_pushed += 1;
                self.marks.push(self.stack.len());
                if self.n_pushed > self.limits.values { Err(self.too_many()) } else { Ok(()) }
            }
            op::POP if self.marks.last() == Some(&self.stack.len()) => self.pop_mark().map(drop),
            op::POP => self.pop().map(drop),
            op::POP_MARK => self.pop_mark().map(drop),
            op::DUP => {
                let part = self.pop()?;
                self.push(part)?;
                self.push(part)
            }
            _ => self.collection(code),
        }
    }

    fn number(&mut self, code: u8) -> Result<(), ReadError> {
        let value = match code {
            op::BININT => i64::from(i32::from_le_bytes(self.array()?)),
            op::BININT1 => i64::from(u8::from_le_bytes(self.array()?)),
            op::BININT2 => i64::from(u16::from_le_bytes(self.array()?)),
            op::INT | op::LONG => {
                let line = self.line_of_text()?;
                match line.as_str() {
                    "00" => return self.push(Part::Bool(false)),
                    "01" => return self.push(Part::Bool(true)),
                    _ => (),
                }
                let value: i128 = (line.strip_suffix('L').unwrap_or(&line).parse())
                    .map_err(|_| self.error("an integer of 128 bits was expected"))?;
                return self.long(&value.to_le_bytes());
            }
            op::LONG1 => {
                let [length] = self.array()?;
                let bytes = self.take(u64::from(length))?;
                return self.long(bytes);
            }
            _ => {
                let length = i32::from_le_bytes(self.array()?);
                let length = u64::try_from(length).map_err(|_| self.error("a negative length"))?;
                let bytes = self.take(length)?;
                return self.long(bytes);
            }
        };
        self.push(Part::Int(value))
    }

    /// Two's complement of any length, least significant byte first.
    fn long(&mut self, bytes: &[u8]) -> Result<(), ReadError> {
        let sign = if bytes.last().is_some_and(|last| last & 0x80 != 0) { 0xFF } else { 0 };
        let mut needed = bytes.len();
        // A byte that only repeats the sign of the one below it says nothing.
        while needed > 0
            && bytes[needed - 1] == sign
            && (needed == 1 && sign == 0 || needed > 1 && (bytes[needed - 2] ^ sign) & 0x80 == 0)
        {
            needed -= 1;
        }
        let bytes = &bytes[..needed];
        if bytes.len() > size_of::<i64>() {
            return self.push_node(Node::Long(bytes.to_vec()));
        }
        let mut wide = [sign; size_of::<i64>()];
        wide[..bytes.len()].copy_from_slice(bytes);
        self.push(Part::Int(i64::from_le_bytes(wide)))
    }

    fn float(&mut self, code: u8) -> Result<(), ReadError> {
        let value = match code {
            op::BINFLOAT => f64::from_be_bytes(self.array()?),
            _ => {
                let line = self.line_of_text()?;
                line.parse().map_err(|_| self.error("a number was expected"))?
            }
        };
        self.push(Part::Float(value))
    }

    fn text_or_bytes(&mut self, code: u8) -> Result<(), ReadError> {
        if code == op::UNICODE {
            let line = self.line()?;
            let text = unescaped(line).ok_or_else(|| self.error("a malformed escape"))?;
            return self.push_node(Node::Text(text));
        }
        let length = match code {
            op::SHORT_BINUNICODE | op::SHORT_BINBYTES => {
                u64::from(u8::from_le_bytes(self.array()?))
            }
            op::BINUNICODE | op::BINBYTES => u64::from(u32::from_le_bytes(self.array()?)),
            _ => u64::from_le_bytes(self.array()?),
        };
        let bytes = self.take(length)?;
        let is_text = matches!(code, op::SHORT_BINUNICODE | op::BINUNICODE | op::BINUNICODE8);
        self.push_node(if is_text {
            Node::Text(self.text(bytes)?.to_owned())
        } else {
            Node::Bytes(bytes.to_vec())
        })
    }

    fn remember(&mut self, code: u8) -> Result<(), ReadError> {
        let idx = match code {
            op::MEMOIZE => self.memo.len(),
            _ => self.idx(code)?,
        };
        // Python counts what it remembers, so that no number exceeds that of the bytes.
        if idx > self.bytes.len() {
            return Err(self.error(format!("memo {idx} is beyond what the pickle can remember")));
        }
        let part = self.pop()?;
        self.stack.push(part);
        if self.memo.len() <= idx {
            self.memo.resize(idx + 1, None);
        }
        self.memo[idx] = Some(part);
        Ok(())
    }

    fn recall(&mut self, code: u8) -> Result<(), ReadError> {
        let idx = self.idx(code)?;
        match self.memo.get(idx) {
            Some(Some(part)) => self.push(*part),
            _ => Err(self.error(format!("memo {idx} was not filled"))),
        }
    }

    fn idx(&mut self, code: u8) -> Result<usize, ReadError> {
        match code {
            op::BINPUT | op::BINGET => Ok(usize::from(u8::from_le_bytes(self.array()?))),
            op::LONG_BINPUT | op::LONG_BINGET => Ok(u32::from_le_bytes(self.array()?) as usize),
            _ => {
                let line = self.line_of_text()?;
                line.parse().map_err(|_| self.error("a memo's number was expected"))
            }
        }
    }

    fn collection(&mut self, code: u8) -> Result<(), ReadError> {
        let node = match code {
            op::EMPTY_LIST => Node::List(Vec::new()),
            op::EMPTY_DICT => Node::Dict(Vec::new()),
            op::EMPTY_SET => Node::Set(Vec::new()),
            op::EMPTY_TUPLE => Node::Tuple(Vec::new()),
            op::TUPLE1 | op::TUPLE2 | op::TUPLE3 => {
                Node::Tuple(self.pop_n(usize::from(code - op::TUPLE1) + 1)?)
            }
            op::TUPLE => Node::Tuple(self.pop_mark()?),
            op::LIST => Node::List(self.pop_mark()?),
            op::FROZENSET => Node::FrozenSet(self.pop_mark()?),
            op::DICT => {
                let parts = self.pop_mark()?;
                Node::Dict(self.pairs(&parts)?)
            }
            op::APPEND => {
                let part = self.pop()?;
                return self.append(vec![part]);
            }
            op::APPENDS | op::ADDITEMS => {
                let parts = self.pop_mark()?;
                return self.append(parts);
            }
            op::SETITEM | op::SETITEMS => {
                let parts = if code == op::SETITEM { self.pop_n(2)? } else { self.pop_mark()? };
                let pairs = self.pairs(&parts)?;
                match self.top()? {
                    Node::Dict(entries) => entries.extend(pairs),
                    Node::Object(object) => object.entries.extend(pairs),
                    _ => return Err(self.error("a dictionary was expected before it")),
                }
                return Ok(());
            }
            _ => return Err(self.error(format!("the operation {code:#04x} is not read here"))),
        };
        self.push_node(node)
    }

    fn append(&mut self, parts: Vec<Part>) -> Result<(), ReadError> {
        match self.top()? {
            Node::List(items) | Node::Set(items) => items.extend(parts),
            Node::Object(object) => object.items.extend(parts),
            _ => return Err(self.error("a list or a set was expected before it")),
        }
        Ok(())
    }

    fn pairs(&self, parts: &[Part]) -> Result<Vec<(Part, Part)>, ReadError> {
        let (pairs, rest) = parts.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.error("a key without a value"));
        }
        Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
    }

    fn object(&mut self, code: u8) -> Result<(), ReadError> {
        match code {
            op::GLOBAL => {
                let module = self.line_of_text()?;
                let module = self.add(Node::Text(module))?;
                let name = self.line_of_text()?;
                let name = self.add(Node::Text(name))?;
                self.push_node(Node::Global(module, name))
            }
            op::STACK_GLOBAL => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (self.node(module), self.node(name)) {
                    (Some(Node::Text(_)), Some(Node::Text(_))) => {
                        self.push_node(Node::Global(module, name))
                    }
                    _ => Err(self.error("the name of a class was expected before it")),
                }
            }
            op::BUILD => {
                let part = self.pop()?;
                match self.top()? {
                    Node::Object(object) if object.state.is_none() => object.state = Some(part),
                    _ => return Err(self.error("an object without a state was expected before it")),
                }
                Ok(())
            }
            _ => {
                let (args, class) = (self.pop()?, self.pop()?);
                let (Some(Node::Tuple(_)), Some(Node::Global(..))) =
                    (self.node(args), self.node(class))
                else {
                    return Err(self.error("a named class and its arguments were expected"));
                };
                let made = if code == op::REDUCE { Made::Called } else { Made::New };
                let (state, items, entries) = (None, Vec::new(), Vec::new());
                let object = Unbuilt { class, made, args, state, items, entries };
                self.push_node(Node::Object(Box::new(object)))
            }
        }
    }

    fn node(&self, part: Part) -> Option<&Node> {
        match part {
            Part::Node(id) => self.nodes.get(id as usize),
            Part::None | Part::Bool(_) | Part::Int(_) | Part::Float(_) => None,
        }
    }
}

/// The text of protocol 0: Latin 1, with what is beyond it, a backslash and a line's end by number.
fn unescaped(line: &[u8]) -> Option<String> {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'\\' {
            text.push(char::from(*byte));
            continue;
        }
        let (kind, after) = rest.split_first()?;
        let n_digits = match kind {
            b'u' => 4,
            b'U' => 8,
            _ => return None,
        };
        let (digits, after) = after.split_at_checked(n_digits)?;
        let number = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        text.push(char::from_u32(number)?);
        rest = after;
    }
    Some(text)
}
