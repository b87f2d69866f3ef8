//! A value to a pickle of protocol 4. Nothing is shared: what is there twice is written twice.
use super::op;
use super::value::{Made, Object, Value};

/// Items put into a list or dictionary at once: a reader holds so many besides the list itself.
const BATCH: usize = 1000;

/// Writes one value.
pub fn write(value: &Value) -> Vec<u8> {
    let mut out = vec![op::PROTO, 4];
    put(&mut out, value);
    out.push(op::STOP);
    out
}

fn put(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::None => out.push(op::NONE),
        Value::Bool(true) => out.push(op::NEWTRUE),
        Value::Bool(false) => out.push(op::NEWFALSE),
        Value::Int(value) => put_int(out, *value),
        Value::Long(bytes) => put_long(out, bytes),
        Value::Float(value) => {
            out.push(op::BINFLOAT);
            out.extend(value.to_be_bytes());
        }
        Value::Text(text) => put_text(out, text),
        Value::Bytes(bytes) => {
            let ops = [op::SHORT_BINBYTES, op::BINBYTES, op::BINBYTES8];
            put_sized(out, ops, bytes);
        }
        Value::List(items) => {
            out.push(op::EMPTY_LIST);
            put_batches(out, op::APPENDS, items);
        }
        Value::Tuple(items) => put_tuple(out, items),
        Value::Dict(entries) => {
            out.push(op::EMPTY_DICT);
            put_entries(out, entries);
        }
        Value::Set(items) => {
            out.push(op::EMPTY_SET);
            put_batches(out, op::ADDITEMS, items);
        }
        Value::FrozenSet(items) => {
            out.push(op::MARK);
            items.iter().for_each(|item| put(out, item));
            out.push(op::FROZENSET);
        }
        Value::Global(global) => {
            put_text(out, &global.module);
            put_text(out, &global.name);
            out.push(op::STACK_GLOBAL);
        }
        Value::Object(object) => put_object(out, object),
    }
}

fn put_int(out: &mut Vec<u8>, value: i64) {
    if let Ok(value) = u8::try_from(value) {
        out.extend([op::BININT1, value]);
    } else if let Ok(value) = i32::try_from(value) {
        out.push(op::BININT);
        out.extend(value.to_le_bytes());
    } else {
        put_long(out, &value.to_le_bytes());
    }
}

fn put_long(out: &mut Vec<u8>, bytes: &[u8]) {
    match u8::try_from(bytes.len()) {
        Ok(length) => out.extend([op::LONG1, length]),
        Err(_) => {
            out.push(op::LONG4);
            // A pickle that was read is below 2 GiB a value, and ours are of 16 bytes.
            out.extend(i32::try_from(bytes.len()).unwrap_or(i32::MAX).to_le_bytes());
        }
    }
    out.extend(bytes);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_sized(out, [op::SHORT_BINUNICODE, op::BINUNICODE, op::BINUNICODE8], text.as_bytes());
}

/// Bytes behind their length, by the first of three codes whose length is wide enough.
fn put_sized(out: &mut Vec<u8>, [one, four, eight]: [u8; 3], bytes: &[u8]) {
    let length = bytes.len();
    if let Ok(length) = u8::try_from(length) {
        out.extend([one, length]);
    } else if let Ok(length) = u32::try_from(length) {
        out.push(four);
        out.extend(length.to_le_bytes());
    } else {
        out.push(eight);
        out.extend((length as u64).to_le_bytes());
    }
    out.extend(bytes);
}

fn put_batches(out: &mut Vec<u8>, code: u8, items: &[Value]) {
    for batch in items.chunks(BATCH) {
        out.push(op::MARK);
        batch.iter().for_each(|item| put(out, item));
        out.push(code);
    }
}

fn put_entries(out: &mut Vec<u8>, entries: &[(Value, Value)]) {
    for batch in entries.chunks(BATCH) {
        out.push(op::MARK);
        for (key, value) in batch {
            put(out, key);
            put(out, value);
        }
        out.push(op::SETITEMS);
    }
}

fn put_tuple(out: &mut Vec<u8>, items: &[Value]) {
    let code = match items.len() {
        0 => op::EMPTY_TUPLE,
        1 => op::TUPLE1,
        2 => op::TUPLE2,
        3 => op::TUPLE3,
        _ => {
            out.push(op::MARK);
            op::TUPLE
        }
    };
    items.iter().for_each(|item| put(out, item));
    out.push(code);
}

fn put_object(out: &mut Vec<u8>, object: &Object) {
    put(out, &Value::Global(object.class.clone()));
    put_tuple(out, &object.args);
    out.push(match object.made {
        Made::Called => op::REDUCE,
        Made::New => op::NEWOBJ,
    });
    put_batches(out, op::APPENDS, &object.items);
    put_entries(out, &object.entries);
    if let Some(state) = &object.state {
        put(out, state);
        out.push(op::BUILD);
    }
}
