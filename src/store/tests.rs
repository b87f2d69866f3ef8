//! The store over real files: what comes back, what is set aside, what is refused.
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use prust_cluster::{Body, KeptEngine, Message, Millis, Queue, Restored, Row};

use super::pending::{PENDING_BYTES_MAX, PENDING_ROWS_MAX, Pending};
use super::*;

/// A folder that is removed with everything in it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("prust-store-test-{}", uuid::Uuid::new_v4())))
    }

    fn file(&self) -> PathBuf {
        self.0.join("deeper").join("tasks.db")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn body(n_bytes: usize) -> Arc<Body> {
    Arc::new(Body {
        parent: b"{}".to_vec(),
        metadata: br#"{"label": "kept"}"#.to_vec(),
        content: "{\"code\": \"\u{e9}\"}".as_bytes().to_vec(),
        buffers: vec![Vec::new(), vec![0, 255, 7], vec![1; n_bytes]],
    })
}

fn open_row(key: Key) -> Row {
    Row {
        key,
        msg_id: format!("t{key}"),
        queue: Queue::Task,
        header: format!("{{\"msg_id\": \"t{key}\"}}").into_bytes(),
        body: body(10),
        shared: None,
        engine: None,
        reply: None,
        received: None,
        resubmitted: None,
        execute_input: None,
        execute_result: None,
        error: None,
        stdout: String::new(),
        stderr: String::new(),
    }
}

fn finished_row(key: Key) -> Row {
    let reply = Message {
        ids: Vec::new(),
        signature: Vec::new(),
        header: b"{\"msg_id\": \"r\"}".to_vec(),
        parent: b"{\"msg_id\": \"t\"}".to_vec(),
        metadata: b"{\"status\": \"ok\"}".to_vec(),
        content: b"{}".to_vec(),
        buffers: vec![b"result".to_vec(), Vec::new()],
    };
    Row {
        engine: Some("e0".to_owned()),
        reply: Some(Arc::new(reply)),
        received: Some(Millis(1_795_377_130_123)),
        resubmitted: Some("u".to_owned()),
        execute_input: Some("1 + 1".to_owned()),
        execute_result: Some(b"{\"data\": {}}".to_vec()),
        error: Some(b"{\"ename\": \"E\"}".to_vec()),
        stdout: "out\0\n".to_owned(),
        stderr: "err".to_owned(),
        ..open_row(key)
    }
}

/// What the file has, by key.
fn reopened(path: &Path) -> Restored {
    let (store, mut restored) = Store::open(path, true).expect("it can be opened");
    drop(store);
    restored.rows.sort_by_key(|row| row.key);
    restored
}

#[test]
fn rows_and_engines_come_back_as_they_were() {
    let folder = Folder::new();
    let (store, restored) = Store::open(&folder.file(), true).expect("it is made");
    assert_eq!(restored, Restored::default());
    let big = Row { body: body(100_000), ..open_row(2) };
    let shared = body(50_000);
    let child = |key| Row {
        queue: Queue::Broadcast,
        body: Arc::clone(&shared),
        shared: Some("b".into()),
        ..finished_row(key)
    };
    let rows = [finished_row(0), open_row(1), big, child(3), child(4)];
    rows.iter().cloned().for_each(|row| store.keep(row));
    let engine = |id, uuid: &str| KeptEngine { id, uuid: uuid.to_owned(), is_ours: id == 0 };
    let engines = vec![engine(0, "e0"), engine(5, "e5")];
    store.keep_engines(engines.clone(), 9);
    drop(store);
    let restored = reopened(&folder.file());
    assert_eq!(restored, Restored { rows: rows.to_vec(), engines, next_engine: 9 });
    assert!(Arc::ptr_eq(&restored.rows[3].body, &restored.rows[4].body), "they share it again");
    let file = fs::metadata(folder.file()).expect("it is there");
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    assert!(file.len() < 300_000, "what is shared is there once: {}", file.len());
}

#[test]
fn rows_change_and_go() {
    let folder = Folder::new();
    for round in 0..3 {
        let (store, _) = Store::open(&folder.file(), true).expect("it can be opened");
        match round {
            0 => (0..4).for_each(|key| store.keep(open_row(key))),
            1 => (0..2).for_each(|key| store.keep(finished_row(key))),
            _ => {
                store.forget(vec![0, 2]);
                // New and gone at once.
                store.keep(open_row(7));
                store.forget(vec![7]);
                store.keep_engines(Vec::new(), 3);
            }
        }
    }
    let restored = reopened(&folder.file());
    assert_eq!(restored.rows, [finished_row(1), open_row(3)]);
    assert_eq!(restored.next_engine, 3);
}

#[test]
fn without_restore_the_file_of_before_is_set_aside() {
    let folder = Folder::new();
    let path = folder.file();
    for key in [1, 2] {
        let (store, restored) = Store::open(&path, false).expect("it can be opened");
        assert_eq!(restored, Restored::default());
        store.keep(open_row(key));
    }
    assert_eq!(reopened(&path).rows, [open_row(2)]);
    assert_eq!(reopened(&beside(&path, ".before")).rows, [open_row(1)]);
}

#[test]
fn a_file_that_cannot_be_read_is_set_aside() {
    let folder = Folder::new();
    let path = folder.file();
    drop(Store::open(&path, true).expect("it is made"));
    let whole = fs::read(&path).expect("it is there");
    fs::write(&path, b"no database at all, but long enough to be taken for one").expect("ours");
    assert_eq!(reopened(&path), Restored::default());
    let aside = beside(&path, ".damaged");
    assert!(fs::read(&aside).expect("it was kept").starts_with(b"no database"));
    // Half of a database: its head is right, its tables are not there.
    fs::write(&path, &whole[..4096]).expect("ours");
    assert_eq!(reopened(&path), Restored::default());
    let mut other = whole;
    other[60..64].copy_from_slice(&99_u32.to_be_bytes());
    fs::write(&path, &other).expect("ours");
    assert_eq!(reopened(&path), Restored::default());
    assert_eq!(fs::read(beside(&path, ".version-99")).expect("it was kept"), other);
    let (store, _) = Store::open(&path, true).expect("it can be written again");
    store.keep(open_row(1));
    drop(store);
    assert_eq!(reopened(&path).rows, [open_row(1)]);
}

#[test]
fn a_file_of_somebody_else_is_refused() {
    let folder = Folder::new();
    let path = folder.file();
    let (store, _) = Store::open(&path, true).expect("it is made");
    let second = Store::open(&path, true);
    assert!(matches!(second, Err(StoreError::InUse { .. })), "{second:?}");
    drop(store);
    let mut foreign = fs::read(&path).expect("it is there");
    foreign[68..72].copy_from_slice(b"abcd");
    fs::write(&path, &foreign).expect("ours");
    let refused = Store::open(&path, true);
    assert!(matches!(refused, Err(StoreError::Foreign { .. })), "{refused:?}");
    assert_eq!(fs::read(&path).expect("it is there"), foreign, "it was not touched");
}

#[test]
fn what_waits_is_bounded_and_the_oldest_goes_first() {
    let mut pending = Pending::default();
    for key in 0..PENDING_ROWS_MAX as Key + 5 {
        pending.keep(open_row(key));
        pending.keep(finished_row(key));
    }
    assert_eq!((pending.n_rows(), pending.n_dropped()), (PENDING_ROWS_MAX, 5));
    let batch = pending.take();
    assert_eq!(batch.rows.keys().next(), Some(&5));
    assert!(batch.rows[&5].reply.is_some(), "it is written as it was last");
    let big = body(PENDING_BYTES_MAX / 2);
    pending.keep(Row { body: Arc::clone(&big), ..open_row(1) });
    pending.keep(Row { body: big, ..open_row(2) });
    assert_eq!((pending.n_rows(), pending.n_dropped()), (1, 6));
    // What a failed batch was to remove is removed by the next one.
    pending.take();
    pending.forget(vec![5]);
    let failed = pending.take();
    assert_eq!(failed.forgotten, [5]);
    pending.put_back(failed);
    assert_eq!(pending.take().forgotten, [5]);
}
