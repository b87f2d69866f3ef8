//! What a worker gave as plain data, as Python is to see it: pickled as ipyparallel pickles
//! results, arrays of numbers in frames of their own. A variable that Python has made comes back as
//! what it was there; one that Rust has made as Python's nearest: vectors as lists, bytes as bytes.
use prust::plain::{Number, Plain};

use super::data::{CANNED_ITEMS_MAX, CANNING, dtype_name};
use super::types::Type;
use crate::wire::pickle::{self, Global, Made, Object, Value};

/// Data below this size stays in the pickle, as in ipyparallel.
const FRAME_BYTES_MIN: usize = 1024;

/// A value of Python's: one of a pickle's, or an array.
enum Answer {
    Value(Value),
    Array(&'static str, Vec<usize>, Vec<u8>),
    List(Vec<Self>),
    Tuple(Vec<Self>),
    Dict(Vec<(Value, Self)>),
}

/// The frames of a reply that holds nothing.
pub fn nothing() -> Vec<Vec<u8>> {
    vec![pickle::write(&Value::None)]
}

/// The frames of one value, which was made as `made`, if Python made it.
pub fn one(plain: Plain<'_>, made: Option<&Type>) -> Vec<Vec<u8>> {
    frames(answer(plain, made))
}

/// The frames of a list of values.
pub fn many(values: Vec<(Plain<'_>, Option<&Type>)>) -> Vec<Vec<u8>> {
    let answers = values.into_iter().map(|(plain, made)| answer(plain, made));
    frames(Answer::List(answers.collect()))
}

fn answer(plain: Plain<'_>, made: Option<&Type>) -> Answer {
    let made = match made {
        Some(Type::Maybe(inner)) => Some(&**inner),
        made => made,
    };
    if let Some(Type::Array { number, shape }) = made
        && let Some(dtype) = dtype_name(*number)
        && let Some((mut found, bytes)) = rows(&plain, *number, shape.len())
    {
        // What has no rows has forgotten how long they are.
        if bytes.is_empty() && found.first() == Some(&0) {
            found[1..].copy_from_slice(&shape[1..]);
        }
        return Answer::Array(dtype, found, bytes);
    }
    let of_items = match made {
        Some(Type::List(item)) => Some((**item).clone()),
        Some(Type::Array { number, shape }) if shape.len() > 1 => {
            Some(Type::Array { number: *number, shape: shape[1..].to_vec() })
        }
        _ => None,
    };
    match plain {
        Plain::Unit => Answer::Value(Value::None),
        Plain::One(number, bytes) => Answer::Value(number_of(number, bytes)),
        Plain::Text(text) => Answer::Value(Value::Text(text.to_owned())),
        Plain::Bytes(bytes) => Answer::Value(Value::Bytes(bytes.to_vec())),
        Plain::Many(Number::U8, bytes) if of_items.is_none() => {
            Answer::Value(Value::Bytes(bytes.to_vec()))
        }
        Plain::Many(number, bytes) => {
            let numbers = bytes.chunks_exact(number.size());
            Answer::Value(Value::List(numbers.map(|one| number_of(number, one)).collect()))
        }
        Plain::List(items) if items.is_empty() && made == Some(&Type::Bytes) => {
            Answer::Value(Value::Bytes(Vec::new()))
        }
        Plain::List(items) => {
            let items = items.into_iter().map(|item| answer(item, of_items.as_ref()));
            Answer::List(items.collect())
        }
        Plain::Tuple(items) => {
            let types = match made {
                Some(Type::Tuple(types)) => types.as_slice(),
                _ => &[],
            };
            let items = items.into_iter().enumerate();
            Answer::Tuple(items.map(|(idx, item)| answer(item, types.get(idx))).collect())
        }
        Plain::Map(entries) => {
            let of_values = match made {
                Some(Type::Dict(_, value)) => Some(&**value),
                _ => None,
            };
            let entries = entries.into_iter();
            let entries =
                entries.map(|(key, value)| (key_of(answer(key, None)), answer(value, of_values)));
            Answer::Dict(entries.collect())
        }
    }
}

/// Shape and numbers of a vector of vectors, if all rows are alike.
fn rows(plain: &Plain<'_>, number: Number, n_sides: usize) -> Option<(Vec<usize>, Vec<u8>)> {
    match plain {
        Plain::Many(found, bytes) if n_sides == 1 && *found == number => {
            Some((vec![bytes.len() / number.size()], bytes.to_vec()))
        }
        Plain::List(items) if items.is_empty() => Some((vec![0; n_sides], Vec::new())),
        Plain::List(items) if n_sides > 1 => {
            let mut all = Vec::new();
            let mut shape: Option<Vec<usize>> = None;
            for item in items {
                let (found, bytes) = rows(item, number, n_sides - 1)?;
                if shape.get_or_insert_with(|| found.clone()) != &found {
                    return None;
                }
                all.extend(bytes);
            }
            let rest = shape.unwrap_or_default();
            Some((std::iter::once(items.len()).chain(rest).collect(), all))
        }
        _ => None,
    }
}

fn number_of(number: Number, bytes: &[u8]) -> Value {
    let is_negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
    let fill = if number.is_signed() && is_negative { 0xFF } else { 0 };
    let mut wide = [fill; 17];
    wide[..bytes.len()].copy_from_slice(bytes);
    let [low @ .., _] = wide;
    let low = i128::from_le_bytes(low);
    match number {
        Number::Bool => Value::Bool(low != 0),
        Number::F32 => Value::Float(f64::from(f32::from_bits(low as u32))),
        Number::F64 => Value::Float(f64::from_bits(low as u64)),
        Number::U128 => Value::Long(wide.to_vec()),
        _ => i64::try_from(low).map_or_else(|_| Value::Long(wide.to_vec()), Value::Int),
    }
}

/// Cans what ipyparallel looks at: the value itself, and the items of a small container.
fn frames(answer: Answer) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut can = |answer| match answer {
        Answer::Array(dtype, shape, bytes) if !bytes.is_empty() => {
            canned(dtype, &shape, bytes, &mut frames)
        }
        answer => whole(answer),
    };
    let value = match answer {
        Answer::List(items) if items.len() < CANNED_ITEMS_MAX => {
            Value::List(items.into_iter().map(can).collect())
        }
        Answer::Tuple(items) if items.len() < CANNED_ITEMS_MAX => {
            Value::Tuple(items.into_iter().map(can).collect())
        }
        answer => can(answer),
    };
    frames.insert(0, pickle::write(&value));
    frames
}

fn canned(dtype: &str, shape: &[usize], bytes: Vec<u8>, frames: &mut Vec<Vec<u8>>) -> Value {
    let buffer = if bytes.len() > FRAME_BYTES_MIN {
        frames.push(bytes);
        Value::None
    } else {
        Value::Bytes(bytes)
    };
    let text = |text: &str| Value::Text(text.to_owned());
    let state = vec![
        (text("shape"), sides(shape)),
        (text("dtype"), text(dtype)),
        (text("pickled"), Value::Bool(false)),
        (text("buffers"), Value::List(vec![buffer])),
    ];
    let class = Global::new(CANNING, "CannedArray");
    object(class, Made::New, Vec::new(), Some(Value::Dict(state)))
}

/// A value with everything inside of it. An array is then numpy's own, over bytes.
fn whole(answer: Answer) -> Value {
    match answer {
        Answer::Value(value) => value,
        Answer::Array(dtype, shape, bytes) => {
            let args = vec![sides(&shape), Value::Text(dtype.to_owned()), Value::Bytes(bytes)];
            object(Global::new("numpy", "ndarray"), Made::Called, args, None)
        }
        Answer::List(items) => Value::List(items.into_iter().map(whole).collect()),
        Answer::Tuple(items) => Value::Tuple(items.into_iter().map(whole).collect()),
        Answer::Dict(entries) => {
            Value::Dict(entries.into_iter().map(|(key, value)| (key, whole(value))).collect())
        }
    }
}

/// A dictionary's key: Python takes no list for one.
fn key_of(answer: Answer) -> Value {
    match whole(answer) {
        Value::List(items) => Value::Tuple(items),
        key => key,
    }
}

fn sides(shape: &[usize]) -> Value {
    // A side is no longer than memory.
    let side = |side: &usize| Value::Int(i64::try_from(*side).unwrap_or(i64::MAX));
    Value::Tuple(shape.iter().map(side).collect())
}

fn object(class: Global, made: Made, args: Vec<Value>, state: Option<Value>) -> Value {
    let (items, entries) = (Vec::new(), Vec::new());
    Value::Object(Box::new(Object { class, made, args, state, items, entries }))
}
