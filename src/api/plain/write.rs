//! A value to bytes that say what it is: a serde `Serializer`.

use super::{Number, tag};
use crate::codec::{CodecError, DEPTH_MAX};
use serde::ser::{self, Serialize};
use std::any::Any;

/// Writes one value.
///
/// # Errors
/// What the value's `Serialize` refuses, or nesting beyond [`DEPTH_MAX`].
pub fn write<T: Serialize + 'static>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::new();
    if !write_whole(value, &mut bytes) {
        value.serialize(&mut Writer { bytes: &mut bytes, depth: 0 })?;
    }
    Ok(bytes)
}

/// Bytes of a head: tag, kind of numbers, length.
const HEAD: usize = 10;

fn head(bytes: &mut Vec<u8>, tag: u8, kind: u8, length: u64) {
    bytes.extend([tag, kind]);
    bytes.extend(length.to_le_bytes());
}

macro_rules! whole {
    ($($type:ty: $number:ident),*) => {
        /// A vector of plain numbers at once; false for everything else. Works on `dyn Any` so that
        /// it is compiled and optimised with this crate, and not for every variable.
        #[inline(never)]
        fn write_whole(value: &dyn Any, bytes: &mut Vec<u8>) -> bool {
            $(if let Some(values) = value.downcast_ref::<Vec<$type>>() {
                head(bytes, tag::MANY, Number::$number.tag(), values.len() as u64);
                bytes.reserve(values.len() * size_of::<$type>());
                for value in values {
                    bytes.extend_from_slice(&value.to_le_bytes());
                }
                return true;
            })*
            false
        }
    };
}

whole!(u8: U8, i8: I8, u16: U16, i16: I16, u32: U32, i32: I32, u64: U64, i64: I64, u128: U128,
    i128: I128, f32: F32, f64: F64);

struct Writer<'a> {
    bytes: &'a mut Vec<u8>,
    depth: u32,
}

impl Writer<'_> {
    fn one(&mut self, number: Number, bytes: &[u8]) {
        self.bytes.push(number.tag());
        self.bytes.extend_from_slice(bytes);
    }

    fn deeper(&mut self) -> Result<(), CodecError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX { Err(CodecError::TooDeep) } else { Ok(()) }
    }

    fn text(&mut self, text: &str) {
        head(self.bytes, tag::TEXT, 0, text.len() as u64);
        self.bytes.extend_from_slice(text.as_bytes());
    }
}

/// What a sequence holds so far.
#[derive(Clone, Copy)]
enum Held {
    Nothing,
    /// Numbers of one kind, without their tags.
    Numbers(Number),
    Values,
}

/// A sequence, tuple, map or struct being written. Its head is filled in at its end.
struct Compound<'w, 'a> {
    writer: &'w mut Writer<'a>,
    start: usize,
    tag: u8,
    held: Held,
    n: u64,
}

impl<'w, 'a> Compound<'w, 'a> {
    fn begin(writer: &'w mut Writer<'a>, tag: u8) -> Result<Self, CodecError> {
        writer.deeper()?;
        let start = writer.bytes.len();
        head(writer.bytes, tag, 0, 0);
        let held = if tag == tag::LIST { Held::Nothing } else { Held::Values };
        Ok(Self { writer, start, tag, held, n: 0 })
    }

    /// A compound that is the one value of a map, by the name of a variant.
    fn variant(writer: &'w mut Writer<'a>, variant: &str, tag: u8) -> Result<Self, CodecError> {
        head(writer.bytes, tag::MAP, 0, 1);
        writer.text(variant);
        Self::begin(writer, tag)
    }

    fn add<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CodecError> {
        let before = self.writer.bytes.len();
        value.serialize(&mut *self.writer)?;
        self.n += 1;
        if !matches!(self.held, Held::Values) {
            self.pack(before);
        }
        Ok(())
    }

    /// Takes the tag off a number among others of its kind; puts all tags on again when something
    /// else comes.
    fn pack(&mut self, before: usize) {
        let bytes = &mut *self.writer.bytes;
        let number = Number::of_tag(bytes[before]);
        match (self.held, number) {
            (Held::Nothing, Some(number)) => {
                bytes.remove(before);
                self.held = Held::Numbers(number);
            }
            (Held::Numbers(known), Some(number)) if known == number => {
                bytes.remove(before);
            }
            (Held::Numbers(known), _) => {
                let last = bytes.split_off(before);
                let packed = bytes.split_off(self.start + HEAD);
                for one in packed.chunks_exact(known.size()) {
                    bytes.push(known.tag());
                    bytes.extend_from_slice(one);
                }
                bytes.extend(last);
                self.held = Held::Values;
            }
            (Held::Nothing | Held::Values, _) => self.held = Held::Values,
        }
    }

    fn close(self) {
        self.writer.depth -= 1;
        let (tag, kind) = match self.held {
            Held::Numbers(number) => (tag::MANY, number.tag()),
            Held::Nothing | Held::Values => (self.tag, 0),
        };
        let head = &mut self.writer.bytes[self.start..self.start + HEAD];
        head[..2].copy_from_slice(&[tag, kind]);
        head[2..].copy_from_slice(&self.n.to_le_bytes());
    }
}

macro_rules! numbers {
    ($($name:ident: $type:ty, $number:ident;)*) => {
        $(#[inline]
        fn $name(self, value: $type) -> Result<(), CodecError> {
            self.one(Number::$number, &value.to_le_bytes());
            Ok(())
        })*
    };
}

impl<'w, 'a> ser::Serializer for &'w mut Writer<'a> {
    type Ok = ();
    type Error = CodecError;
    type SerializeSeq = Compound<'w, 'a>;
    type SerializeTuple = Compound<'w, 'a>;
    type SerializeTupleStruct = Compound<'w, 'a>;
    type SerializeTupleVariant = Compound<'w, 'a>;
    type SerializeMap = Compound<'w, 'a>;
    type SerializeStruct = Compound<'w, 'a>;
    type SerializeStructVariant = Compound<'w, 'a>;

    numbers!(
        serialize_i8: i8, I8;
        serialize_i16: i16, I16;
        serialize_i32: i32, I32;
        serialize_i64: i64, I64;
        serialize_i128: i128, I128;
        serialize_u8: u8, U8;
        serialize_u16: u16, U16;
        serialize_u32: u32, U32;
        serialize_u64: u64, U64;
        serialize_u128: u128, U128;
        serialize_f32: f32, F32;
        serialize_f64: f64, F64;
    );

    fn serialize_bool(self, value: bool) -> Result<(), CodecError> {
        self.one(Number::Bool, &[u8::from(value)]);
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), CodecError> {
        self.text(value.encode_utf8(&mut [0; 4]));
        Ok(())
    }

    fn serialize_str(self, value: &str) -> Result<(), CodecError> {
        self.text(value);
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), CodecError> {
        head(self.bytes, tag::BYTES, 0, value.len() as u64);
        self.bytes.extend_from_slice(value);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), CodecError> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), CodecError> {
        self.serialize_newtype_struct("", value)
    }

    fn serialize_unit(self) -> Result<(), CodecError> {
        self.bytes.push(tag::UNIT);
        Ok(())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), CodecError> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<(), CodecError> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), CodecError> {
        self.deeper()?;
        value.serialize(&mut *self)?;
        self.depth -= 1;
        Ok(())
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), CodecError> {
        head(self.bytes, tag::MAP, 0, 1);
        self.text(variant);
        self.serialize_newtype_struct("", value)
    }

    fn serialize_seq(self, _n: Option<usize>) -> Result<Compound<'w, 'a>, CodecError> {
        Compound::begin(self, tag::LIST)
    }

    fn serialize_tuple(self, _n: usize) -> Result<Compound<'w, 'a>, CodecError> {
        Compound::begin(self, tag::TUPLE)
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        _n: usize,
    ) -> Result<Compound<'w, 'a>, CodecError> {
        Compound::begin(self, tag::TUPLE)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _n: usize,
    ) -> Result<Compound<'w, 'a>, CodecError> {
        Compound::variant(self, variant, tag::TUPLE)
    }

    fn serialize_map(self, _n: Option<usize>) -> Result<Compound<'w, 'a>, CodecError> {
        Compound::begin(self, tag::MAP)
    }

    fn serialize_struct(
        self,
        _name: &'static str,
        _n: usize,
    ) -> Result<Compound<'w, 'a>, CodecError> {
        Compound::begin(self, tag::MAP)
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _n: usize,
    ) -> Result<Compound<'w, 'a>, CodecError> {
        Compound::variant(self, variant, tag::MAP)
    }
}

macro_rules! sequences {
    ($($trait:ident $method:ident),*) => {
        $(impl ser::$trait for Compound<'_, '_> {
            type Ok = ();
            type Error = CodecError;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CodecError> {
                self.add(value)
            }

            fn end(self) -> Result<(), CodecError> {
                self.close();
                Ok(())
            }
        })*
    };
}

sequences!(
    SerializeSeq serialize_element,
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field
);

macro_rules! structs {
    ($($trait:ident),*) => {
        $(impl ser::$trait for Compound<'_, '_> {
            type Ok = ();
            type Error = CodecError;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), CodecError> {
                self.writer.text(name);
                self.add(value)
            }

            fn end(self) -> Result<(), CodecError> {
                self.close();
                Ok(())
            }
        })*
    };
}

structs!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for Compound<'_, '_> {
    type Ok = ();
    type Error = CodecError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), CodecError> {
        key.serialize(&mut *self.writer)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CodecError> {
        self.add(value)
    }

    fn end(self) -> Result<(), CodecError> {
        self.close();
        Ok(())
    }
}
