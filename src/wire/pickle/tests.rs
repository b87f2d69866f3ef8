//! Pickles that Python wrote, pickles that nobody should write, and the way back.
use super::*;

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// `[None, True, -3, 300, 2**40, 2**70, -2**63 - 1, 2.5, "é\n\\", (), (1,), (1, 2, 3, 4),
/// {"a": [1], "b": {}}]`
fn everything() -> Value {
    let long = |bytes: &[u8]| Value::Long(bytes.to_vec());
    Value::List(vec![
        Value::None,
        Value::Bool(true),
        Value::Int(-3),
        Value::Int(300),
        Value::Int(1 << 40),
        long(b"\0\0\0\0\0\0\0\0\x40"),
        long(b"\xff\xff\xff\xff\xff\xff\xff\x7f\xff"),
        Value::Float(2.5),
        text("é\n\\"),
        Value::Tuple(vec![]),
        Value::Tuple(vec![Value::Int(1)]),
        Value::Tuple((1..5).map(Value::Int).collect()),
        Value::Dict(vec![
            (text("a"), Value::List(vec![Value::Int(1)])),
            (text("b"), Value::Dict(vec![])),
        ]),
    ])
}

/// The same value as CPython 3.11 writes it in protocols 0 to 5.
const EVERYTHING: [&[u8]; 6] = [
    b"(lp0\nNaI01\naI-3\naI300\naL1099511627776L\naL1180591620717411303424L\n\
      aL-9223372036854775809L\naF2.5\naV\xe9\\u000a\\u005c\np1\na(ta(I1\ntp2\na(I1\nI2\nI3\nI4\n\
      tp3\na(dp4\nVa\np5\n(lp6\nI1\nasVb\np7\n(dp8\nsa.",
    b"]q\0(NI01\nJ\xfd\xff\xff\xffM,\x01L1099511627776L\nL1180591620717411303424L\n\
      L-9223372036854775809L\nG@\x04\0\0\0\0\0\0X\x04\0\0\0\xc3\xa9\n\\q\x01)(K\x01tq\x02(K\x01K\
      \x02K\x03K\x04tq\x03}q\x04(X\x01\0\0\0aq\x05]q\x06K\x01aX\x01\0\0\0bq\x07}q\x08ue.",
    b"\x80\x02]q\0(N\x88J\xfd\xff\xff\xffM,\x01\x8a\x06\0\0\0\0\0\x01\x8a\x09\0\0\0\0\0\0\0\0@\x8a\
      \x09\xff\xff\xff\xff\xff\xff\xff\x7f\xffG@\x04\0\0\0\0\0\0X\x04\0\0\0\xc3\xa9\n\\q\x01)K\x01\
      \x85q\x02(K\x01K\x02K\x03K\x04tq\x03}q\x04(X\x01\0\0\0aq\x05]q\x06K\x01aX\x01\0\0\0bq\x07}q\
      \x08ue.",
    b"\x80\x03]q\0(N\x88J\xfd\xff\xff\xffM,\x01\x8a\x06\0\0\0\0\0\x01\x8a\x09\0\0\0\0\0\0\0\0@\x8a\
      \x09\xff\xff\xff\xff\xff\xff\xff\x7f\xffG@\x04\0\0\0\0\0\0X\x04\0\0\0\xc3\xa9\n\\q\x01)K\x01\
      \x85q\x02(K\x01K\x02K\x03K\x04tq\x03}q\x04(X\x01\0\0\0aq\x05]q\x06K\x01aX\x01\0\0\0bq\x07}q\
      \x08ue.",
    b"\x80\x04\x95`\0\0\0\0\0\0\0]\x94(N\x88J\xfd\xff\xff\xffM,\x01\x8a\x06\0\0\0\0\0\x01\x8a\x09\
      \0\0\0\0\0\0\0\0@\x8a\x09\xff\xff\xff\xff\xff\xff\xff\x7f\xffG@\x04\0\0\0\0\0\0\x8c\x04\xc3\
      \xa9\n\\\x94)K\x01\x85\x94(K\x01K\x02K\x03K\x04t\x94}\x94(\x8c\x01a\x94]\x94K\x01a\x8c\x01b\
      \x94}\x94ue.",
    b"\x80\x05\x95`\0\0\0\0\0\0\0]\x94(N\x88J\xfd\xff\xff\xffM,\x01\x8a\x06\0\0\0\0\0\x01\x8a\x09\
      \0\0\0\0\0\0\0\0@\x8a\x09\xff\xff\xff\xff\xff\xff\xff\x7f\xffG@\x04\0\0\0\0\0\0\x8c\x04\xc3\
      \xa9\n\\\x94)K\x01\x85\x94(K\x01K\x02K\x03K\x04t\x94}\x94(\x8c\x01a\x94]\x94K\x01a\x8c\x01b\
      \x94}\x94ue.",
];

#[test]
fn every_protocol_says_the_same() {
    for (protocol, pickle) in EVERYTHING.iter().enumerate() {
        assert_eq!(read(pickle), Ok(everything()), "protocol {protocol}");
    }
    let bytes = b"\x80\x05\x95!\0\0\0\0\0\0\0]\x94(C\x02ab\x94\x96\x02\0\0\0\0\0\0\0cd\x94\x8f\x94\
                  (K\x01\x90(K\x02\x91\x94e.";
    let expect = Value::List(vec![
        Value::Bytes(b"ab".to_vec()),
        Value::Bytes(b"cd".to_vec()),
        Value::Set(vec![Value::Int(1)]),
        Value::FrozenSet(vec![Value::Int(2)]),
    ]);
    assert_eq!(read(bytes), Ok(expect));
}

#[test]
fn an_object_stays_what_it_would_be_made_from() {
    let ordered = b"\x80\x04\x95)\0\0\0\0\0\0\0\x8c\x0bcollections\x94\x8c\x0bOrderedDict\x94\x93\
                    \x94)R\x94\x8c\x01a\x94K\x01s.";
    let Ok(Value::Object(object)) = read(ordered) else { panic!("it is an object") };
    assert!(object.class.is("collections", "OrderedDict"));
    assert_eq!((object.made, object.entries), (Made::Called, vec![(text("a"), Value::Int(1))]));
    // `os.system("true")` is a name, a text and the wish to call: nothing more.
    let harmful = b"cos\nsystem\n(S'true'\ntR.";
    assert_eq!(read(harmful).map_err(|error| error.at), Err(12));
    let Ok(Value::Object(object)) = read(b"cos\nsystem\n(Vtrue\ntR.") else { panic!("it is one") };
    assert_eq!((object.class.to_string(), object.args), ("os.system".into(), vec![text("true")]));
}

#[test]
fn what_is_shared_is_there_each_time() {
    let pickle = b"\x80\x04\x95\x15\0\0\0\0\0\0\0]\x94(\x8c\x06shared\x94]\x94h\x01ah\x02e.";
    let list = || Value::List(vec![text("shared")]);
    assert_eq!(read(pickle), Ok(Value::List(vec![text("shared"), list(), list()])));
}

#[test]
fn what_is_written_is_read_again() {
    let class = Global::new("numpy", "ndarray");
    let object = |made| {
        Value::Object(Box::new(Object {
            class: class.clone(),
            made,
            args: vec![Value::Int(-1), Value::Bytes(vec![7; 300])],
            state: Some(Value::Dict(vec![(text("x"), Value::Int(i64::MIN))])),
            items: vec![Value::Bool(false)],
            entries: vec![(Value::Int(70_000), text(&"y".repeat(300)))],
        }))
    };
    let values = [
        everything(),
        object(Made::Called),
        object(Made::New),
        Value::List((0..2500).map(Value::Int).collect()),
        Value::Long(vec![1; 300]),
        Value::FrozenSet(vec![Value::Set(vec![Value::Int(255)]), Value::Global(class.clone())]),
    ];
    for value in values {
        assert_eq!(read(&write(&value)), Ok(value));
    }
}

#[test]
fn a_malformed_pickle_says_where_and_what() {
    let said = |pickle: &[u8]| read(pickle).map_err(|error| error.to_string()).unwrap_err();
    for (pickle, at, words) in [
        (&b""[..], 0, "ends here"),
        (b"\x80\x04", 2, "ends here"),
        (b"\x80\x06N.", 0, "protocol 6"),
        (b"\x80\x04NN.", 4, "more than one value"),
        (b"N.N", 1, "left over"),
        (b"(N.", 2, "more than one value"),
        (b".", 0, "a value was expected"),
        (b"t.", 0, "a mark was expected"),
        (b"(Nu.", 2, "a key without a value"),
        (b"N(K\x01e.", 4, "a list, a dictionary or an object"),
        (b"h\x05.", 0, "memo 5 was not filled"),
        (b"Nr\xff\xff\xff\x7f.", 1, "memo 2147483647 is beyond"),
        (b"X\xff\xff\xff\xff.", 5, "4294967295 bytes were expected and 1 are left"),
        (b"\x8b\xff\xff\xff\xff.", 0, "a negative length"),
        (b"\x95\xff\0\0\0\0\0\0\0N.", 0, "a frame longer"),
        (b"X\x01\0\0\0\xff.", 0, "not UTF-8"),
        (b"NNR.", 2, "a named class"),
        (b"NP1\n.", 1, "0x50 is not read"),
        (b"Inumber\n.", 0, "an integer of 128 bits"),
    ] {
        let said = said(pickle);
        assert!(said.starts_with(&format!("byte {at} ")) && said.contains(words), "{said}");
    }
    for end in 0..EVERYTHING[4].len() {
        assert!(read(&EVERYTHING[4][..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn hostile_pickles_end_at_a_limit() {
    let limits = Limits { values: 10_000, copied_items: 1000, copied_bytes: 100_000 };
    let said = |pickle: &[u8]| {
        read_within(pickle, limits).map_err(|error| error.to_string()).expect_err("it is hostile")
    };
    assert!(said(b"\x80\x04]\x94h\0a.").contains("within itself"));
    let deep = [b"]".repeat(1000), b"a".repeat(999), b".".to_vec()].concat();
    assert!(said(&deep).contains("levels deep"));
    // Each list holds the one before it ten times.
    let mut laughs = b"]\x94K\x01a".to_vec();
    for level in 0..30u8 {
        laughs.extend(b"]\x94(");
        (0..10).for_each(|_| laughs.extend([b'h', level]));
        laughs.extend(b"e");
    }
    let rest = b"0".repeat(30);
    let top = [b"h\x1e".to_vec(), b".".to_vec()].concat();
    assert!(said(&[laughs, b"0".to_vec(), rest, top].concat()).contains("repeats more"));
    let mut copies = b"(X\0\x10\0\0".to_vec();
    copies.extend(vec![b'x'; 1 << 12]);
    copies.extend(b"\x94");
    copies.extend(b"h\0".repeat(1000));
    copies.extend(b"l.");
    assert!(said(&copies).contains("repeats more"));
    assert!(said(&b"]".repeat(20_000)).contains("more than 10000 values"));
}
