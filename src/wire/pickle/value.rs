//! What a pickle holds: Python's plain values, and everything else by its name.

/// One value. Whatever a pickle holds is one of these; there is no way to add to them from outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// An integer beyond `i64`: two's complement, least significant byte first.
    Long(Vec<u8>),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Self>),
    Tuple(Vec<Self>),
    /// In the order of the pickle, which may name a key twice.
    Dict(Vec<(Self, Self)>),
    Set(Vec<Self>),
    FrozenSet(Vec<Self>),
    /// A class or a function, by its name.
    Global(Global),
    Object(Box<Object>),
}

/// The name of a class or a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Global {
    pub module: String,
    pub name: String,
}

/// How Python would make an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// By a call of the named function or class.
    Called,
    /// By `__new__` of the named class.
    New,
}

/// An object as it was written down: what would make it, and what would be put into it.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    pub class: Global,
    pub made: Made,
    pub args: Vec<Value>,
    pub state: Option<Value>,
    /// What would be appended to it, and what would be set in it.
    pub items: Vec<Value>,
    pub entries: Vec<(Value, Value)>,
}

impl Global {
    pub fn new(module: &str, name: &str) -> Self {
        Self { module: module.to_owned(), name: name.to_owned() }
    }

    pub fn is(&self, module: &str, name: &str) -> bool {
        self.module == module && self.name == name
    }
}

impl std::fmt::Display for Global {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.module, self.name)
    }
}

impl Object {
    /// A value of the state, where that is a dictionary.
    pub fn attribute(&self, name: &str) -> Option<&Value> {
        self.state.as_ref()?.get(name)
    }

    /// As [`Self::attribute`], to change it or to take it.
    pub fn attribute_mut(&mut self, name: &str) -> Option<&mut Value> {
        let Some(Value::Dict(entries)) = &mut self.state else { return None };
        let mut named = entries.iter_mut().rev().filter(|(key, _)| key.is_text(name));
        named.next().map(|(_, value)| value)
    }
}

impl Value {
    /// A dictionary's value by its text key; the last one counts.
    pub fn get(&self, name: &str) -> Option<&Self> {
        let Self::Dict(entries) = self else { return None };
        entries.iter().rev().find(|(key, _)| key.is_text(name)).map(|(_, value)| value)
    }

    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    fn is_text(&self, wanted: &str) -> bool {
        self.text() == Some(wanted)
    }
}
