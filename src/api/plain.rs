//! Values that say what they are, for a reader that does not know their types: what a client of
//! another language pulls. Numbers of one kind side by side stay side by side. Structs and variants
//! become maps by name. Malformed input is an error, never a panic.

mod read;
mod write;

pub use read::read;
pub use write::write;

/// A kind of plain numbers; little-endian, booleans as one byte of 0 or 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    Bool,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    U128,
    I128,
    F32,
    F64,
}

/// In the order of their tags.
const NUMBERS: [Number; 13] = [
    Number::Bool,
    Number::U8,
    Number::I8,
    Number::U16,
    Number::I16,
    Number::U32,
    Number::I32,
    Number::U64,
    Number::I64,
    Number::U128,
    Number::I128,
    Number::F32,
    Number::F64,
];

impl Number {
    /// Bytes of one.
    pub fn size(self) -> usize {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
            Self::U128 | Self::I128 => 16,
        }
    }

    /// Rust's name of the type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::U16 => "u16",
            Self::I16 => "i16",
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::U128 => "u128",
            Self::I128 => "i128",
            Self::F32 => "f32",
            Self::F64 => "f64",
        }
    }

    /// Whether it is a whole number that may be negative.
    pub fn is_signed(self) -> bool {
        matches!(self, Self::I8 | Self::I16 | Self::I32 | Self::I64 | Self::I128)
    }

    fn tag(self) -> u8 {
        self as u8
    }

    fn of_tag(tag: u8) -> Option<Self> {
        NUMBERS.get(usize::from(tag)).copied()
    }
}

/// One value, as it was read.
#[derive(Clone, Debug, PartialEq)]
pub enum Plain<'a> {
    /// `()`, a unit struct, `None`.
    Unit,
    /// One number.
    One(Number, &'a [u8]),
    Text(&'a str),
    Bytes(&'a [u8]),
    /// A sequence of numbers of one kind.
    Many(Number, &'a [u8]),
    List(Vec<Self>),
    /// Of a known length: a tuple, an array.
    Tuple(Vec<Self>),
    Map(Vec<(Self, Self)>),
}

/// Tags of what is no number. Each but the first is followed by a byte (the kind of numbers, else
/// 0) and a length of eight bytes.
mod tag {
    pub(super) const UNIT: u8 = 32;
    pub(super) const TEXT: u8 = 33;
    pub(super) const BYTES: u8 = 34;
    pub(super) const MANY: u8 = 35;
    pub(super) const LIST: u8 = 36;
    pub(super) const TUPLE: u8 = 37;
    pub(super) const MAP: u8 = 38;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::CodecError;
    use serde::Serialize;
    use std::collections::BTreeMap;

    #[derive(Serialize)]
    enum Shape {
        Nothing,
        Circle(f64),
        Box { sides: [u8; 2] },
    }

    #[derive(Serialize)]
    struct Named {
        label: &'static str,
        of: Option<Shape>,
    }

    #[derive(Serialize)]
    #[serde(untagged)]
    enum Either {
        Whole(i64),
        Half(f32),
        Word(char),
    }

    #[track_caller]
    fn check<T: Serialize + 'static>(value: T, expect: Plain<'_>) {
        let bytes = write(&value).unwrap();
        assert_eq!(read(&bytes), Ok(expect));
        for end in 0..bytes.len() {
            assert!(read(&bytes[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn values_say_what_they_are() {
        check((), Plain::Unit);
        check(true, Plain::One(Number::Bool, &[1]));
        check(-2i16, Plain::One(Number::I16, &[254, 255]));
        check('é', Plain::Text("é"));
        check(Some("x".to_owned()), Plain::Text("x"));
        check(Named { label: "n", of: None }, map(vec![("label", text("n")), ("of", Plain::Unit)]));
        check(Shape::Nothing, Plain::Text("Nothing"));
        let half = 0.5f64.to_le_bytes();
        check(Shape::Circle(0.5), map(vec![("Circle", Plain::One(Number::F64, &half))]));
        let sides = Plain::Tuple(vec![Plain::One(Number::U8, &[1]), Plain::One(Number::U8, &[2])]);
        check(Shape::Box { sides: [1, 2] }, map(vec![("Box", map(vec![("sides", sides)]))]));
        let one = || Plain::One(Number::U8, &[1]);
        check((1u8, "a"), Plain::Tuple(vec![one(), text("a")]));
        check(BTreeMap::from([("k", 1u8)]), map(vec![("k", one())]));
    }

    #[test]
    fn numbers_of_one_kind_stay_side_by_side() {
        let bytes: Vec<u8> = [1.5f64, -2.5].iter().flat_map(|n| n.to_le_bytes()).collect();
        check(vec![1.5f64, -2.5], Plain::Many(Number::F64, &bytes));
        check(vec![true, false], Plain::Many(Number::Bool, &[1, 0]));
        check(Vec::<u32>::new(), Plain::Many(Number::U32, &[]));
        check(Vec::<String>::new(), Plain::List(vec![]));
        let rows =
            Plain::List(vec![Plain::Many(Number::U8, &[1, 2]), Plain::Many(Number::U8, &[3])]);
        check(vec![vec![1u8, 2], vec![3]], rows);
        let deque: std::collections::VecDeque<i8> = [5, 6].into();
        check(deque, Plain::Many(Number::I8, &[5, 6]));
        let mixed = vec![Either::Whole(1), Either::Whole(2), Either::Half(0.5), Either::Word('w')];
        let (one, two, half) = (1i64.to_le_bytes(), 2i64.to_le_bytes(), 0.5f32.to_le_bytes());
        check(
            mixed,
            Plain::List(vec![
                Plain::One(Number::I64, &one),
                Plain::One(Number::I64, &two),
                Plain::One(Number::F32, &half),
                text("w"),
            ]),
        );
    }

    #[test]
    fn what_is_malformed_or_too_deep_is_an_error() {
        for bytes in [
            &[][..],
            &[99],
            &[0, 2],
            &[tag::TEXT, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xFF],
            &[tag::LIST, 0, 255, 255, 255, 255, 255, 255, 255, 255],
            &[tag::MANY, 8, 255, 255, 255, 255, 255, 255, 255, 255],
            &[tag::MANY, 99, 0, 0, 0, 0, 0, 0, 0, 0],
            &[tag::UNIT, tag::UNIT],
        ] {
            assert!(read(bytes).is_err(), "{bytes:?}");
        }
        let deep = [tag::LIST, 0, 1, 0, 0, 0, 0, 0, 0, 0].repeat(100_000);
        assert_eq!(read(&deep), Err(CodecError::TooDeep));
        #[derive(Serialize)]
        struct Nested(Vec<Self>);
        let nested = (0..200).fold(Nested(vec![]), |inner, _| Nested(vec![inner]));
        assert_eq!(write(&nested), Err(CodecError::TooDeep));
    }

    fn text(text: &str) -> Plain<'_> {
        Plain::Text(text)
    }

    fn map<'a>(entries: Vec<(&'a str, Plain<'a>)>) -> Plain<'a> {
        Plain::Map(entries.into_iter().map(|(name, value)| (text(name), value)).collect())
    }
}
