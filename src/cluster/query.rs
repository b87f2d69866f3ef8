//! Queries over task records in the style of MongoDB, as `db_query` takes them: equality of fields,
//! and the `$` operators of ipyparallel's in-memory database.

use std::cmp::Ordering;

use serde_json::{Map, Value, json};

use crate::message::Message;
use crate::record::Record;
use crate::time::{iso, parse_iso};

/// The fields of a record, in the order of ipyparallel; the two kinds of buffers travel as frames.
pub(crate) const FIELDS: [&str; 23] = [
    "msg_id",
    "header",
    "metadata",
    "content",
    "buffers",
    "submitted",
    "client_uuid",
    "engine_uuid",
    "started",
    "completed",
    "resubmitted",
    "received",
    "result_header",
    "result_metadata",
    "result_content",
    "result_buffers",
    "queue",
    "execute_input",
    "execute_result",
    "error",
    "stdout",
    "stderr",
    "label",
];

/// Returns one field of a record as JSON; buffers and unknown names are null.
pub(crate) fn field(record: &Record, name: &str) -> Value {
    let request = &record.request;
    let reply = record.reply.as_deref();
    let raw = |bytes: &[u8]| serde_json::from_slice(bytes).unwrap_or(Value::Null);
    let part = |part: fn(&Message) -> &Vec<u8>| reply.map_or(Value::Null, |reply| raw(part(reply)));
    let of = |mut object: Value, name: &str| object.get_mut(name).map_or(Value::Null, Value::take);
    match name {
        "msg_id" => json!(record.msg_id),
        "header" => raw(&request.header),
        "metadata" => raw(&request.body.metadata),
        "content" => raw(&request.body.content),
        "submitted" => of(raw(&request.header), "date"),
        "client_uuid" => json!(record.session),
        "engine_uuid" => json!(record.engine),
        "started" => of(part(|reply| &reply.metadata), "started"),
        "completed" => of(part(|reply| &reply.header), "date"),
        "resubmitted" => json!(record.resubmitted),
        "received" => json!(record.received.map(iso)),
        "result_header" => part(|reply| &reply.header),
        "result_metadata" => part(|reply| &reply.metadata),
        "result_content" => part(|reply| &reply.content),
        "queue" => json!(record.queue.name()),
        "execute_input" => json!(record.execute_input),
        "execute_result" => record.execute_result.as_deref().map_or(Value::Null, raw),
        "error" => record.error.as_deref().map_or(Value::Null, raw),
        "stdout" => json!(record.stdout),
        "stderr" => json!(record.stderr),
        "label" => of(raw(&request.body.metadata), "label"),
        _ => Value::Null,
    }
}

/// Whether a record has everything a query asks for.
///
/// # Errors
/// Names an operator that does not exist.
pub(crate) fn matches(record: &Record, query: &Map<String, Value>) -> Result<bool, String> {
    for (name, wanted) in query {
        let value = field(record, name);
        let is_match = match wanted.as_object() {
            Some(operators) => matches_all(&value, operators)?,
            None => compare(&value, wanted) == Some(Ordering::Equal),
        };
        if !is_match {
            return Ok(false);
        }
    }
    Ok(true)
}

fn matches_all(value: &Value, operators: &Map<String, Value>) -> Result<bool, String> {
    for (operator, operand) in operators {
        if !matches_one(value, operator, operand)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn matches_one(value: &Value, operator: &str, operand: &Value) -> Result<bool, String> {
    let order = compare(value, operand);
    let is_in = |list: &Value| {
        let items = list.as_array().map_or(&[][..], Vec::as_slice);
        items.iter().any(|item| compare(value, item) == Some(Ordering::Equal))
    };
    let is_given = !value.is_null();
    Ok(match operator {
        "$lt" => is_given && order == Some(Ordering::Less),
        "$gt" => is_given && order == Some(Ordering::Greater),
        "$lte" => is_given && matches!(order, Some(Ordering::Less | Ordering::Equal)),
        "$gte" => is_given && matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        "$eq" => order == Some(Ordering::Equal),
        "$ne" => order != Some(Ordering::Equal),
        "$in" => is_in(operand),
        "$nin" => !is_in(operand),
        "$all" => has_all(value, operand),
        "$mod" => is_modulo(value, operand),
        "$exists" => operand.as_bool().unwrap_or(!operand.is_null()) == is_given,
        "$glob" => value.as_str().zip(operand.as_str()).is_some_and(|(text, glob)| {
            glob_matches(&glob.chars().collect::<Vec<_>>(), &text.chars().collect::<Vec<_>>())
        }),
        _ => return Err(operator.to_owned()),
    })
}

/// Compares two values of one kind; dates are compared as points in time, whatever their zones.
fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64()?.partial_cmp(&right.as_f64()?),
        (Value::String(left), Value::String(right)) => {
            let dates = parse_iso(left).zip(parse_iso(right));
            Some(dates.map_or_else(|| left.cmp(right), |(left, right)| left.cmp(&right)))
        }
        (left, right) => (left == right).then_some(Ordering::Equal),
    }
}

fn has_all(value: &Value, operand: &Value) -> bool {
    let (Some(items), Some(wanted)) = (value.as_array(), operand.as_array()) else { return false };
    wanted.iter().all(|want| items.contains(want))
}

fn is_modulo(value: &Value, operand: &Value) -> bool {
    let number = |at: usize| operand.get(at).and_then(Value::as_i64);
    let (Some(value), Some(divisor), Some(rest)) = (value.as_i64(), number(0), number(1)) else {
        return false;
    };
    value.checked_rem_euclid(divisor) == Some(rest)
}

/// Matches a shell pattern: `*`, `?`, `[abc]`, `[!a-z]`. Linear in the text for each `*` but the
/// last.
fn glob_matches(mut glob: &[char], mut text: &[char]) -> bool {
    let mut retry: Option<(&[char], &[char])> = None;
    loop {
        let step = match (glob.first(), text.first()) {
            (None, None) => return true,
            (Some('*'), _) => {
                retry = Some((&glob[1..], text));
                Some((1, 0))
            }
            (Some('?'), Some(_)) => Some((1, 1)),
            (Some('['), Some(found)) => match class(&glob[1..], *found) {
                Some((is_in, len)) => is_in.then_some((len + 1, 1)),
                None => (*found == '[').then_some((1, 1)),
            },
            (Some(want), Some(found)) => (want == found).then_some((1, 1)),
            _ => None,
        };
        if let Some((glob_step, text_step)) = step {
            (glob, text) = (&glob[glob_step..], &text[text_step..]);
            continue;
        }
        let Some((retry_glob, retry_text)) = retry.filter(|(_, text)| !text.is_empty()) else {
            return false;
        };
        (glob, text) = (retry_glob, &retry_text[1..]);
        retry = Some((glob, text));
    }
}

/// Reads a class behind its `[`; returns whether the character is in it, and the length of the
/// class.
fn class(glob: &[char], found: char) -> Option<(bool, usize)> {
    let is_negated = glob.first() == Some(&'!');
    let start = usize::from(is_negated);
    let end = start + 1 + glob.get(start + 1..)?.iter().position(|char| *char == ']')?;
    let mut set = &glob[start..end];
    let mut is_in = false;
    while let [first, rest @ ..] = set {
        if let ['-', last, rest @ ..] = rest {
            is_in |= (*first..=*last).contains(&found);
            set = rest;
        } else {
            is_in |= *first == found;
            set = rest;
        }
    }
    Some((is_in != is_negated, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: Value, test: Value, expected: bool) {
        let test = test.as_object().unwrap().clone();
        assert_eq!(matches_all(&value, &test), Ok(expected), "{value} {test:?}");
    }

    #[test]
    fn operators_mean_what_ipyparallel_says() {
        check(json!(3), json!({"$lt": 4, "$gte": 3}), true);
        check(json!(3), json!({"$gt": 3}), false);
        check(json!(null), json!({"$lt": 4}), false);
        check(json!(null), json!({"$ne": null}), false);
        check(json!("a"), json!({"$in": ["b", "a"]}), true);
        check(json!("a"), json!({"$nin": ["b", "a"]}), false);
        check(json!([1, 2, 3]), json!({"$all": [1, 3]}), true);
        check(json!(7), json!({"$mod": [4, 3]}), true);
        check(json!(7), json!({"$mod": [0, 3]}), false);
        check(json!(7), json!({"$exists": true}), true);
        check(json!(null), json!({"$exists": false}), true);
        let (early, late) = ("2026-11-22T12:00:00.5Z", "2026-11-22T13:00:01+01:00");
        check(json!(early), json!({"$lt": late}), true);
        check(json!(late), json!({"$lte": early}), false);
        assert!(matches_one(&json!(1), "$where", &json!(1)).is_err());
    }

    #[test]
    fn globs_match_like_a_shell() {
        let yes =
            [("a*c", "abbc"), ("*", ""), ("[!a]b?", "xbc"), ("*a*b*", "xxaxxbxx"), ("[a-c]", "b")];
        for (glob, text) in yes {
            check(json!(text), json!({"$glob": glob}), true);
        }
        for (glob, text) in [("a*c", "abbd"), ("?", ""), ("[!a]", "a"), ("[", "a"), ("*ab", "aba")]
        {
            check(json!(text), json!({"$glob": glob}), false);
        }
    }
}
