//! Python's data as the bytes of a Rust value of its type, in the codec that cells read.
use prust::codec::{self, CodecError};
use prust::plain::Number;

use super::data::{Array, Data, Wide};
use super::types::Type;

/// The bytes of `data` as a value of `ty`, which is its type.
///
/// # Errors
/// A number that its type does not hold exactly, in words that complete "it holds".
pub fn encode(data: &Data, ty: &Type) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    put(&mut out, data, ty)?;
    Ok(out)
}

fn put(out: &mut Vec<u8>, data: &Data, ty: &Type) -> Result<(), String> {
    match (ty, data) {
        (Type::Unit, Data::None) => Ok(()),
        (Type::Maybe(_), Data::None) => written(codec::append(out, &false)),
        (Type::Maybe(ty), _) => {
            written(codec::append(out, &true))?;
            put(out, data, ty)
        }
        (Type::Number(number), _) => put_number(out, data, *number),
        (Type::Text, Data::Text(text)) => written(codec::append(out, text.as_str())),
        (Type::Bytes, Data::Bytes(bytes)) => {
            codec::append_length(out, bytes.len() as u64);
            out.extend_from_slice(bytes);
            Ok(())
        }
        (Type::List(ty), Data::List(items)) => {
            codec::append_length(out, items.len() as u64);
            items.iter().try_for_each(|item| put(out, item, ty))
        }
        (Type::Array { .. }, Data::Array(array)) => {
            put_rows(out, &array.shape, &array.bytes);
            Ok(())
        }
        (Type::Tuple(types), Data::Tuple(items)) => {
            let pairs = &mut items.iter().zip(types);
            pairs.try_for_each(|(item, ty)| put(out, item, ty))
        }
        (Type::Dict(key_type, value_type), Data::Dict(entries)) => {
            codec::append_length(out, entries.len() as u64);
            entries.iter().try_for_each(|(key, value)| {
                put(out, key, key_type)?;
                put(out, value, value_type)
            })
        }
        _ => unreachable!("the type was made from this value"),
    }
}

fn written(outcome: Result<(), CodecError>) -> Result<(), String> {
    outcome.map_err(|error| format!("what cannot be written: {error}"))
}

/// A vector of vectors; `bytes` are all its numbers.
fn put_rows(out: &mut Vec<u8>, shape: &[usize], bytes: &[u8]) {
    let [side, rest @ ..] = shape else {
        return out.extend_from_slice(bytes);
    };
    codec::append_length(out, *side as u64);
    if rest.is_empty() {
        return out.extend_from_slice(bytes);
    }
    let row = bytes.len().checked_div(*side).unwrap_or(0);
    for idx in 0..*side {
        put_rows(out, rest, &bytes[idx * row..(idx + 1) * row]);
    }
}

/// A number of Python's or numpy's.
enum One {
    Bool(bool),
    Whole(i128),
    Unsigned(u128),
    Float(f64),
    Single(f32),
}

fn one(data: &Data) -> One {
    match data {
        Data::Bool(value) => One::Bool(*value),
        Data::Int(value) => One::Whole(i128::from(*value)),
        Data::Wide(wide) => match **wide {
            Wide::Signed(value) => One::Whole(value),
            Wide::Unsigned(value) => One::Unsigned(value),
        },
        Data::Float(value) => One::Float(*value),
        Data::Array(array) => one_of(array),
        _ => unreachable!("the type was made from this value, which is a number"),
    }
}

/// The number of an array without dimensions.
fn one_of(array: &Array) -> One {
    let bytes = &array.bytes;
    let mut wide = [0; 16];
    let n = bytes.len().min(16);
    wide[..n].copy_from_slice(&bytes[..n]);
    let low = u128::from_le_bytes(wide);
    match array.number {
        Number::Bool => One::Bool(low != 0),
        Number::F32 => One::Single(f32::from_bits(low as u32)),
        Number::F64 => One::Float(f64::from_bits(low as u64)),
        Number::I8 => One::Whole(i128::from(low as i8)),
        Number::I16 => One::Whole(i128::from(low as i16)),
        Number::I32 => One::Whole(i128::from(low as i32)),
        Number::I64 => One::Whole(i128::from(low as i64)),
        Number::I128 => One::Whole(low as i128),
        Number::U8 | Number::U16 | Number::U32 | Number::U64 => One::Whole(low as i128),
        Number::U128 => One::Unsigned(low),
    }
}

fn put_number(out: &mut Vec<u8>, data: &Data, number: Number) -> Result<(), String> {
    match (one(data), number) {
        (One::Bool(value), _) => out.push(u8::from(value)),
        (One::Single(value), Number::F32) => out.extend(value.to_le_bytes()),
        (One::Single(value), _) => out.extend(f64::from(value).to_le_bytes()),
        (One::Float(value), _) => out.extend(value.to_le_bytes()),
        (One::Whole(value), Number::F64) => {
            let magnitude = value.unsigned_abs();
            let unused = magnitude.leading_zeros() + magnitude.trailing_zeros();
            if magnitude != 0 && u128::BITS - unused > f64::MANTISSA_DIGITS {
                return Err(format!("{value} among floats, which do not hold it exactly"));
            }
            out.extend((value as f64).to_le_bytes());
        }
        (One::Unsigned(value), Number::F64) => {
            return Err(format!("{value} among floats, which do not hold it exactly"));
        }
        // Two's complement: the low bytes are the number in every width that holds it.
        (One::Whole(value), _) => out.extend_from_slice(&value.to_le_bytes()[..number.size()]),
        (One::Unsigned(value), _) => out.extend_from_slice(&value.to_le_bytes()[..number.size()]),
    }
    Ok(())
}
