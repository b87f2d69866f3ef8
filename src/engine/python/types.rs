//! The Rust type of a Python value: one that fits all that lists and dictionaries hold, or an error
//! that says what does not fit together.
use prust::plain::Number;

use super::data::{Data, Wide};

/// Nesting of types; rustc and the reader of a value have limits of their own above.
const DEPTH_MAX: usize = 24;
/// Beyond this, tuples cannot be shown or compared in Rust.
const TUPLE_ITEMS_MAX: usize = 12;
/// Length of a type as text.
const TEXT_BYTES_MAX: usize = 4096;
/// Length of a type in a message.
const SHORT_BYTES_MAX: usize = 120;

/// A type, and what Python called it: the way back follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// Of the items of an empty list: nothing is known.
    Unknown,
    /// Of Python's integers, while more of them are looked at.
    Int {
        negative: bool,
        wide: Number,
    },
    Unit,
    Number(Number),
    Text,
    Bytes,
    /// A value or Python's `None`.
    Maybe(Box<Self>),
    List(Box<Self>),
    /// An array of numpy's: vectors of vectors, one for each of its dimensions.
    Array {
        number: Number,
        shape: Vec<usize>,
    },
    Tuple(Vec<Self>),
    Dict(Box<Self>, Box<Self>),
}

impl Type {
    /// The type of a value.
    ///
    /// # Errors
    /// What does not fit together, in words that complete "it holds".
    pub fn of(data: &Data) -> Result<Self, String> {
        let ty = seen(data, 0)?.resolved()?;
        let length = ty.rust().len();
        if length > TEXT_BYTES_MAX {
            return Err(format!("a value whose type takes {length} bytes to write"));
        }
        Ok(ty)
    }

    /// As rustc writes it.
    pub fn rust(&self) -> String {
        match self {
            Self::Unknown | Self::Int { .. } => Number::I64.name().to_owned(),
            Self::Unit => "()".to_owned(),
            Self::Number(number) => number.name().to_owned(),
            Self::Text => "std::string::String".to_owned(),
            Self::Bytes => "std::vec::Vec<u8>".to_owned(),
            Self::Maybe(ty) => format!("std::option::Option<{}>", ty.rust()),
            Self::List(ty) => format!("std::vec::Vec<{}>", ty.rust()),
            Self::Array { number, shape } => {
                let n = shape.len();
                format!("{}{}{}", "std::vec::Vec<".repeat(n), number.name(), ">".repeat(n))
            }
            Self::Tuple(types) => {
                let types: Vec<String> = types.iter().map(Self::rust).collect();
                let comma = if types.len() == 1 { "," } else { "" };
                format!("({}{comma})", types.join(", "))
            }
            Self::Dict(key, value) => {
                format!("std::collections::BTreeMap<{}, {}>", key.rust(), value.rust())
            }
        }
    }

    /// Decides what was left open.
    fn resolved(self) -> Result<Self, String> {
        let boxed = |ty: Box<Self>| ty.resolved().map(Box::new);
        Ok(match self {
            Self::Unknown => Self::Number(Number::I64),
            Self::Int { negative, wide } => Self::Number(whole(negative, wide)?),
            Self::Maybe(ty) => Self::Maybe(boxed(ty)?),
            Self::List(ty) => Self::List(boxed(ty)?),
            Self::Tuple(types) => {
                Self::Tuple(types.into_iter().map(Self::resolved).collect::<Result<_, _>>()?)
            }
            Self::Dict(key, value) => {
                let key = boxed(key)?;
                match *key {
                    Self::Text => (),
                    Self::Number(number) if !matches!(number, Number::F32 | Number::F64) => (),
                    _ => {
                        let name = short(&key);
                        return Err(format!("a dictionary with keys of the type {name}"));
                    }
                }
                Self::Dict(key, boxed(value)?)
            }
            Self::Unit | Self::Number(_) | Self::Text | Self::Bytes | Self::Array { .. } => self,
        })
    }
}

fn seen(data: &Data, depth: usize) -> Result<Type, String> {
    if depth > DEPTH_MAX {
        return Err(format!("lists nested more than {DEPTH_MAX} levels deep"));
    }
    let all = |items: &mut dyn Iterator<Item = &Data>, what: &str| -> Result<Type, String> {
        let mut all = Type::Unknown;
        for item in items {
            all = join(all, seen(item, depth + 1)?, what)?;
        }
        Ok(all)
    };
    Ok(match data {
        Data::None => Type::Unit,
        Data::Bool(_) => Type::Number(Number::Bool),
        Data::Int(value) => Type::Int { negative: *value < 0, wide: Number::I64 },
        Data::Wide(wide) => match **wide {
            Wide::Signed(value) => {
                let wide = if u64::try_from(value).is_ok() { Number::U64 } else { Number::I128 };
                Type::Int { negative: value < 0, wide }
            }
            Wide::Unsigned(_) => Type::Int { negative: false, wide: Number::U128 },
        },
        Data::Float(_) => Type::Number(Number::F64),
        Data::Text(_) => Type::Text,
        Data::Bytes(_) => Type::Bytes,
        Data::List(items) => Type::List(Box::new(all(&mut items.iter(), "a list of")?)),
        Data::Tuple(items) if items.len() > TUPLE_ITEMS_MAX => {
            let n = items.len();
            return Err(format!(
                "a tuple of {n} values: send a list, or {TUPLE_ITEMS_MAX} at most"
            ));
        }
        Data::Tuple(items) => {
            let types = items.iter().map(|item| seen(item, depth + 1));
            Type::Tuple(types.collect::<Result<_, _>>()?)
        }
        Data::Dict(entries) => {
            let key = all(&mut entries.iter().map(|(key, _)| key), "a dictionary with keys")?;
            let value = all(&mut entries.iter().map(|(_, value)| value), "a dictionary of")?;
            // Keys that are unknown are no worse than others.
            let key = if key == Type::Unknown { Type::Text } else { key };
            Type::Dict(Box::new(key), Box::new(value))
        }
        Data::Array(array) if array.shape.len() > DEPTH_MAX => {
            return Err(format!("an array of more than {DEPTH_MAX} dimensions"));
        }
        Data::Array(array) if array.shape.is_empty() => Type::Number(array.number),
        Data::Array(array) => Type::Array { number: array.number, shape: array.shape.clone() },
    })
}

/// The type that fits both.
fn join(one: Type, other: Type, what: &str) -> Result<Type, String> {
    let again = |one: Box<Type>, other: Box<Type>| join(*one, *other, what).map(Box::new);
    Ok(match (one, other) {
        (one, other) if one == other => one,
        (Type::Unknown, ty) | (ty, Type::Unknown) => ty,
        (Type::Unit, ty @ Type::Maybe(_)) | (ty @ Type::Maybe(_), Type::Unit) => ty,
        (Type::Unit, ty) | (ty, Type::Unit) => Type::Maybe(Box::new(ty)),
        (Type::Maybe(one), Type::Maybe(other)) => Type::Maybe(again(one, other)?),
        (Type::Maybe(one), other) | (other, Type::Maybe(one)) => {
            Type::Maybe(again(one, Box::new(other))?)
        }
        (Type::Int { negative: one, wide }, Type::Int { negative: other, wide: other_wide }) => {
            let negative = one || other;
            let wide = if rank(wide) > rank(other_wide) { wide } else { other_wide };
            Type::Int { negative, wide }
        }
        (Type::List(one), Type::List(other)) => Type::List(again(one, other)?),
        (Type::Array { number, shape }, Type::Array { number: other, shape: other_shape })
            if number == other && shape.len() == other_shape.len() =>
        {
            Type::Array { number, shape }
        }
        (Type::Tuple(one), Type::Tuple(other)) if one.len() == other.len() => {
            let pairs = one.into_iter().zip(other);
            Type::Tuple(pairs.map(|(a, b)| join(a, b, what)).collect::<Result<_, _>>()?)
        }
        (Type::Dict(key, value), Type::Dict(other_key, other_value)) => {
            Type::Dict(again(key, other_key)?, again(value, other_value)?)
        }
        (one, other) => match (number_of(&one), number_of(&other)) {
            (Some(a), Some(b)) if a != Number::Bool && b != Number::Bool => {
                Type::Number(widened(a, b)?)
            }
            _ => {
                let (one, other) = (short(&one), short(&other));
                return Err(format!(
                    "{what} {one} and {other}: in Rust all of them are of one type"
                ));
            }
        },
    })
}

/// Of the types for Python's integers, the later hold larger ones.
fn rank(number: Number) -> usize {
    const WIDE: [Number; 4] = [Number::I64, Number::U64, Number::I128, Number::U128];
    WIDE.iter().position(|known| *known == number).unwrap_or(WIDE.len())
}

/// Rust's type for Python's integers, which are as `wide` at most.
fn whole(negative: bool, wide: Number) -> Result<Number, String> {
    match (negative, wide) {
        (true, Number::U64) => Ok(Number::I128),
        (true, Number::U128) => Err("integers that no type of 128 bits fits".to_owned()),
        (_, wide) => Ok(wide),
    }
}

fn number_of(ty: &Type) -> Option<Number> {
    match ty {
        Type::Number(number) => Some(*number),
        Type::Int { negative, wide } => whole(*negative, *wide).ok(),
        _ => None,
    }
}

/// The smallest number that both are; whole numbers among floats are floats.
fn widened(one: Number, other: Number) -> Result<Number, String> {
    const WHOLE: [Number; 10] = [
        Number::U8,
        Number::I8,
        Number::U16,
        Number::I16,
        Number::U32,
        Number::I32,
        Number::I64,
        Number::U64,
        Number::I128,
        Number::U128,
    ];
    let is_float = |number| matches!(number, Number::F32 | Number::F64);
    if is_float(one) || is_float(other) {
        return Ok(Number::F64);
    }
    let holds = |holder: Number, held: Number| match (holder.is_signed(), held.is_signed()) {
        (true, false) => holder.size() > held.size(),
        (false, true) => false,
        _ => holder.size() >= held.size(),
    };
    let found = WHOLE.into_iter().find(|number| holds(*number, one) && holds(*number, other));
    found.ok_or_else(|| "integers that no type of 128 bits fits".to_owned())
}

/// The type in a person's words, the beginning of a long one.
fn short(ty: &Type) -> String {
    let mut text = prust_runtime::cell::short_type_name(&ty.rust());
    if text.len() > SHORT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(SHORT_BYTES_MAX));
        text.push('…');
    }
    text
}
