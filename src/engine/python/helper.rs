//! An `apply_request` of a Python client: which of ipyparallel's own helper functions it names, and
//! with which data. They are known by their names; no other function can be served, and nothing
//! that was sent is ever run.
use prust::codec;
use prust::items::Lengths;
use prust::outcome::{Prefix, Table, write_payload};

use super::data::{self, CANNING, Data};
use super::encode::encode;
use super::types::Type;
use crate::engine::event::Fault;
use crate::wire::pickle::{self, Value};

const UTIL: &str = "ipyparallel.util";

/// What a Python client asks for.
#[derive(Debug)]
pub enum Helper {
    Push(Vec<Pushed>),
    /// Variables by name: one, or a list of them.
    Pull {
        names: Vec<String>,
        many: bool,
    },
    /// A function that concerns Python alone.
    Nothing,
}

/// A variable to be made.
#[derive(Debug)]
pub struct Pushed {
    pub name: String,
    pub ty: Type,
    /// For the trampoline of its type.
    pub payload: Vec<u8>,
}

/// Reads the frames of a request.
///
/// # Errors
/// It is no helper's call, or has data that no Rust variable can be made of.
pub fn read(frames: Vec<Vec<u8>>) -> Result<Helper, Fault> {
    let mut frames = frames.into_iter();
    let function = object(&mut frames).map_err(|why| unsupported(&format!("({why})")))?;
    let Some((module, name)) = name_of(&function) else {
        return Err(unsupported("without a name"));
    };
    let info = object(&mut frames).map_err(|why| bad(&why))?;
    match (module, name) {
        (CANNING, "use_pickle" | "use_dill" | "use_cloudpickle") => Ok(Helper::Nothing),
        (UTIL, "_push") => push(&info, &mut frames),
        (UTIL, "_pull") => pull(&info, &mut frames),
        _ => Err(unsupported(&format!("(`{module}.{name}`)"))),
    }
}

/// The payload of a helper's trampoline: a variable's name and its encoded value, if any.
pub fn payload(name: &str, value: Option<&[u8]>) -> Result<Vec<u8>, String> {
    let shared = codec::to_bytes(name).map_err(|error| error.to_string())?;
    let prefix = codec::to_bytes(&Prefix { function: None, shared });
    let prefix = prefix.map_err(|error| error.to_string())?;
    let bytes = value.unwrap_or_default();
    let size = u32::try_from(bytes.len()).map_err(|_| "4 GiB or more".to_owned())?;
    let n = u64::from(value.is_some());
    let lengths = Lengths::Fixed { n, size: if n == 0 { 0 } else { size } };
    let table = Table { lengths, ..Table::default() };
    Ok(write_payload(&prefix, &table, bytes))
}

fn unsupported(function: &str) -> Fault {
    let text = format!(
        "a Rust engine cannot run Python functions {function}: use execute(\"Rust code\"), and \
         push, pull, scatter and gather for data"
    );
    Fault::new("UnsupportedOperation", text)
}

fn bad(why: &str) -> Fault {
    Fault::new("BadRequest", format!("the call is unreadable: {why}"))
}

/// The next pickle, with the frames that belong to it.
fn object(frames: &mut impl Iterator<Item = Vec<u8>>) -> Result<Value, String> {
    let pickle = frames.next().ok_or("a frame of the message is missing")?;
    let mut value = pickle::read(&pickle).map_err(|error| error.to_string())?;
    data::restore(&mut value, frames)?;
    Ok(value)
}

/// Module and name of a function: canned, or pickled by its name.
fn name_of(function: &Value) -> Option<(&str, &str)> {
    match function {
        Value::Global(global) => Some((&global.module, &global.name)),
        Value::Object(object) if object.class.is(CANNING, "CannedFunction") => {
            let attribute = |name| object.attribute(name).and_then(Value::text);
            Some((attribute("module")?, attribute("__name__")?))
        }
        _ => None,
    }
}

fn push(info: &Value, frames: &mut impl Iterator<Item = Vec<u8>>) -> Result<Helper, Fault> {
    let (Some(Value::Int(0)), Some(Value::List(names))) = (info.get("nargs"), info.get("kw_keys"))
    else {
        return Err(bad("a push names its values"));
    };
    let mut pushed = Vec::new();
    for name in names {
        let name = variable(name)?;
        let value = object(frames).map_err(|why| bad(&why))?;
        pushed.push(one(&name, value).map_err(|why| {
            let text = format!("no Rust variable `{name}` can be made of this: it holds {why}");
            Fault::new("TypeError", text)
        })?);
    }
    Ok(Helper::Push(pushed))
}

fn one(name: &str, value: Value) -> Result<Pushed, String> {
    let data: Data = data::read(value)?;
    let ty = Type::of(&data)?;
    let bytes = encode(&data, &ty)?;
    // Before the payload is made: large values would be here three times.
    drop(data);
    Ok(Pushed { name: name.to_owned(), ty, payload: payload(name, Some(&bytes))? })
}

fn pull(info: &Value, frames: &mut impl Iterator<Item = Vec<u8>>) -> Result<Helper, Fault> {
    if info.get("nargs") != Some(&Value::Int(1)) {
        return Err(bad("a pull has one argument"));
    }
    match object(frames).map_err(|why| bad(&why))? {
        Value::List(names) | Value::Tuple(names) | Value::Set(names) => {
            let names = names.iter().map(variable).collect::<Result<_, _>>()?;
            Ok(Helper::Pull { names, many: true })
        }
        name => Ok(Helper::Pull { names: vec![variable(&name)?], many: false }),
    }
}

/// A name that a Rust variable can have.
fn variable(name: &Value) -> Result<String, Fault> {
    let text = name.text().ok_or_else(|| bad("variables are named by texts"))?;
    if syn::parse_str::<syn::Ident>(text).is_ok() {
        return Ok(text.to_owned());
    }
    let text = format!(
        "`{text}` is no name of a Rust variable: letters, digits and underscores make one, and \
         keywords of Rust's are none"
    );
    Err(Fault::new("SyntaxError", text))
}
