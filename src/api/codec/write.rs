//! The writing half of the codec: a serde `Serializer` into a byte vector.

use super::{CodecError, DEPTH_MAX};
use serde::ser::{self, Serialize};

/// Appends values to a byte vector.
pub(super) struct Writer<'a> {
    bytes: &'a mut Vec<u8>,
    depth: u32,
}

impl<'a> Writer<'a> {
    pub(super) fn new(bytes: &'a mut Vec<u8>) -> Self {
        Self { bytes, depth: 0 }
    }

    fn deeper(&mut self) -> Result<(), CodecError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX { Err(CodecError::TooDeep) } else { Ok(()) }
    }
}

/// A length or a variant index: seven bits a byte, least significant first.
pub(super) fn varint(value: u64) -> ([u8; 10], usize) {
    let mut out = [0; 10];
    let mut rest = value;
    let mut n = 0;
    loop {
        let low = (rest & 0x7f) as u8;
        rest >>= 7;
        out[n] = if rest == 0 { low } else { low | 0x80 };
        n += 1;
        if rest == 0 {
            return (out, n);
        }
    }
}

macro_rules! fixed {
    ($($name:ident: $type:ty),*) => {
        $(#[inline]
        fn $name(self, value: $type) -> Result<(), CodecError> {
            self.bytes.extend_from_slice(&value.to_le_bytes());
            Ok(())
        })*
    };
}

/// A sequence, map or struct being written. Where the length was not told ahead, it is put in at
/// the end.
pub(super) struct Compound<'w, 'a> {
    writer: &'w mut Writer<'a>,
    unknown: Option<Unknown>,
}

struct Unknown {
    start: usize,
    n: u64,
}

impl<'w, 'a> Compound<'w, 'a> {
    fn counted(writer: &'w mut Writer<'a>, n: Option<usize>) -> Result<Self, CodecError> {
        writer.deeper()?;
        let unknown = match n {
            Some(n) => {
                writer.length(n as u64);
                None
            }
            None => Some(Unknown { start: writer.bytes.len(), n: 0 }),
        };
        Ok(Self { writer, unknown })
    }

    fn bare(writer: &'w mut Writer<'a>) -> Result<Self, CodecError> {
        writer.deeper()?;
        Ok(Self { writer, unknown: None })
    }

    fn count(&mut self) {
        if let Some(unknown) = &mut self.unknown {
            unknown.n += 1;
        }
    }

    fn write<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CodecError> {
        value.serialize(&mut *self.writer)
    }

    fn close(self) {
        self.writer.depth -= 1;
        if let Some(Unknown { start, n }) = self.unknown {
            let (length, size) = varint(n);
            self.writer.bytes.splice(start..start, length[..size].iter().copied());
        }
    }
}

impl Writer<'_> {
    #[inline]
    fn length(&mut self, n: u64) {
        let (length, size) = varint(n);
        self.bytes.extend_from_slice(&length[..size]);
    }
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

    fixed!(serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_i128: i128, serialize_u8: u8, serialize_u16: u16, serialize_u32: u32,
        serialize_u64: u64, serialize_u128: u128, serialize_f32: f32, serialize_f64: f64);

    fn serialize_bool(self, value: bool) -> Result<(), CodecError> {
        self.bytes.push(u8::from(value));
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), CodecError> {
        self.serialize_u32(value as u32)
    }

    fn serialize_str(self, value: &str) -> Result<(), CodecError> {
        self.serialize_bytes(value.as_bytes())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), CodecError> {
        self.length(value.len() as u64);
        self.bytes.extend_from_slice(value);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), CodecError> {
        self.serialize_bool(false)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), CodecError> {
        self.bytes.push(1);
        self.deeper()?;
        value.serialize(&mut *self)?;
        self.depth -= 1;
        Ok(())
    }

    fn serialize_unit(self) -> Result<(), CodecError> {
        Ok(())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), CodecError> {
        Ok(())
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
    ) -> Result<(), CodecError> {
        self.length(u64::from(index));
        Ok(())
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
        index: u32,
        _variant: &'static str,
        value: &T,
    ) -> Result<(), CodecError> {
        self.length(u64::from(index));
        self.serialize_newtype_struct("", value)
    }

    fn serialize_seq(self, n: Option<usize>) -> Result<Compound<'w, 'a>, CodecError> {
        Compound::counted(self, n)
    }

    fn serialize_tuple(self, _n: usize) -> Result<Compound<'w, 'a>, CodecError> {
        Compound::bare(self)
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        _n: usize,
    ) -> Result<Compound<'w, 'a>, CodecError> {
        Compound::bare(self)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _n: usize,
    ) -> Result<Compound<'w, 'a>, CodecError> {
        self.length(u64::from(index));
        Compound::bare(self)
    }

    fn serialize_map(self, n: Option<usize>) -> Result<Compound<'w, 'a>, CodecError> {
        Compound::counted(self, n)
    }

    fn serialize_struct(
        self,
        _name: &'static str,
        _n: usize,
    ) -> Result<Compound<'w, 'a>, CodecError> {
        Compound::bare(self)
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _n: usize,
    ) -> Result<Compound<'w, 'a>, CodecError> {
        self.length(u64::from(index));
        Compound::bare(self)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

macro_rules! compound {
    ($($trait:ident $method:ident($($name:ident: $type:ty)?)),*) => {
        $(impl ser::$trait for Compound<'_, '_> {
            type Ok = ();
            type Error = CodecError;

            #[inline]
            fn $method<T: Serialize + ?Sized>(
                &mut self,
                $($name: $type,)?
                value: &T,
            ) -> Result<(), CodecError> {
                self.count();
                self.write(value)
            }

            fn end(self) -> Result<(), CodecError> {
                self.close();
                Ok(())
            }
        })*
    };
}

compound!(
    SerializeSeq serialize_element(),
    SerializeTuple serialize_element(),
    SerializeTupleStruct serialize_field(),
    SerializeTupleVariant serialize_field(),
    SerializeStruct serialize_field(_name: &'static str),
    SerializeStructVariant serialize_field(_name: &'static str)
);

impl ser::SerializeMap for Compound<'_, '_> {
    type Ok = ();
    type Error = CodecError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), CodecError> {
        self.count();
        self.write(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CodecError> {
        self.write(value)
    }

    fn end(self) -> Result<(), CodecError> {
        self.close();
        Ok(())
    }
}
