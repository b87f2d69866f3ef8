//! Tests of the envelope: what is signed comes through, everything else is refused and counted.
use super::*;
use serde_json::json;

const KEY: &str = "a0436f6c-1916-498b-8eb9-e81ab9368e84";

fn writer() -> Writer {
    Writer::new(KEY, "session \"one\"".to_owned(), "user")
}

fn frames() -> Frames {
    let ids = [b"client".to_vec(), b"<IDS|".to_vec()];
    let buffers = vec![b"buffer".to_vec(), Vec::new()];
    let content = json!({"code": "1+1"});
    writer().write(Draft::new("execute_request", &content).to(&ids).buffers(buffers)).1
}

#[test]
fn a_message_comes_through_whole() {
    let mut reader = Reader::new(KEY);
    let message = reader.read(frames()).expect("it is signed");
    assert_eq!(message.ids, [b"client".to_vec(), b"<IDS|".to_vec()]);
    assert_eq!(message.header.msg_type, "execute_request");
    assert_eq!(message.header.session, "session \"one\"");
    assert_eq!(message.header.username, "user");
    assert_eq!(message.header.version, PROTOCOL_VERSION);
    assert!(parse_iso(&message.header.date).is_some());
    assert_eq!(message.raw_parent, b"{}");
    assert_eq!(message.parent(), None);
    assert_eq!(message.raw_content, br#"{"code":"1+1"}"#);
    assert_eq!(message.buffers, [b"buffer".to_vec(), Vec::new()]);
    assert_eq!(reader.dropped().total(), 0);
}

#[test]
fn what_was_checked_before_is_taken_apart_alike() {
    let checked = Reader::new(KEY).read(frames()).expect("it is signed");
    let mut reader = Reader::of_checked();
    // Twice is no replay: whoever has checked it would have said so.
    for _ in 0..2 {
        let message = reader.read(frames()).expect("it is a message");
        let header = Header { date: checked.header.date.clone(), ..message.header };
        assert_eq!((header, &message.raw_content), (checked.header.clone(), &checked.raw_content));
        assert_eq!((message.ids, message.buffers), (checked.ids.clone(), checked.buffers.clone()));
    }
    assert_eq!(reader.read(vec![b"no message".to_vec()]), Err(Dropped::Truncated));
}

#[test]
fn the_signature_is_the_one_of_the_specification() {
    // From Python: hmac.new(b"key", b'{"a":1}' + b'{}' + b'{}' + b'{"b":2}', sha256).hexdigest()
    let signed = [br#"{"a":1}"#.to_vec(), b"{}".to_vec(), b"{}".to_vec(), br#"{"b":2}"#.to_vec()];
    let signature = Signer::new("key").sign(&signed);
    assert_eq!(
        String::from_utf8(signature).expect("hexadecimal"),
        "0206f42f4ae2a48f6054ab91271f90c100f7022f55fb1f23de6377624d533752"
    );
}

#[test]
fn the_parent_is_the_request_header_byte_for_byte() {
    let odd = br#"{ "msg_id":"x",  "msg_type":"t", "new_field":[1, 2] }"#;
    let frames = writer().write(Draft::new("status", &json!({})).answering(odd)).1;
    let message = Reader::new(KEY).read(frames).expect("it is signed");
    assert_eq!(message.raw_parent, odd);
    assert_eq!(message.parent().map(|header| header.msg_id), Some("x".to_owned()));
}

#[test]
fn ids_are_unique_across_clones() {
    let writer = writer();
    let other = writer.clone();
    let make = |writer: &Writer| writer.write(Draft::new("t", &json!({}))).0;
    let ids = [make(&writer), make(&other), make(&writer)];
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
}

#[track_caller]
fn check_refused(change: impl FnOnce(&mut Frames), expect: Dropped) {
    let mut frames = frames();
    change(&mut frames);
    let mut reader = Reader::new(KEY);
    assert_eq!(reader.read(frames), Err(expect));
    assert_eq!(reader.dropped().total(), 1);
}

#[test]
fn what_is_not_signed_by_the_key_is_refused() {
    check_refused(|frames| frames[3].clear(), Dropped::Unsigned);
    check_refused(|frames| frames[3][0] ^= 1, Dropped::BadSignature);
    check_refused(|frames| frames[3].truncate(63), Dropped::BadSignature);
    check_refused(|frames| frames[3] = vec![b'z'; 64], Dropped::BadSignature);
    check_refused(|frames| frames[7] = b"{}".to_vec(), Dropped::BadSignature);
}

#[test]
fn what_is_truncated_is_refused() {
    check_refused(Frames::clear, Dropped::Truncated);
    check_refused(|frames| frames.truncate(3), Dropped::Truncated);
    check_refused(|frames| frames.truncate(7), Dropped::Truncated);
    check_refused(|frames| drop(frames.remove(2)), Dropped::Truncated);
}

#[test]
fn a_replayed_message_is_refused() {
    let mut reader = Reader::new(KEY);
    assert!(reader.read(frames()).is_ok());
    let frames = frames();
    assert!(reader.read(frames.clone()).is_ok());
    assert_eq!(reader.read(frames), Err(Dropped::Replayed));
    assert_eq!(reader.dropped().replayed, 1);
}

#[test]
fn signed_text_that_is_no_object_is_refused() {
    let names = ["header", "parent header", "metadata", "content"];
    let deep = "[".repeat(100_000).into_bytes();
    for bad in [&b"[]"[..], b"", b"{", b"null", b"{}x", b"{\"a\":\xff}", &deep] {
        for (position, name) in names.into_iter().enumerate() {
            let mut signed = [(); 4].map(|()| b"{}".to_vec());
            signed[position] = bad.to_vec();
            let frames = writer().frames(&[], signed, Vec::new());
            let result = Reader::new(KEY).read(frames);
            assert_eq!(result, Err(Dropped::NotJson { frame: name }), "{bad:?}");
        }
    }
}

#[test]
fn a_header_with_missing_or_odd_fields_reads_as_empty_text() {
    let header = br#"{"msg_id":null,"msg_type":"t","session":{"a":[1]},"username":7,"x":1}"#;
    let rest = [(); 3].map(|()| b"{}".to_vec());
    let [parent, metadata, content] = rest;
    let frames = writer().frames(&[], [header.to_vec(), parent, metadata, content], Vec::new());
    let header = Reader::new(KEY).read(frames).expect("lenient").header;
    assert_eq!((header.msg_id.as_str(), header.msg_type.as_str()), ("", "t"));
    assert_eq!((header.session.as_str(), header.username.as_str()), ("", "7"));
}

#[test]
fn without_a_key_nothing_is_signed_or_checked() {
    let writer = Writer::new("", "s".to_owned(), "u");
    let frames = writer.write(Draft::new("t", &json!({}))).1;
    assert_eq!(frames[1], b"");
    let mut reader = Reader::new("");
    assert!(reader.read(frames.clone()).is_ok());
    assert!(reader.read(frames).is_ok());
}

#[test]
fn old_signatures_are_forgotten_one_by_one() {
    let mut history = History::default();
    let signature = |n: usize| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        bytes
    };
    for n in 0..=SIGNATURES_REMEMBERED_MAX {
        assert!(history.insert(signature(n)));
    }
    assert_eq!(history.known.len(), SIGNATURES_REMEMBERED_MAX);
    assert!(!history.insert(signature(1)));
    assert!(history.insert(signature(0)));
}

#[test]
fn garbage_never_panics() {
    // A linear congruential generator: the same garbage in every run.
    let mut state = 1u64;
    let mut random = move |limit: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % limit
    };
    let mut reader = Reader::new(KEY);
    let mut open = Reader::new("");
    for _ in 0..20_000 {
        let mut frames = frames();
        for _ in 0..=random(3) {
            let idx = random(frames.len() as u64 + 1) as usize;
            match (random(4), frames.get_mut(idx)) {
                (0, _) => frames.insert(idx, DELIMITER.to_vec()),
                (1, Some(_)) => drop(frames.remove(idx)),
                (2, Some(frame)) => frame.truncate(random(9) as usize),
                (_, Some(frame)) if !frame.is_empty() => {
                    let at = random(frame.len() as u64) as usize;
                    frame[at] = random(256) as u8;
                }
                _ => (),
            }
        }
        let _ = reader.read(frames.clone());
        let _ = open.read(frames);
    }
    assert!(reader.dropped().total() > 10_000);
}
