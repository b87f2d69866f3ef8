//! What the codec promises: every value comes back, and no bytes make it panic or allocate without
//! bound.

use super::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Empty,
    Circle(f64),
    Pair(i8, u128),
    Named { name: String, tags: Vec<Option<char>>, inner: Option<Box<Self>> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Everything {
    flag: bool,
    small: (i8, u16, i32, u64, i128),
    text: String,
    shapes: Vec<Shape>,
    map: BTreeMap<String, Vec<f32>>,
    unit: (),
    wrapped: Wrapped,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Wrapped(Result<u8, String>);

/// A generator whose seed names the failure; no crate for it.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn text(&mut self) -> String {
        (0..self.below(12)).map(|_| char::from_u32(self.below(0xD7FF) as u32).unwrap()).collect()
    }

    fn shape(&mut self, depth: u32) -> Shape {
        match self.below(4) {
            0 => Shape::Empty,
            1 => Shape::Circle(f64::from_bits(self.next() >> 2)),
            2 => Shape::Pair(self.next() as i8, u128::from(self.next()) << 40),
            _ => Shape::Named {
                name: self.text(),
                tags: (0..self.below(4)).map(|n| (n % 2 == 0).then_some('ß')).collect(),
                inner: (depth < 6).then(|| Box::new(self.shape(depth + 1))),
            },
        }
    }

    fn everything(&mut self) -> Everything {
        Everything {
            flag: self.below(2) == 0,
            small: (self.next() as i8, 7, self.next() as i32, self.next(), -1),
            text: self.text(),
            shapes: (0..self.below(5)).map(|_| self.shape(0)).collect(),
            map: (0..self.below(4)).map(|n| (self.text(), vec![n as f32; n as usize])).collect(),
            unit: (),
            wrapped: Wrapped(if self.below(2) == 0 { Ok(3) } else { Err(self.text()) }),
        }
    }
}

#[test]
fn every_value_comes_back() {
    for seed in 1..400 {
        let value = Dice(seed).everything();
        let bytes = to_bytes(&value).unwrap();
        assert_eq!(from_bytes::<Everything>(&bytes).unwrap(), value, "seed {seed}");
    }
}

#[test]
fn truncated_or_damaged_bytes_are_errors_and_never_panics() {
    for seed in 1..200 {
        let mut dice = Dice(seed);
        let bytes = to_bytes(&dice.everything()).unwrap();
        for end in 0..bytes.len() {
            assert!(from_bytes::<Everything>(&bytes[..end]).is_err(), "seed {seed} end {end}");
        }
        for _ in 0..50 {
            let mut damaged = bytes.clone();
            let at = dice.below(damaged.len() as u64) as usize;
            damaged[at] = dice.next() as u8;
            let _any_outcome = from_bytes::<Everything>(&damaged);
        }
        let noise: Vec<u8> = (0..dice.below(64)).map(|_| dice.next() as u8).collect();
        let _any_outcome = from_bytes::<Everything>(&noise);
        let _any_outcome = from_bytes::<HashMap<String, Vec<u64>>>(&noise);
    }
}

#[test]
fn a_bogus_length_is_refused_before_anything_is_allocated() {
    let bytes = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    assert!(matches!(from_bytes::<Vec<u64>>(&bytes), Err(CodecError::Truncated { .. })));
    assert!(matches!(from_bytes::<String>(&bytes), Err(CodecError::Truncated { .. })));
    assert!(matches!(from_bytes::<Vec<()>>(&bytes), Err(CodecError::Truncated { .. })));
    let beyond = [0xff; 10];
    assert!(matches!(from_bytes::<String>(&beyond), Err(CodecError::Malformed { .. })));
}

#[derive(Debug, Serialize, Deserialize)]
struct Nest(Option<Box<Self>>);

#[test]
fn nesting_beyond_the_limit_is_an_error_on_both_sides() {
    let mut nest = Nest(None);
    for _ in 0..DEPTH_MAX {
        nest = Nest(Some(Box::new(nest)));
    }
    assert_eq!(to_bytes(&nest), Err(CodecError::TooDeep));
    let bytes = vec![1; 100_000];
    assert_eq!(from_bytes::<Nest>(&bytes).unwrap_err(), CodecError::TooDeep);
}

#[test]
fn a_type_that_asks_for_its_own_shape_says_what_to_do() {
    let bytes = to_bytes(&serde_json::json!({"a": 1})).unwrap();
    let error = from_bytes::<serde_json::Value>(&bytes).unwrap_err();
    assert_eq!(error, CodecError::SelfDescribing);
    assert!(error.to_string().contains("as a String"));
}

#[test]
fn a_sequence_of_unknown_length_is_counted() {
    struct Odd;
    impl Serialize for Odd {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeSeq;
            let mut sequence = serializer.serialize_seq(None)?;
            for n in [1u16, 3, 5] {
                sequence.serialize_element(&n)?;
            }
            sequence.end()
        }
    }
    assert_eq!(from_bytes::<Vec<u16>>(&to_bytes(&Odd).unwrap()).unwrap(), [1, 3, 5]);
}

#[test]
fn left_over_bytes_are_an_error() {
    assert_eq!(from_bytes::<u8>(&[1, 2]), Err(CodecError::Trailing { n: 1 }));
}
