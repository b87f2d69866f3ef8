//! What a Python client sends, as plain data and arrays of numbers: undoes ipyparallel's canning
//! and reads numpy's arrays by name, never by a call. Whatever is neither is told by what it is.
use std::cmp::Ordering;

use prust::plain::Number;

use crate::wire::pickle::{self, Limits, Object, Value};

/// Containers with fewer items have their own items canned, as in ipyparallel.
pub const CANNED_ITEMS_MAX: usize = 64;
/// Of a pickle within a pickle: an array with hardly any numbers.
const INNER: Limits = Limits { values: 256, copied_items: 256, copied_bytes: 4096 };
/// Rows of an array, where there are no more than that of bytes.
const ROWS_MAX: usize = 1 << 20;
/// Numbers of a `range`.
const RANGE_MAX: usize = pickle::VALUES_MAX;

pub const CANNING: &str = "ipyparallel.serialize.canning";

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    None,
    Bool(bool),
    Int(i64),
    /// Beyond `i64`.
    Wide(Box<Wide>),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Self>),
    Tuple(Vec<Self>),
    Dict(Vec<(Self, Self)>),
    Array(Box<Array>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wide {
    Signed(i128),
    /// Beyond `i128`.
    Unsigned(u128),
}

/// Numbers in the order of their indices, the last one fastest; one number without any dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Array {
    pub number: Number,
    pub shape: Vec<usize>,
    /// Little-endian.
    pub bytes: Vec<u8>,
}

/// Takes the frames that follow a pickle into its value, where canning left holes for them.
///
/// # Errors
/// There are fewer frames than holes.
pub fn restore(
    value: &mut Value,
    frames: &mut impl Iterator<Item = Vec<u8>>,
) -> Result<(), String> {
    match value {
        Value::List(items) | Value::Tuple(items) | Value::Set(items)
            if items.len() < CANNED_ITEMS_MAX =>
        {
            items.iter_mut().try_for_each(|item| restore_one(item, frames))
        }
        Value::Dict(entries) if entries.len() < CANNED_ITEMS_MAX => {
            let has_floats = entries.iter().any(|(key, _)| matches!(key, Value::Float(_)));
            let mut sorted: Vec<_> = entries.iter_mut().collect();
            sorted.sort_by(|(one, _), (other, _)| order(one, other, has_floats));
            sorted.into_iter().try_for_each(|(_, value)| restore_one(value, frames))
        }
        _ => restore_one(value, frames),
    }
}

/// As Python sorts the keys of a dictionary. Keys of several kinds it refuses; they have an order
/// here all the same, without which sorting panics. Integers are compared as floats where there
/// are any.
fn order(one: &Value, other: &Value, has_floats: bool) -> Ordering {
    match (one, other) {
        (Value::Text(one), Value::Text(other)) => one.cmp(other),
        (Value::Bytes(one), Value::Bytes(other)) => one.cmp(other),
        _ => match (number(one), number(other)) {
            (Some((_, one)), Some((_, other))) if has_floats => one.total_cmp(&other),
            (Some((one, _)), Some((other, _))) => one.cmp(&other),
            _ => kind(one).cmp(&kind(other)),
        },
    }
}

/// A number as an integer, if it is one, and as a float.
fn number(key: &Value) -> Option<(i64, f64)> {
    match key {
        Value::Bool(value) => Some((i64::from(*value), f64::from(*value))),
        Value::Int(value) => Some((*value, *value as f64)),
        Value::Float(value) => Some((0, *value)),
        _ => None,
    }
}

fn kind(key: &Value) -> u8 {
    match key {
        Value::Text(_) => 0,
        Value::Bytes(_) => 1,
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => 2,
        _ => 3,
    }
}

fn restore_one(
    value: &mut Value,
    frames: &mut impl Iterator<Item = Vec<u8>>,
) -> Result<(), String> {
    let Value::Object(object) = value else { return Ok(()) };
    if object.class.module != CANNING {
        return Ok(());
    }
    let Some(Value::List(buffers)) = object.attribute_mut("buffers") else { return Ok(()) };
    for hole in buffers.iter_mut().filter(|buffer| **buffer == Value::None) {
        let frame = frames.next().ok_or("a frame of the message is missing")?;
        *hole = Value::Bytes(frame);
    }
    Ok(())
}

/// What the value is as data.
///
/// # Errors
/// What it is instead, in words that complete "it holds".
pub fn read(value: Value) -> Result<Data, String> {
    let all =
        |items: Vec<Value>| -> Result<Vec<Data>, String> { items.into_iter().map(read).collect() };
    Ok(match value {
        Value::None => Data::None,
        Value::Bool(value) => Data::Bool(value),
        Value::Int(value) => Data::Int(value),
        Value::Long(bytes) => Data::Wide(Box::new(wide(&bytes)?)),
        Value::Float(value) => Data::Float(value),
        Value::Text(text) => Data::Text(text),
        Value::Bytes(bytes) => Data::Bytes(bytes),
        Value::List(items) => Data::List(all(items)?),
        Value::Tuple(items) => Data::Tuple(all(items)?),
        Value::Dict(entries) => {
            let entries = entries.into_iter();
            let entries = entries.map(|(key, value)| Ok((read(key)?, read(value)?)));
            Data::Dict(entries.collect::<Result<_, String>>()?)
        }
        Value::Set(_) | Value::FrozenSet(_) => {
            return Err("a set, which has no order: send sorted(..) of it".to_owned());
        }
        Value::Global(global) => return Err(format!("`{global}`, which is code")),
        Value::Object(object) => read_object(*object)?,
    })
}

fn wide(bytes: &[u8]) -> Result<Wide, String> {
    let sign = if bytes.last().is_some_and(|last| last & 0x80 != 0) { 0xFF } else { 0 };
    let mut wide = [sign; 16];
    match bytes {
        [low @ .., 0] if low.len() == 16 => {
            wide.copy_from_slice(low);
            Ok(Wide::Unsigned(u128::from_le_bytes(wide)))
        }
        _ if bytes.len() <= 16 => {
            wide[..bytes.len()].copy_from_slice(bytes);
            Ok(Wide::Signed(i128::from_le_bytes(wide)))
        }
        _ => Err("an integer of more than 128 bits".to_owned()),
    }
}

fn read_object(mut object: Object) -> Result<Data, String> {
    let class = object.class.clone();
    let core = class.module.strip_prefix("numpy._core.");
    let core = core.or_else(|| class.module.strip_prefix("numpy.core."));
    match (core.unwrap_or(&class.module), class.name.as_str()) {
        (CANNING, "CannedBytes" | "CannedMemoryView") => match buffer(&mut object) {
            Some(bytes) => Ok(Data::Bytes(bytes)),
            None => Err("canned bytes without their bytes".to_owned()),
        },
        (CANNING, "CannedArray") => read_canned_array(object),
        (CANNING, "Reference") => {
            Err("a Reference: name the variable in Rust code instead".to_owned())
        }
        (CANNING, "CannedFunction" | "CannedPartial") => Err("a Python function".to_owned()),
        ("multiarray", "_reconstruct") => match object.state.take() {
            Some(Value::Tuple(state)) => read_array(state),
            _ => Err("an array without its numbers".to_owned()),
        },
        ("multiarray", "scalar") => {
            let [dtype, bytes] = taken(object.args).ok_or("a malformed number of numpy's")?;
            array(dtype_of(&dtype)?, Some(Vec::new()), bytes)
        }
        ("numeric", "_frombuffer") => {
            let [bytes, dtype, shape, order] = taken(object.args).ok_or("a malformed array")?;
            let is_fortran = order.text() == Some("F");
            read_array(vec![Value::None, shape, dtype, Value::Bool(is_fortran), bytes])
        }
        ("builtins", "bytearray") => match taken(object.args) {
            Some([Value::Bytes(bytes)]) => Ok(Data::Bytes(bytes)),
            None => Ok(Data::Bytes(Vec::new())),
            Some(_) => Err("a malformed bytearray".to_owned()),
        },
        ("builtins", "range") => match taken(object.args) {
            Some([Value::Int(from), Value::Int(to), Value::Int(step)]) => range(from, to, step),
            _ => Err("a range beyond 64 bits".to_owned()),
        },
        ("collections", "OrderedDict") => read(Value::Dict(object.entries)),
        ("builtins", "complex") => Err("a complex number: send its parts".to_owned()),
        _ => Err(format!("an object of the class `{class}`")),
    }
}

/// The arguments of an object, if there are so many.
fn taken<const N: usize>(args: Vec<Value>) -> Option<[Value; N]> {
    args.try_into().ok()
}

/// The one buffer of something canned.
fn buffer(object: &mut Object) -> Option<Vec<u8>> {
    let Some(Value::List(buffers)) = object.attribute_mut("buffers") else { return None };
    match buffers.pop() {
        Some(Value::Bytes(bytes)) if buffers.is_empty() => Some(bytes),
        _ => None,
    }
}

fn read_canned_array(mut object: Object) -> Result<Data, String> {
    let bytes = buffer(&mut object).ok_or("an array without its numbers")?;
    if object.attribute("pickled") == Some(&Value::Bool(true)) {
        return match pickle::read_within(&bytes, INNER) {
            Ok(Value::Object(array)) if array.class.module != CANNING => read_object(*array),
            Ok(_) => Err("an array without its numbers".to_owned()),
            Err(error) => Err(format!("an unreadable array: {error}")),
        };
    }
    let dtype = object.attribute("dtype").ok_or("an array without a dtype")?;
    let dtype = dtype_of(dtype)?;
    let shape = object.attribute("shape").and_then(shape_of);
    array(dtype, shape, Value::Bytes(bytes))
}

/// An array by its state: a version, shape, dtype, whether in Fortran's order, its bytes.
fn read_array(state: Vec<Value>) -> Result<Data, String> {
    let [_, shape, dtype, is_fortran, bytes] = taken(state).ok_or("a malformed array")?;
    let shape = shape_of(&shape);
    let is_flat = shape.as_ref().is_some_and(|shape| shape.len() < 2);
    if is_fortran == Value::Bool(true) && !is_flat {
        return Err("an array in Fortran's order: send numpy.ascontiguousarray(..)".to_owned());
    }
    array(dtype_of(&dtype)?, shape, bytes)
}

fn shape_of(shape: &Value) -> Option<Vec<usize>> {
    let Value::Tuple(shape) = shape else { return None };
    let side = |side: &Value| match side {
        Value::Int(side) => usize::try_from(*side).ok(),
        _ => None,
    };
    shape.iter().map(side).collect()
}

/// The kind of an array's numbers, and whether their bytes are the other way round.
type Dtype = (Number, bool);

fn dtype_of(dtype: &Value) -> Result<Dtype, String> {
    let text = match dtype {
        Value::Text(text) => text.clone(),
        Value::Object(object) if object.class.is("numpy", "dtype") => {
            let kind = object.args.first().and_then(Value::text).unwrap_or_default();
            let order = match &object.state {
                Some(Value::Tuple(state)) => state.get(1).and_then(Value::text),
                _ => None,
            };
            format!("{}{kind}", order.unwrap_or_default())
        }
        _ => return Err("an array of records: send its columns".to_owned()),
    };
    let kind = text.trim_start_matches(['<', '>', '=', '|']);
    let number = match kind {
        "b1" => Number::Bool,
        "u1" => Number::U8,
        "i1" => Number::I8,
        "u2" => Number::U16,
        "i2" => Number::I16,
        "u4" => Number::U32,
        "i4" => Number::I32,
        "u8" => Number::U64,
        "i8" => Number::I64,
        "f4" => Number::F32,
        "f8" => Number::F64,
        _ if kind.starts_with(['U', 'S', 'T']) => {
            return Err(format!("an array of texts (`{text}`): send its .tolist()"));
        }
        _ => {
            return Err(format!(
                "an array of the dtype `{text}`: integers, floats of 32 and 64 bits and booleans \
                 can be sent"
            ));
        }
    };
    Ok((number, text.starts_with('>')))
}

/// dtype's name in numpy, where there is one.
pub fn dtype_name(number: Number) -> Option<&'static str> {
    Some(match number {
        Number::Bool => "|b1",
        Number::U8 => "|u1",
        Number::I8 => "|i1",
        Number::U16 => "<u2",
        Number::I16 => "<i2",
        Number::U32 => "<u4",
        Number::I32 => "<i4",
        Number::U64 => "<u8",
        Number::I64 => "<i8",
        Number::F32 => "<f4",
        Number::F64 => "<f8",
        Number::U128 | Number::I128 => return None,
    })
}

fn array(dtype: Dtype, shape: Option<Vec<usize>>, bytes: Value) -> Result<Data, String> {
    let (number, is_swapped) = dtype;
    let (Some(shape), Value::Bytes(mut bytes)) = (shape, bytes) else {
        return Err("a malformed array".to_owned());
    };
    let size = number.size();
    let n_bytes = shape.iter().try_fold(size, |n, side| n.checked_mul(*side));
    if n_bytes != Some(bytes.len()) {
        let n = bytes.len();
        return Err(format!("an array of shape {shape:?} whose numbers take {n} bytes"));
    }
    let rows = &shape[..shape.len().saturating_sub(1)];
    let n_rows_max = bytes.len().max(ROWS_MAX);
    let mut n_rows = rows.iter().scan(1usize, |n, side| {
        *n = n.saturating_mul(*side);
        Some(*n)
    });
    if n_rows.any(|n| n > n_rows_max) {
        return Err(format!("an array of shape {shape:?}, with more rows than numbers"));
    }
    if is_swapped {
        bytes.chunks_exact_mut(size).for_each(<[u8]>::reverse);
    }
    if number == Number::Bool {
        bytes.iter_mut().for_each(|byte| *byte = u8::from(*byte != 0));
    }
    Ok(Data::Array(Box::new(Array { number, shape, bytes })))
}

fn range(from: i64, to: i64, step: i64) -> Result<Data, String> {
    let magnitude = usize::try_from(step.unsigned_abs()).unwrap_or(usize::MAX);
    let numbers: Box<dyn Iterator<Item = i64>> = match step {
        0 => return Err("a range of step 0".to_owned()),
        1.. => Box::new((from..to).step_by(magnitude)),
        // Counted from the other side, below the first.
        _ => Box::new((i128::from(to) + 1..=i128::from(from)).rev().step_by(magnitude).map(|n| {
            // Between two numbers of 64 bits.
            n as i64
        })),
    };
    let numbers: Vec<Data> = numbers.take(RANGE_MAX + 1).map(Data::Int).collect();
    if numbers.len() > RANGE_MAX {
        return Err(format!("a range of more than {RANGE_MAX} numbers: send numpy.arange(..)"));
    }
    Ok(Data::List(numbers))
}
