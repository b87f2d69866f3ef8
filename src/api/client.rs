//! `Client`: a cluster as a cell sees it. Engines, views, the controller's records.

use crate::EngineId;
use crate::ask::{ask, unexpected};
use crate::call::Value as Sent;
use crate::error::{Error, Result};
use crate::request::{Answer, Options, Request, Signal, Stopped, Until};
use crate::results::AsyncMapResult;
use crate::submission::Submission;
use crate::targets::{IntoTargets, Targets};
use crate::views::{DirectView, EngineView, LoadBalancedView, Submitted};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// A cluster.
#[derive(Clone)]
pub struct Client {
    cluster: u32,
}

/// How much work an engine has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStatus {
    /// Direct work sent and not finished.
    pub queue: u64,
    /// Load-balanced tasks assigned and not finished.
    pub tasks: u64,
    pub completed: u64,
}

/// Which of some messages have ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResultStatus {
    pub pending: Vec<String>,
    pub completed: Vec<String>,
}

impl Client {
    /// The kernel's own cluster; starts it if need be.
    ///
    /// # Errors
    /// The cluster cannot be started.
    pub fn connect() -> Result<Self> {
        Self::connected(None)
    }

    /// A cluster by its connection file (`ipcontroller-client.json`) or by its profile's name.
    ///
    /// # Errors
    /// The file cannot be read or nobody answers.
    pub fn connect_to(file_or_profile: impl Into<String>) -> Result<Self> {
        Self::connected(Some(file_or_profile.into()))
    }

    fn connected(to: Option<String>) -> Result<Self> {
        match ask(0, Request::Connect { to }, &[])?.0 {
            Answer::Connected { cluster } => Ok(Self { cluster }),
            answer => Err(unexpected(&answer)),
        }
    }

    /// The live engines, in ascending order; none when there is no cluster any more.
    pub fn ids(&self) -> Vec<EngineId> {
        match ask(self.cluster, Request::Engines, &[]) {
            Ok((Answer::Engines(ids), _)) => ids,
            Ok(_) | Err(_) => Vec::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.ids().len()
    }

    pub fn is_empty(&self) -> bool {
        self.ids().is_empty()
    }

    /// Waits until `n` engines are there.
    ///
    /// # Errors
    /// [`Error::Timeout`].
    pub fn wait_for_engines(&self, n: usize, timeout: Duration) -> Result<()> {
        let wait = Request::WaitForEngines { n: n as u64, timeout: Some(timeout) };
        match ask(self.cluster, wait, &[])?.0 {
            Answer::Waited(true) => Ok(()),
            Answer::Waited(false) => {
                Err(Error::Timeout { done: self.len() as u64, total: n as u64 })
            }
            answer => Err(unexpected(&answer)),
        }
    }

    /// A view on engines that each do the work: `..`, `0`, `[0, 2]`, `0..3`, `(..).step_by(2)`,
    /// `"::2"`, `"all"`. Never fails: an unknown id is an error of the first result.
    pub fn direct_view(&self, targets: impl IntoTargets) -> DirectView {
        let (cluster, targets) = (self.cluster, targets.into_targets());
        DirectView { cluster, targets, options: Options::default() }
    }

    /// A view on one engine.
    pub fn engine(&self, id: EngineId) -> EngineView {
        EngineView { direct: self.direct_view(id) }
    }

    /// A view on any engine that has time.
    pub fn load_balanced_view(&self) -> LoadBalancedView {
        let (cluster, targets) = (self.cluster, Targets::All);
        LoadBalancedView { cluster, targets, options: Options::default() }
    }

    /// Waits for several results; `false` when the time was over first.
    ///
    /// # Errors
    /// One of them was not submitted, or there is no cluster.
    pub fn wait(&self, results: &[&dyn Submitted], timeout: Option<Duration>) -> Result<bool> {
        let submissions = results.iter().flat_map(|result| result.submission_ids()).collect();
        let wait = Request::Wait { submissions, until: Until::Finished, timeout };
        match ask(self.cluster, wait, &[])?.0 {
            Answer::Waited(reached) => Ok(reached),
            answer => Err(unexpected(&answer)),
        }
    }

    /// The work of every engine, as the controller records it.
    ///
    /// # Errors
    /// The controller refuses or does not answer.
    pub fn queue_status(&self) -> Result<BTreeMap<EngineId, QueueStatus>> {
        let reply = self.hub("queue_request", &json!({"targets": null, "verbose": false}))?;
        let counts = |engine: &Value| {
            let count = |key: &str| engine[key].as_u64().unwrap_or(0);
            QueueStatus {
                queue: count("queue"),
                tasks: count("tasks"),
                completed: count("completed"),
            }
        };
        let engines = reply.as_object().into_iter().flatten();
        Ok(engines.filter_map(|(id, engine)| Some((id.parse().ok()?, counts(engine)))).collect())
    }

    /// The message ids of all work the controller knows, by submission.
    ///
    /// # Errors
    /// As [`Self::queue_status`].
    pub fn history(&self) -> Result<Vec<String>> {
        let reply = self.hub("history_request", &json!({}))?;
        Ok(serde_json::from_value(reply["history"].clone()).unwrap_or_default())
    }

    /// The results of work that was submitted earlier, by an earlier session of this notebook or by
    /// another client, by the message ids that [`AsyncMapResult::msg_ids`] gave. Each message gives
    /// one value, or those of a chunk of a `map`, in the order of the ids; what is not finished is
    /// waited for as usual. Cells of engines give `CellReply`.
    ///
    /// An id that the controller does not know, and a type that is not the one that was submitted,
    /// are errors of the result.
    pub fn get_result<T: Sent>(&self, msg_ids: &[impl AsRef<str>]) -> AsyncMapResult<T> {
        let (msg_ids, returns) = (texts(msg_ids), crate::type_text::<T>());
        let fetch = Request::Fetch { msg_ids, returns };
        AsyncMapResult::new(Submission::requested(self.cluster, fetch, &[]), false)
    }

    /// Which of these messages have ended and which have not.
    ///
    /// # Errors
    /// An id that the controller does not know, or as [`Self::queue_status`].
    pub fn result_status(&self, msg_ids: &[impl AsRef<str>]) -> Result<ResultStatus> {
        let content = json!({"msg_ids": texts(msg_ids), "status_only": true});
        let reply = self.hub("result_request", &content)?;
        let list = |key: &str| serde_json::from_value(reply[key].clone()).unwrap_or_default();
        Ok(ResultStatus { pending: list("pending"), completed: list("completed") })
    }

    /// Has the controller forget these messages, which have to have ended.
    ///
    /// # Errors
    /// One has not ended, or as [`Self::queue_status`].
    pub fn purge_results(&self, msg_ids: &[impl AsRef<str>]) -> Result<()> {
        let content = json!({"msg_ids": texts(msg_ids), "engine_ids": []});
        self.hub("purge_request", &content).map(|_| ())
    }

    /// Has the controller submit these tasks again, to any engine; the ids of the new messages, in
    /// order, for [`Self::get_result`].
    ///
    /// # Errors
    /// An id that the controller does not know, or as [`Self::queue_status`].
    pub fn resubmit(&self, msg_ids: &[impl AsRef<str>]) -> Result<Vec<String>> {
        let msg_ids = texts(msg_ids);
        let reply = self.hub("resubmit_request", &json!({"msg_ids": msg_ids}))?;
        let again = |id: &String| reply["resubmitted"][id].as_str().map(str::to_owned);
        Ok(msg_ids.iter().filter_map(again).collect())
    }

    /// Records of tasks by an ipyparallel query, as JSON texts.
    ///
    /// # Errors
    /// The query is not JSON, or as [`Self::queue_status`].
    pub fn db_query(&self, query: &str) -> Result<Vec<String>> {
        let query: Value = serde_json::from_str(query).map_err(|error| Error::NotSerializable {
            what: "the query".to_owned(),
            reason: error.to_string(),
        })?;
        let reply = self.hub("db_request", &json!({"query": query, "keys": null}))?;
        let records = reply["records"].as_array().into_iter().flatten();
        Ok(records.map(Value::to_string).collect())
    }

    /// Drops all work of these engines that has not started.
    ///
    /// # Errors
    /// A target that is not there.
    pub fn abort(&self, targets: impl IntoTargets) -> Result<Stopped> {
        self.signal(targets.into_targets(), Signal::Abort)
    }

    /// Interrupts what these engines run; their variables stay.
    ///
    /// # Errors
    /// A target that is not there.
    pub fn interrupt(&self, targets: impl IntoTargets) -> Result<Stopped> {
        self.signal(targets.into_targets(), Signal::Interrupt)
    }

    /// Drops the variables of these engines.
    ///
    /// # Errors
    /// A target that is not there.
    pub fn clear(&self, targets: impl IntoTargets) -> Result<()> {
        self.signal(targets.into_targets(), Signal::Clear).map(|_| ())
    }

    /// Ends these engines.
    ///
    /// # Errors
    /// A target that is not there.
    pub fn shutdown(&self, targets: impl IntoTargets) -> Result<()> {
        self.signal(targets.into_targets(), Signal::Shutdown).map(|_| ())
    }

    /// Ends these engines; the kernel's own cluster starts new ones in their place.
    ///
    /// # Errors
    /// A target that is not there.
    pub fn restart(&self, targets: impl IntoTargets) -> Result<()> {
        self.signal(targets.into_targets(), Signal::Restart).map(|_| ())
    }

    fn signal(&self, targets: Targets, signal: Signal) -> Result<Stopped> {
        match ask(self.cluster, Request::Signal { targets, signal }, &[])?.0 {
            Answer::Stopped(stopped) => Ok(stopped),
            Answer::Done => Ok(Stopped::default()),
            answer => Err(unexpected(&answer)),
        }
    }

    fn hub(&self, msg_type: &str, content: &Value) -> Result<Value> {
        let (msg_type, content) = (msg_type.to_owned(), content.to_string());
        match ask(self.cluster, Request::Hub { msg_type, content }, &[])?.0 {
            Answer::Hub { content } => serde_json::from_str(&content).map_err(|error| {
                let reason = format!("the controller's answer is not JSON: {error}");
                Error::Disconnected { reason }
            }),
            answer => Err(unexpected(&answer)),
        }
    }
}

fn texts(msg_ids: &[impl AsRef<str>]) -> Vec<String> {
    msg_ids.iter().map(|id| id.as_ref().to_owned()).collect()
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.ids();
        match ids.len() {
            1 => write!(formatter, "<Client: 1 engine>"),
            n => write!(formatter, "<Client: {n} engines>"),
        }
    }
}
