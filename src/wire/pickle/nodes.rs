//! What a pickle's program makes: nodes that name each other by number, as Python's objects refer
//! to each other, and one tree of them. What nothing else names is moved into the tree; what is
//! shared is copied, within limits; what contains itself is too deep.
use super::read::{DEPTH_MAX, Limits};
use super::value::{Global, Made, Object, Value};

/// A value on the stack or inside of another: small ones themselves, the rest by number.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Node(u32),
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    /// It has become part of the tree.
    Moved,
    Long(Vec<u8>),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Part>),
    Tuple(Vec<Part>),
    Dict(Vec<(Part, Part)>),
    Set(Vec<Part>),
    FrozenSet(Vec<Part>),
    /// Module and name, which are texts.
    Global(Part, Part),
    Object(Box<Unbuilt>),
}

#[derive(Clone, Debug)]
pub(super) struct Unbuilt {
    /// A [`Node::Global`].
    pub(super) class: Part,
    pub(super) made: Made,
    /// A [`Node::Tuple`].
    pub(super) args: Part,
    pub(super) state: Option<Part>,
    pub(super) items: Vec<Part>,
    pub(super) entries: Vec<(Part, Part)>,
}

/// Makes one tree of what is named by `root`.
///
/// # Errors
/// In words: one of the limits of [`super::read`](super::read()).
pub(super) fn build(nodes: Vec<Node>, root: Part, limits: Limits) -> Result<Value, String> {
    let uses = vec![0; nodes.len()];
    let mut builder = Builder { nodes, uses, limits, n_built: 0, n_items: 0, n_bytes: 0 };
    builder.count_uses(root);
    builder.build(root, 0)
}

struct Builder {
    nodes: Vec<Node>,
    /// How often each node is named by what is not built yet.
    uses: Vec<u32>,
    limits: Limits,
    n_built: usize,
    /// What was copied: items and bytes.
    n_items: usize,
    n_bytes: usize,
}

impl Builder {
    fn count_uses(&mut self, root: Part) {
        let uses = &mut self.uses;
        let mut count = |part: Part| {
            if let Part::Node(id) = part {
                uses[id as usize] += 1;
            }
        };
        count(root);
        self.nodes.iter().for_each(|node| node.each(&mut count));
    }

    fn build(&mut self, part: Part, depth: usize) -> Result<Value, String> {
        self.n_built += 1;
        if self.n_built > self.limits.values {
            return Err(self.limits.too_many());
        }
        let id = match part {
            Part::None => return Ok(Value::None),
            Part::Bool(value) => return Ok(Value::Bool(value)),
            Part::Int(value) => return Ok(Value::Int(value)),
            Part::Float(value) => return Ok(Value::Float(value)),
            Part::Node(id) => id as usize,
        };
        if depth > DEPTH_MAX {
            return Err(format!("nested more than {DEPTH_MAX} levels deep, or within itself"));
        }
        let depth = depth + 1;
        Ok(match self.taken(id)? {
            Node::Long(bytes) => Value::Long(bytes),
            Node::Text(text) => Value::Text(text),
            Node::Bytes(bytes) => Value::Bytes(bytes),
            Node::List(items) => Value::List(self.build_all(items, depth)?),
            Node::Tuple(items) => Value::Tuple(self.build_all(items, depth)?),
            Node::Set(items) => Value::Set(self.build_all(items, depth)?),
            Node::FrozenSet(items) => Value::FrozenSet(self.build_all(items, depth)?),
            Node::Dict(entries) => Value::Dict(self.build_pairs(entries, depth)?),
            Node::Global(module, name) => {
                let names = (self.build(module, depth)?, self.build(name, depth)?);
                let (Value::Text(module), Value::Text(name)) = names else {
                    unreachable!("the reader makes a global of two texts");
                };
                Value::Global(Global { module, name })
            }
            Node::Object(object) => Value::Object(Box::new(self.build_object(*object, depth)?)),
            Node::Moved => unreachable!("only the last use of a node moves it"),
        })
    }

    fn build_object(&mut self, object: Unbuilt, depth: usize) -> Result<Object, String> {
        let Unbuilt { class, made, args, state, items, entries } = object;
        let made_of = (self.build(class, depth)?, self.build(args, depth)?);
        let (Value::Global(class), Value::Tuple(args)) = made_of else {
            unreachable!("the reader makes an object of a global and a tuple");
        };
        let state = state.map(|state| self.build(state, depth)).transpose()?;
        let items = self.build_all(items, depth)?;
        let entries = self.build_pairs(entries, depth)?;
        Ok(Object { class, made, args, state, items, entries })
    }

    fn build_all(&mut self, parts: Vec<Part>, depth: usize) -> Result<Vec<Value>, String> {
        parts.into_iter().map(|part| self.build(part, depth)).collect()
    }

    fn build_pairs(
        &mut self,
        pairs: Vec<(Part, Part)>,
        depth: usize,
    ) -> Result<Vec<(Value, Value)>, String> {
        let pairs = pairs.into_iter();
        pairs.map(|(key, value)| Ok((self.build(key, depth)?, self.build(value, depth)?))).collect()
    }

    /// The node itself where this is its last use, else a copy, which names what it names again.
    fn taken(&mut self, id: usize) -> Result<Node, String> {
        self.uses[id] -= 1;
        if self.uses[id] == 0 {
            return Ok(std::mem::replace(&mut self.nodes[id], Node::Moved));
        }
        let node = &self.nodes[id];
        node.each(&mut |_| self.n_items += 1);
        self.n_bytes += node.n_bytes();
        let Limits { copied_items, copied_bytes, .. } = self.limits;
        if self.n_items > copied_items || self.n_bytes > copied_bytes {
            return Err(format!(
                "it repeats more than {copied_items} items or {copied_bytes} bytes"
            ));
        }
        let uses = &mut self.uses;
        node.each(&mut |part| {
            if let Part::Node(id) = part {
                uses[id as usize] += 1;
            }
        });
        Ok(node.clone())
    }
}

impl Node {
    /// Every part that it names.
    fn each(&self, visit: &mut impl FnMut(Part)) {
        match self {
            Self::Moved | Self::Long(_) | Self::Text(_) | Self::Bytes(_) => (),
            Self::List(parts) | Self::Tuple(parts) | Self::Set(parts) | Self::FrozenSet(parts) => {
                parts.iter().copied().for_each(visit);
            }
            Self::Dict(entries) => each_of_pairs(entries, visit),
            Self::Global(module, name) => [*module, *name].into_iter().for_each(visit),
            Self::Object(object) => {
                let Unbuilt { class, args, state, items, entries, .. } = &**object;
                let parts = [class, args].into_iter().chain(state).chain(items);
                parts.copied().for_each(&mut *visit);
                each_of_pairs(entries, visit);
            }
        }
    }

    fn n_bytes(&self) -> usize {
        match self {
            Self::Long(bytes) | Self::Bytes(bytes) => bytes.len(),
            Self::Text(text) => text.len(),
            _ => 0,
        }
    }
}

fn each_of_pairs(pairs: &[(Part, Part)], visit: &mut impl FnMut(Part)) {
    for (key, value) in pairs {
        visit(*key);
        visit(*value);
    }
}
