//! The door to SQLite: one database, its tables, rows in and out. Requests that are big, or that
//! several records share, stand in a table of their own, so that a record can change without
//! writing them again.
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prust_cluster::{
    Body, Frames, KeptEngine, Message, Millis, Queue, RECORD_BYTES_MAX, RECORDS_MAX, Restored, Row,
};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Statement, Transaction, params};

use super::pending::Batch;

/// Says to whom the file belongs: "prst" in ASCII.
const APPLICATION: i64 = 0x7072_7374;

/// Rises with every change of the tables. A file of another version is set aside.
pub(super) const VERSION: i64 = 1;

const SCHEMA: &str = "
    CREATE TABLE records (
        key INTEGER PRIMARY KEY, msg_id TEXT NOT NULL, queue TEXT NOT NULL, header BLOB NOT NULL,
        request TEXT, parent BLOB, metadata BLOB, content BLOB, buffers BLOB,
        engine TEXT, received INTEGER, resubmitted TEXT, execute_input TEXT, execute_result BLOB,
        error BLOB, stdout TEXT NOT NULL, stderr TEXT NOT NULL,
        reply_header BLOB, reply_parent BLOB, reply_metadata BLOB, reply_content BLOB,
        reply_buffers BLOB, is_shared INTEGER NOT NULL);
    CREATE INDEX records_by_request ON records (request) WHERE request IS NOT NULL;
    CREATE TABLE requests (
        id TEXT PRIMARY KEY, parent BLOB, metadata BLOB, content BLOB, buffers BLOB);
    CREATE TRIGGER requests_end AFTER DELETE ON records WHEN OLD.request IS NOT NULL BEGIN
        DELETE FROM requests WHERE id = OLD.request
            AND NOT EXISTS (SELECT 1 FROM records WHERE request = OLD.request);
    END;
    CREATE TABLE engines (id INTEGER PRIMARY KEY, uuid TEXT NOT NULL, is_ours INTEGER NOT NULL);
    CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
";

const INSERT: &str =
    "INSERT INTO records VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12,
    ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23)";

const UPDATE: &str = "UPDATE records SET engine = ?2, received = ?3, resubmitted = ?4,
    execute_input = ?5, execute_result = ?6, error = ?7, stdout = ?8, stderr = ?9,
    reply_header = ?10, reply_parent = ?11, reply_metadata = ?12, reply_content = ?13,
    reply_buffers = ?14 WHERE key = ?1";

const SELECT: &str = "SELECT records.key, msg_id, queue, header, request, engine, received,
    resubmitted, execute_input, execute_result, error, stdout, stderr, reply_header, reply_parent,
    reply_metadata, reply_content, reply_buffers, is_shared,
    coalesce(records.parent, requests.parent), coalesce(records.metadata, requests.metadata),
    coalesce(records.content, requests.content), coalesce(records.buffers, requests.buffers)
    FROM records LEFT JOIN requests ON requests.id = records.request ORDER BY records.key DESC";

/// Requests of more bytes than this stand apart.
const APART_BYTES: usize = 16 << 10;

/// How long another program that reads the file is waited for.
const BUSY_FOR: Duration = Duration::from_secs(5);

/// Why a store could not be opened or written.
#[derive(Debug)]
pub enum StoreError {
    Disk {
        path: PathBuf,
        source: io::Error,
    },
    Sqlite {
        path: PathBuf,
        source: rusqlite::Error,
    },
    /// It is a database, and none of ours.
    Foreign {
        path: PathBuf,
    },
    InUse {
        path: PathBuf,
    },
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk { path, source } => {
                write!(f, "failed to open the store {}: {source}", path.display())
            }
            Self::Sqlite { path, source } => {
                write!(f, "failed to open the store {}: {source}", path.display())
            }
            Self::Foreign { path } => write!(
                f,
                "failed to open the store {}: it is the database of another program; choose \
                 another file with --SQLiteDB.filename and --SQLiteDB.location",
                path.display()
            ),
            Self::InUse { path } => write!(
                f,
                "failed to open the store {}: another controller uses it; stop that one, or choose \
                 another file with --SQLiteDB.filename",
                path.display()
            ),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Disk { source, .. } => Some(source),
            Self::Sqlite { source, .. } => Some(source),
            Self::Foreign { .. } | Self::InUse { .. } => None,
        }
    }
}

/// Why a file could not be begun with.
#[derive(Debug)]
pub(super) enum Fault {
    Store(StoreError),
    /// It is no database, or a broken one.
    Damaged(rusqlite::Error),
    Version(i64),
}

impl Fault {
    /// Sorts out what SQLite says: what is wrong with the content can be set aside.
    fn of(path: &Path, error: rusqlite::Error) -> Self {
        let is_content = matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        );
        // A value of another kind, not one of SQLite's own errors.
        let is_value = error.sqlite_error_code().is_none();
        // Tables that are not there, or have other columns, are an error without a code of its own.
        let is_schema = error.sqlite_error_code() == Some(ErrorCode::Unknown);
        if is_content || is_value || is_schema {
            return Self::Damaged(error);
        }
        Self::Store(StoreError::Sqlite { path: path.to_owned(), source: error })
    }

    pub(super) fn at(self, path: &Path) -> StoreError {
        let path = path.to_owned();
        match self {
            Self::Store(error) => error,
            Self::Damaged(source) => StoreError::Sqlite { path, source },
            Self::Version(_) => StoreError::Foreign { path },
        }
    }
}

#[derive(Debug)]
pub(super) struct Database {
    path: PathBuf,
    connection: Connection,
    is_new: bool,
}

impl Database {
    /// Opens a database of ours, or makes one.
    pub(super) fn open(path: &Path) -> Result<Self, Fault> {
        let made = super::private(path);
        made.map_err(|source| Fault::Store(StoreError::Disk { path: path.to_owned(), source }))?;
        let failed = |error| Fault::of(path, error);
        let connection = Connection::open(path).map_err(failed)?;
        let is_new = Self::is_fresh(&connection, path)?;
        Self::prepare(&connection, is_new).map_err(failed)?;
        Ok(Self { path: path.to_owned(), connection, is_new })
    }

    /// Whether the tables are still to be made. The file is checked before anything is written.
    fn is_fresh(connection: &Connection, path: &Path) -> Result<bool, Fault> {
        let failed = |error| Fault::of(path, error);
        let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let n_tables = number("SELECT count(*) FROM sqlite_master").map_err(failed)?;
        let application = number("PRAGMA application_id").map_err(failed)?;
        let version = number("PRAGMA user_version").map_err(failed)?;
        match (n_tables, application, version) {
            (0, ..) => Ok(true),
            (_, APPLICATION, VERSION) => Ok(false),
            (_, APPLICATION, other) => Err(Fault::Version(other)),
            _ => Err(Fault::Store(StoreError::Foreign { path: path.to_owned() })),
        }
    }

    fn prepare(connection: &Connection, is_new: bool) -> rusqlite::Result<()> {
        connection.busy_timeout(BUSY_FOR)?;
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        // A crash of this process loses nothing; one of the machine may lose the last batches.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        if is_new {
            let marks =
                format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION};");
            connection.execute_batch(&format!("BEGIN; {SCHEMA} {marks} COMMIT;"))?;
        }
        Ok(())
    }

    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Reads everything, as far as a controller keeps it; older records are removed.
    pub(super) fn load(&mut self) -> Result<Restored, Fault> {
        self.read().map_err(|error| Fault::of(&self.path, error))
    }

    fn read(&self) -> rusqlite::Result<Restored> {
        let (mut rows, mut n_bytes) = (Vec::new(), 0_usize);
        let mut bodies = HashMap::new();
        let mut statement = self.connection.prepare(SELECT)?;
        let mut found = statement.query([])?;
        let mut beyond = None;
        while let Some(columns) = found.next()? {
            if rows.len() == RECORDS_MAX || n_bytes > RECORD_BYTES_MAX {
                beyond = Some(columns.get::<_, i64>(0)?);
                break;
            }
            let n_bodies = bodies.len();
            let row = row_of(columns, &mut bodies)?;
            // A body that was not met before counts with the first row that has it.
            let is_first = row.shared.is_some() && bodies.len() > n_bodies;
            n_bytes += row.n_bytes() + if is_first { row.body.n_bytes() } else { 0 };
            rows.push(row);
        }
        drop(found);
        if let Some(key) = beyond {
            self.connection.execute("DELETE FROM records WHERE key <= ?1", [key])?;
        }
        let mut statement = self.connection.prepare("SELECT id, uuid, is_ours FROM engines")?;
        let engines = statement.query_map([], |columns| {
            Ok(KeptEngine { id: columns.get(0)?, uuid: columns.get(1)?, is_ours: columns.get(2)? })
        })?;
        let engines = engines.collect::<rusqlite::Result<_>>()?;
        let next = "SELECT value FROM counters WHERE name = 'next_engine'";
        let next_engine = self.connection.query_row(next, [], |columns| columns.get(0));
        Ok(Restored { rows, engines, next_engine: next_engine.optional()?.unwrap_or(0) })
    }

    /// Writes a batch as one transaction.
    pub(super) fn write(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let path = &self.path;
        let failed = |source| StoreError::Sqlite { path: path.clone(), source };
        let transaction = self.connection.transaction().map_err(failed)?;
        put(&transaction, batch).and_then(|()| transaction.commit()).map_err(failed)
    }

    pub(super) fn close(self) {
        if let Err((_, error)) = self.connection.close() {
            tracing::warn!(path = %self.path.display(), %error, "the store was not closed cleanly");
        }
    }
}

fn put(transaction: &Transaction<'_>, batch: &Batch) -> rusqlite::Result<()> {
    let mut statements = Statements::new(transaction)?;
    for row in batch.rows.values() {
        statements.put(row)?;
    }
    for key in &batch.forgotten {
        statements.delete.execute([signed(*key)])?;
    }
    if let Some((engines, next)) = &batch.engines {
        transaction.execute("DELETE FROM engines", [])?;
        let mut insert = transaction.prepare("INSERT INTO engines VALUES (?1, ?2, ?3)")?;
        for KeptEngine { id, uuid, is_ours } in engines {
            insert.execute(params![id, uuid, is_ours])?;
        }
        let counter = "INSERT OR REPLACE INTO counters VALUES ('next_engine', ?1)";
        transaction.execute(counter, [next])?;
    }
    Ok(())
}

/// What is said to the database for each record, prepared once per batch.
struct Statements<'t> {
    update: Statement<'t>,
    insert: Statement<'t>,
    delete: Statement<'t>,
    request_is_known: Statement<'t>,
    insert_request: Statement<'t>,
}

impl<'t> Statements<'t> {
    fn new(transaction: &'t Transaction<'_>) -> rusqlite::Result<Self> {
        let insert_request = "INSERT INTO requests VALUES (?1, ?2, ?3, ?4, ?5)";
        Ok(Self {
            update: transaction.prepare(UPDATE)?,
            insert: transaction.prepare(INSERT)?,
            delete: transaction.prepare("DELETE FROM records WHERE key = ?1")?,
            request_is_known: transaction.prepare("SELECT 1 FROM requests WHERE id = ?1")?,
            insert_request: transaction.prepare(insert_request)?,
        })
    }

    /// Writes what may have changed of a record; all of it if the file does not have it.
    fn put(&mut self, row: &Row) -> rusqlite::Result<()> {
        let reply = row.reply.as_deref();
        let part = |part: fn(&Message) -> &Vec<u8>| reply.map(part);
        let n_changed = self.update.execute(params![
            signed(row.key),
            row.engine,
            row.received.map(|at| signed(at.0)),
            row.resubmitted,
            row.execute_input,
            row.execute_result,
            row.error,
            row.stdout,
            row.stderr,
            part(|reply| &reply.header),
            part(|reply| &reply.parent),
            part(|reply| &reply.metadata),
            part(|reply| &reply.content),
            reply.map(|reply| encode(&reply.buffers)),
        ])?;
        if n_changed > 0 { Ok(()) } else { self.insert(row) }
    }

    fn insert(&mut self, row: &Row) -> rusqlite::Result<()> {
        let request = match &row.shared {
            Some(shared) => Some(&**shared),
            None => (row.body.n_bytes() > APART_BYTES).then_some(row.msg_id.as_str()),
        };
        if let Some(id) = request {
            self.insert_request(id, &row.body)?;
        }
        let body = request.is_none().then_some(&*row.body);
        let reply = row.reply.as_deref();
        let part = |part: fn(&Message) -> &Vec<u8>| reply.map(part);
        self.insert.execute(params![
            signed(row.key),
            row.msg_id,
            row.queue.name(),
            row.header,
            request,
            body.map(|body| &body.parent),
            body.map(|body| &body.metadata),
            body.map(|body| &body.content),
            body.map(|body| encode(&body.buffers)),
            row.engine,
            row.received.map(|at| signed(at.0)),
            row.resubmitted,
            row.execute_input,
            row.execute_result,
            row.error,
            row.stdout,
            row.stderr,
            part(|reply| &reply.header),
            part(|reply| &reply.parent),
            part(|reply| &reply.metadata),
            part(|reply| &reply.content),
            reply.map(|reply| encode(&reply.buffers)),
            row.shared.is_some(),
        ])?;
        Ok(())
    }

    fn insert_request(&mut self, id: &str, body: &Body) -> rusqlite::Result<()> {
        if !self.request_is_known.exists([id])? {
            let Body { parent, metadata, content, buffers } = body;
            let insert = &mut self.insert_request;
            insert.execute(params![id, parent, metadata, content, encode(buffers)])?;
        }
        Ok(())
    }
}

fn row_of(
    columns: &rusqlite::Row<'_>,
    bodies: &mut HashMap<String, Arc<Body>>,
) -> rusqlite::Result<Row> {
    let frames = |at: usize| decode(columns.get_ref(at)?.as_blob()?).ok_or_else(|| broken(at));
    let request: Option<String> = columns.get(4)?;
    let known = request.as_ref().and_then(|id| bodies.get(id)).cloned();
    let body = match known {
        Some(body) => body,
        None => Arc::new(Body {
            parent: columns.get(19)?,
            metadata: columns.get(20)?,
            content: columns.get(21)?,
            buffers: frames(22)?,
        }),
    };
    if let Some(id) = &request {
        bodies.insert(id.clone(), Arc::clone(&body));
    }
    let reply_header: Option<Vec<u8>> = columns.get(13)?;
    let reply = reply_header.map(|header| -> rusqlite::Result<_> {
        let (parent, metadata, content) = (columns.get(14)?, columns.get(15)?, columns.get(16)?);
        let (ids, signature, buffers) = (Frames::new(), Vec::new(), frames(17)?);
        let reply = Message { ids, signature, header, parent, metadata, content, buffers };
        Ok(Arc::new(reply))
    });
    let queue: String = columns.get(2)?;
    let is_shared: bool = columns.get(18)?;
    Ok(Row {
        key: unsigned(columns.get(0)?, 0)?,
        msg_id: columns.get(1)?,
        queue: Queue::named(&queue).ok_or_else(|| broken(2))?,
        header: columns.get(3)?,
        body,
        shared: request.filter(|_| is_shared).map(Into::into),
        engine: columns.get(5)?,
        reply: reply.transpose()?,
        received: match columns.get(6)? {
            Some(millis) => Some(Millis(unsigned(millis, 6)?)),
            None => None,
        },
        resubmitted: columns.get(7)?,
        execute_input: columns.get(8)?,
        execute_result: columns.get(9)?,
        error: columns.get(10)?,
        stdout: columns.get(11)?,
        stderr: columns.get(12)?,
    })
}

/// Frames one after the other, each behind its length in eight bytes.
fn encode(frames: &Frames) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(frames.iter().map(|frame| frame.len() + 8).sum());
    for frame in frames {
        bytes.extend_from_slice(&(frame.len() as u64).to_le_bytes());
        bytes.extend_from_slice(frame);
    }
    bytes
}

fn decode(mut bytes: &[u8]) -> Option<Frames> {
    let mut frames = Frames::new();
    while !bytes.is_empty() {
        let (len, rest) = bytes.split_first_chunk::<8>()?;
        let (frame, rest) =
            rest.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
        frames.push(frame.to_vec());
        bytes = rest;
    }
    Some(frames)
}

/// SQLite has signed numbers; keys and times never come near their end.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64, at: usize) -> rusqlite::Result<u64> {
    u64::try_from(number).map_err(|_| broken(at))
}

fn broken(at: usize) -> rusqlite::Error {
    rusqlite::Error::InvalidColumnType(at, "a column".to_owned(), rusqlite::types::Type::Blob)
}
