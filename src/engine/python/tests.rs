//! What Python wrote, as Rust's types and bytes; and the way back.
use std::collections::BTreeMap;

use prust::codec;
use prust::plain::{self, Number};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::data::{self, Data};
use super::encode::encode;
use super::types::Type;
use super::{answer, helper};
use crate::wire::pickle::{self, Global, Made, Object, Value};

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn list(items: impl IntoIterator<Item = Value>) -> Value {
    Value::List(items.into_iter().collect())
}

fn data(value: Value) -> Data {
    data::read(value).expect("it is data")
}

/// What a pickle and its frames become: the type and the value.
#[track_caller]
fn becomes<T>(value: Value, type_text: &str, expect: T)
where
    T: DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let data = data(value);
    let ty = Type::of(&data).expect("it has a type");
    assert_eq!(prust_runtime::cell::short_type_name(&ty.rust()), type_text);
    let bytes = encode(&data, &ty).expect("it is encoded");
    assert_eq!(codec::from_bytes::<T>(&bytes), Ok(expect));
}

fn pickled(bytes: &[u8], frame: Option<Vec<u8>>) -> Value {
    let mut value = pickle::read(bytes).expect("Python wrote it");
    data::restore(&mut value, &mut frame.into_iter()).expect("all frames are there");
    value
}

#[test]
fn plain_values_become_rusts_types() {
    let long = |bytes: &[u8]| Value::Long(bytes.to_vec());
    becomes(Value::Int(-5), "i64", -5i64);
    becomes(long(&[0xFF; 8].into_iter().chain([0]).collect::<Vec<_>>()), "u64", u64::MAX);
    becomes(long(&[0, 0, 0, 0, 0, 0, 0, 0, 0xFE]), "i128", -(1i128 << 65));
    becomes(long(&[[0xFF; 16].as_slice(), &[0]].concat()), "u128", u128::MAX);
    becomes(Value::Bool(true), "bool", true);
    becomes(Value::Float(0.5), "f64", 0.5f64);
    becomes(text("é"), "String", "é".to_owned());
    becomes(Value::Bytes(vec![1, 2]), "Vec<u8>", vec![1u8, 2]);
    becomes(Value::None, "()", ());
    becomes(list([Value::Int(1), Value::Int(2)]), "Vec<i64>", vec![1i64, 2]);
    becomes(list([]), "Vec<i64>", Vec::<i64>::new());
    becomes(list([Value::Int(1), Value::None]), "Vec<Option<i64>>", vec![Some(1i64), None]);
    becomes(list([Value::Int(1), Value::Float(2.5)]), "Vec<f64>", vec![1.0f64, 2.5]);
    becomes(
        list([list([]), list([text("a")])]),
        "Vec<Vec<String>>",
        vec![vec![], vec!["a".to_owned()]],
    );
    let one = Value::Int(-1);
    let two = long(&[0xFF; 8].into_iter().chain([0]).collect::<Vec<_>>());
    becomes(list([one, two]), "Vec<i128>", vec![-1i128, i128::from(u64::MAX)]);
    let pair = Value::Tuple(vec![Value::Int(1), text("a")]);
    becomes(pair, "(i64, String)", (1i64, "a".to_owned()));
    becomes(Value::Tuple(vec![Value::Int(1)]), "(i64,)", (1i64,));
    let dict = Value::Dict(vec![(text("b"), Value::Int(2)), (text("a"), Value::Int(1))]);
    let expect = BTreeMap::from([("a".to_owned(), 1i64), ("b".to_owned(), 2)]);
    becomes(dict, "BTreeMap<String, i64>", expect);
}

/// `numpy.arange(3, dtype=numpy.int16)`, canned.
const ARRAY: &[u8] =
    b"\x80\x04\x95t\0\0\0\0\0\0\0\x8c\x1dipyparallel.serialize.canning\x94\x8c\x0b\
    CannedArray\x94\x93\x94)\x81\x94}\x94(\x8c\x05shape\x94K\x03\x85\x94\x8c\x05dtype\x94\x8c\x03\
    <i2\x94\x8c\x07pickled\x94\x89\x8c\x07buffers\x94]\x94C\x06\0\0\x01\0\x02\0\x94aub.";
/// `numpy.zeros(2000, numpy.uint8)`, canned, its numbers in a frame of their own.
const LARGE: &[u8] =
    b"\x80\x04\x95m\0\0\0\0\0\0\0\x8c\x1dipyparallel.serialize.canning\x94\x8c\x0b\
    CannedArray\x94\x93\x94)\x81\x94}\x94(\x8c\x05shape\x94M\xd0\x07\x85\x94\x8c\x05dtype\x94\x8c\
    \x03|u1\x94\x8c\x07pickled\x94\x89\x8c\x07buffers\x94]\x94Naub.";
/// `numpy.zeros(0)`, canned, which is a pickle within a pickle.
const EMPTY: &[u8] = b"\x80\x04\x95\x02\x01\0\0\0\0\0\0\x8c\x1dipyparallel.serialize.canning\x94\
    \x8c\x0bCannedArray\x94\x93\x94)\x81\x94}\x94(\x8c\x05shape\x94K\0\x85\x94\x8c\x05dtype\x94\
    \x8c\x03<f8\x94\x8c\x07pickled\x94\x88\x8c\x07buffers\x94]\x94C\x94\x80\x04\x95\x89\0\0\0\0\0\
    \0\0\x8c\x16numpy._core.multiarray\x94\x8c\x0c_reconstruct\x94\x93\x94\x8c\x05numpy\x94\x8c\
    \x07ndarray\x94\x93\x94K\0\x85\x94C\x01b\x94\x87\x94R\x94(K\x01K\0\x85\x94h\x03\x8c\x05dtype\
    \x94\x93\x94\x8c\x02f8\x94\x89\x88\x87\x94R\x94(K\x03\x8c\x01<\x94NNNJ\xff\xff\xff\xffJ\xff\
    \xff\xff\xffK\0t\x94b\x89C\0\x94t\x94b.\x94aub.";
/// `numpy.float32(2.5)`.
const SCALAR: &[u8] =
    b"\x80\x04\x95f\0\0\0\0\0\0\0\x8c\x16numpy._core.multiarray\x94\x8c\x06scalar\
    \x94\x93\x94\x8c\x05numpy\x94\x8c\x05dtype\x94\x93\x94\x8c\x02f4\x94\x89\x88\x87\x94R\x94(K\x03\
    \x8c\x01<\x94NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0t\x94bC\x04\0\0 @\x94\x86\x94R\x94.";
/// `numpy.arange(2, dtype="<i4").reshape(1, 2)`.
const NESTED: &[u8] = b"\x80\x04\x95\x93\0\0\0\0\0\0\0\x8c\x16numpy._core.multiarray\x94\x8c\x0c\
    _reconstruct\x94\x93\x94\x8c\x05numpy\x94\x8c\x07ndarray\x94\x93\x94K\0\x85\x94C\x01b\x94\x87\
    \x94R\x94(K\x01K\x01K\x02\x86\x94h\x03\x8c\x05dtype\x94\x93\x94\x8c\x02i4\x94\x89\x88\x87\x94R\
    \x94(K\x03\x8c\x01<\x94NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0t\x94b\x89C\x08\0\0\0\0\x01\0\0\
    \0\x94t\x94b.";
/// `numpy.asfortranarray(numpy.arange(4, dtype="u1").reshape(2, 2))`.
const FORTRAN: &[u8] = b"\x80\x04\x95\x8f\0\0\0\0\0\0\0\x8c\x16numpy._core.multiarray\x94\x8c\x0c\
    _reconstruct\x94\x93\x94\x8c\x05numpy\x94\x8c\x07ndarray\x94\x93\x94K\0\x85\x94C\x01b\x94\x87\
    \x94R\x94(K\x01K\x02K\x02\x86\x94h\x03\x8c\x05dtype\x94\x93\x94\x8c\x02u1\x94\x89\x88\x87\x94R\
    \x94(K\x03\x8c\x01|\x94NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0t\x94b\x88C\x04\0\x02\x01\x03\
    \x94t\x94b.";
/// `numpy.arange(2, dtype=">u2")` in protocol 5.
const BIG_ENDIAN: &[u8] = b"\x80\x05\x95x\0\0\0\0\0\0\0\x8c\x13numpy._core.numeric\x94\x8c\x0b\
    _frombuffer\x94\x93\x94(\x96\x04\0\0\0\0\0\0\0\0\0\0\x01\x94\x8c\x05numpy\x94\x8c\x05dtype\x94\
    \x93\x94\x8c\x02u2\x94\x89\x88\x87\x94R\x94(K\x03\x8c\x01>\x94NNNJ\xff\xff\xff\xffJ\xff\xff\xff\
    \xffK\0t\x94bK\x02\x85\x94\x8c\x01C\x94t\x94R\x94.";
/// `b"ab"`, canned.
const BYTES: &[u8] =
    b"\x80\x04\x95J\0\0\0\0\0\0\0\x8c\x1dipyparallel.serialize.canning\x94\x8c\x0b\
    CannedBytes\x94\x93\x94)\x81\x94}\x94\x8c\x07buffers\x94]\x94C\x02ab\x94asb.";
/// `range(7, 0, -3)`.
const RANGE: &[u8] =
    b"\x80\x04\x95#\0\0\0\0\0\0\0\x8c\x08builtins\x94\x8c\x05range\x94\x93\x94K\x07\
    K\0J\xfd\xff\xff\xff\x87\x94R\x94.";

#[test]
fn arrays_of_numpy_become_vectors() {
    becomes(pickled(ARRAY, None), "Vec<i16>", vec![0i16, 1, 2]);
    becomes(pickled(LARGE, Some(vec![7; 2000])), "Vec<u8>", vec![7u8; 2000]);
    becomes(pickled(EMPTY, None), "Vec<f64>", Vec::<f64>::new());
    becomes(pickled(SCALAR, None), "f32", 2.5f32);
    becomes(pickled(NESTED, None), "Vec<Vec<i32>>", vec![vec![0i32, 1]]);
    becomes(pickled(BIG_ENDIAN, None), "Vec<u16>", vec![0u16, 1]);
    becomes(pickled(BYTES, None), "Vec<u8>", b"ab".to_vec());
    becomes(pickled(RANGE, None), "Vec<i64>", vec![7i64, 4, 1]);
    becomes(list([pickled(SCALAR, None), Value::Float(1.5)]), "Vec<f64>", vec![2.5f64, 1.5]);
    becomes(
        Value::Tuple(vec![pickled(ARRAY, None), pickled(RANGE, None)]),
        "(Vec<i16>, Vec<i64>)",
        (vec![0i16, 1, 2], vec![7i64, 4, 1]),
    );
}

#[test]
fn what_fits_no_type_says_what_it_holds() {
    let refused = |value: Value| {
        let typed = data::read(value).and_then(|data| Type::of(&data).map(|ty| (data, ty)));
        typed.and_then(|(data, ty)| encode(&data, &ty)).expect_err("it fits no type")
    };
    for (value, words) in [
        (list([Value::Int(1), text("a")]), "a list of i64 and String"),
        (list([Value::Bool(true), Value::Int(1)]), "a list of bool and i64"),
        (Value::Dict(vec![(Value::Float(0.5), Value::None)]), "keys of the type f64"),
        (Value::Set(vec![]), "a set"),
        (Value::Long(vec![1; 20]), "more than 128 bits"),
        (list([Value::Float(0.5), Value::Int((1 << 60) + 1)]), "1152921504606846977 among floats"),
        (Value::Tuple(vec![Value::None; 13]), "a tuple of 13 values"),
        (pickled(FORTRAN, None), "ascontiguousarray"),
        (Value::Global(pickle::Global::new("os", "system")), "`os.system`"),
    ] {
        let said = refused(value);
        assert!(said.contains(words), "{said}");
    }
    let deep = (0..40).fold(Value::Int(1), |inner, _| list([inner]));
    assert!(refused(deep).contains("levels deep"));
    let empty_rows = Value::Object(Box::new(pickle::Object {
        class: pickle::Global::new("numpy._core.numeric", "_frombuffer"),
        made: pickle::Made::Called,
        args: vec![
            Value::Bytes(vec![]),
            text("<f8"),
            Value::Tuple(vec![Value::Int(1 << 40), Value::Int(0)]),
            text("C"),
        ],
        state: None,
        items: vec![],
        entries: vec![],
    }));
    assert!(refused(empty_rows).contains("more rows than numbers"));
    assert!(data::restore(&mut pickle::read(LARGE).unwrap(), &mut std::iter::empty()).is_err());
}

/// What Python sees of a Rust value: the pickle and its frames.
fn seen<T: Serialize + 'static>(value: T, made: Option<&Type>) -> (Value, Vec<Vec<u8>>) {
    let bytes = plain::write(&value).expect("it is written");
    let mut frames = answer::one(plain::read(&bytes).expect("it is read"), made);
    let first = frames.remove(0);
    (pickle::read(&first).expect("it was written"), frames)
}

#[test]
fn what_rust_has_made_is_pythons_nearest() {
    let value = |value| (value, vec![]);
    assert_eq!(seen(5u8, None), value(Value::Int(5)));
    assert_eq!(seen(u64::MAX, None).0, data_of_max());
    assert_eq!(seen(0.5f32, None), value(Value::Float(0.5)));
    assert_eq!(seen(vec![1i32, -2], None), value(list([Value::Int(1), Value::Int(-2)])));
    assert_eq!(seen(vec![1u8, 2], None), value(Value::Bytes(vec![1, 2])));
    assert_eq!(seen(Some("a"), None), value(text("a")));
    assert_eq!(seen((1i8, ()), None), value(Value::Tuple(vec![Value::Int(1), Value::None])));
    let keys = BTreeMap::from([(vec!["k"], true)]);
    let entry = (Value::Tuple(vec![text("k")]), Value::Bool(true));
    assert_eq!(seen(keys, None), value(Value::Dict(vec![entry])));
}

fn data_of_max() -> Value {
    Value::Long([[0xFF; 8].as_slice(), &[0]].concat())
}

#[test]
fn what_python_has_made_comes_back_as_it_was() {
    let of = |value: &Value| Type::of(&data(value.clone())).expect("it has a type");
    let back = |value: Vec<i16>, made: &Type| {
        let (value, frames) = seen(value, Some(made));
        let mut frames = frames.into_iter();
        let mut value = value;
        data::restore(&mut value, &mut frames).expect("all frames are there");
        data(value)
    };
    let array = of(&pickled(ARRAY, None));
    assert_eq!(back(vec![0, 1, 2], &array), data(pickled(ARRAY, None)));
    let Data::Array(long) = back(vec![3; 5000], &array) else { panic!("it is an array") };
    assert_eq!((long.number, long.shape.as_slice()), (Number::I16, &[5000][..]));
    let (_, frames) = seen(vec![3i16; 5000], Some(&array));
    assert_eq!(frames, [3i16.to_le_bytes().repeat(5000)]);
    // A list of small integers is one again, not bytes.
    let items = Type::List(Box::new(Type::Number(Number::U8)));
    assert_eq!(seen(vec![1u8], Some(&items)).0, list([Value::Int(1)]));
    // Rows that are no longer alike are lists; rows that are gone remember their length.
    let table = Type::Array { number: Number::F64, shape: vec![2, 3] };
    let (Value::List(rows), _) = seen(vec![vec![1.0f64], vec![]], Some(&table)) else {
        panic!("it is a list")
    };
    assert_eq!(rows.len(), 2);
    let (value, _) = seen(Vec::<Vec<f64>>::new(), Some(&table));
    let Value::Object(object) = value else { panic!("it is an array: {value:?}") };
    assert_eq!(object.args[0], Value::Tuple(vec![Value::Int(0), Value::Int(3)]));
}

#[test]
fn a_call_that_is_no_helpers_is_named() {
    let pickles = |function: Value, rest: Vec<Value>| {
        let values = std::iter::once(function).chain(rest);
        values.map(|value| pickle::write(&value)).collect::<Vec<_>>()
    };
    let info = |nargs| {
        Value::Dict(vec![
            (text("nargs"), Value::Int(nargs)),
            (text("kw_keys"), list([text("a b")])),
        ])
    };
    let global = |module, name| Value::Global(pickle::Global::new(module, name));
    let refused = |frames| helper::read(frames).expect_err("it is refused");
    let fault = refused(pickles(global("os", "getpid"), vec![info(0)]));
    assert_eq!(fault.ename, "UnsupportedOperation");
    assert!(fault.evalue.contains("`os.getpid`"), "{}", fault.evalue);
    assert_eq!(refused(vec![b"noise".to_vec()]).ename, "UnsupportedOperation");
    assert_eq!(refused(vec![]).ename, "UnsupportedOperation");
    let fault = refused(pickles(global("ipyparallel.util", "_push"), vec![info(0), Value::None]));
    assert_eq!(fault.ename, "SyntaxError");
    let fault = refused(pickles(global("ipyparallel.util", "_pull"), vec![info(1)]));
    assert_eq!(fault.ename, "BadRequest");
}

#[test]
fn frames_fill_a_dictionary_in_the_order_in_which_python_sorts_its_keys() {
    let canned = || {
        let state = Value::Dict(vec![(text("buffers"), list([Value::None]))]);
        let (class, made) = (Global::new(data::CANNING, "CannedBytes"), Made::New);
        let (args, items, entries) = Default::default();
        Value::Object(Box::new(Object { class, made, args, state: Some(state), items, entries }))
    };
    let filled = |keys: Vec<Value>| -> Vec<u8> {
        let mut value = Value::Dict(keys.into_iter().map(|key| (key, canned())).collect());
        let mut frames = (0..u8::MAX).map(|n| vec![n]);
        data::restore(&mut value, &mut frames).expect("there are enough frames");
        let Value::Dict(entries) = value else { panic!("it is a dictionary") };
        let frame = |(_, value): (Value, Value)| {
            let Value::Object(mut object) = value else { panic!("it is canned") };
            match object.attribute_mut("buffers") {
                Some(Value::List(buffers)) => match &buffers[..] {
                    [Value::Bytes(frame)] => frame[0],
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            }
        };
        entries.into_iter().map(frame).collect()
    };
    assert_eq!(filled(vec![text("b"), text("a"), text("é")]), [1, 0, 2]);
    assert_eq!(filled(vec![Value::Float(1.5), Value::Int(1), Value::Bool(false)]), [2, 1, 0]);
    assert_eq!(filled(vec![Value::Bytes(vec![2]), Value::Bytes(vec![1])]), [1, 0]);
    // Nobody's keys, but somebody's bytes.
    let key = |n: i64| match n % 4 {
        0 => Value::Int(n * 7919 % 61),
        1 => text(&format!("{}", n * 31 % 17)),
        2 => Value::None,
        _ => Value::Float((n * 13 % 11) as f64),
    };
    assert_eq!(filled((0..60).map(key).collect()).len(), 60);
}
