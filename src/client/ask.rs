//! Questions to a controller by somebody who submits nothing: one socket to its registration port,
//! a question, its answer, with a deadline for each. Decides nothing and keeps nothing.

use super::Endpoints;
use crate::wire::connection::ClientFile;
use crate::wire::{Context, Draft, Kind, Opened, Reader, SocketError, Spec, Writer, socket};
use serde_json::{Value, json};
use std::fmt;
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// How long a controller may take to accept a connection, and to give an answer. It does both
/// within milliseconds.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Why a question has no answer.
#[derive(Debug)]
pub enum AskError {
    /// Nobody listens there.
    Nobody {
        endpoint: String,
        source: io::Error,
    },
    /// Somebody listens and says nothing: the key is another one, or it hangs.
    Silent {
        endpoint: String,
    },
    Socket(SocketError),
    /// The controller answered with an error.
    Refused {
        ename: String,
        evalue: String,
    },
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody { endpoint, source } => {
                write!(f, "no controller listens at {endpoint} ({source}): it has ended")
            }
            Self::Silent { endpoint } => write!(
                f,
                "whoever listens at {endpoint} did not answer within {} s: the file's key may be \
                 that of another controller, or the controller hangs",
                ANSWER_WITHIN.as_secs()
            ),
            Self::Socket(source) => write!(f, "failed to reach the controller: {source}"),
            Self::Refused { ename, evalue } => {
                write!(f, "the controller answered {ename}: {evalue}")
            }
        }
    }
}

impl std::error::Error for AskError {}

/// A connection for questions.
pub struct Questions {
    endpoint: String,
    opened: Opened,
    writer: Writer,
    reader: Reader,
}

impl Questions {
    /// Connects. Whether the controller knows our key is seen by its first answer.
    ///
    /// # Errors
    /// Nobody listens, or no socket can be opened.
    pub async fn open(context: &Context, file: &ClientFile) -> Result<Self, AskError> {
        let endpoint = Endpoints::from(file).query;
        if let Some(address) = endpoint.strip_prefix("tcp://") {
            let until = Instant::now() + ANSWER_WITHIN;
            let connected = timeout_at(until, TcpStream::connect(address)).await;
            let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            // It is closed at once: the real connection is libzmq's, which never says that it has
            // none.
            drop(connected.map_err(|source| {
                let endpoint = endpoint.clone();
                AskError::Nobody { endpoint, source }
            })?);
        }
        let specs = vec![Spec::connect(Kind::Dealer, &endpoint)];
        let opened = socket::open(context, "questions", specs).map_err(AskError::Socket)?;
        let session = uuid::Uuid::new_v4().simple().to_string();
        let (writer, reader) = (Writer::new(&file.key, session, "prust"), Reader::new(&file.key));
        Ok(Self { endpoint, opened, writer, reader })
    }

    /// Asks, and waits for the answer for `ANSWER_WITHIN`.
    ///
    /// # Errors
    /// No answer in time, or an error as the answer.
    pub async fn ask(&mut self, msg_type: &str, content: &Value) -> Result<Value, AskError> {
        let (msg_id, frames) = self.writer.write(Draft::new(msg_type, content));
        self.opened.sockets.send(0, frames);
        let until = Instant::now() + ANSWER_WITHIN;
        while let Ok(Some(batch)) = timeout_at(until, self.opened.incoming.recv()).await {
            for (_, frames) in batch {
                let Ok(message) = self.reader.read(frames) else { continue };
                if message.parent().is_none_or(|parent| parent.msg_id != msg_id) {
                    continue;
                }
                let content: Value = message.content().unwrap_or_default();
                if content["status"] == "error" {
                    let text = |key: &str| content[key].as_str().unwrap_or_default().to_owned();
                    let (ename, evalue) = (text("ename"), text("evalue"));
                    return Err(AskError::Refused { ename, evalue });
                }
                return Ok(content);
            }
        }
        Err(AskError::Silent { endpoint: self.endpoint.clone() })
    }

    /// Reports an engine whose process is known to have ended. Without this the controller would
    /// notice by missing heartbeats only.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn engine_gone(&mut self, uuid: &str, cause: &str) -> Result<(), AskError> {
        let reply = self.ask("connection_request", &json!({})).await?;
        let engines = reply["engines"].as_object().into_iter().flatten();
        let id = engines.filter(|(_, known)| *known == uuid).find_map(|(id, _)| id.parse().ok());
        // One that was never announced has nothing to lose.
        let Some(id): Option<u32> = id else { return Ok(()) };
        let content = json!({"id": id, "cause": cause});
        let (_, frames) = self.writer.write(Draft::new("unregistration_request", &content));
        self.opened.sockets.send(0, frames);
        Ok(())
    }
}

impl Drop for Questions {
    fn drop(&mut self) {
        self.opened.sockets.close();
    }
}
