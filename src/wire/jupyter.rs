//! The contents of Jupyter's messages. Requests are read leniently (frontends omit what has a
//! default); replies never hold a null where the specification wants an object. Types of the
//! `jupyter-protocol` crate where theirs fit. Never builds headers, never sends.
//!
//! <https://jupyter-client.readthedocs.io/en/stable/messaging.html>
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use jupyter_protocol::{ErrorOutput, HelpLink, InputRequest};

/// A JSON object: a MIME bundle, a metadata or state table.
pub type Object = Map<String, Value>;

/// The MIME type of a live widget.
pub const WIDGET_VIEW: &str = "application/vnd.jupyter.widget-view+json";

#[derive(Clone, Debug, Deserialize)]
pub struct ExecuteRequest {
    pub code: String,
    #[serde(default)]
    pub silent: bool,
    store_history: Option<bool>,
    #[serde(default)]
    user_expressions: Option<Object>,
    #[serde(default)]
    pub allow_stdin: bool,
    stop_on_error: Option<bool>,
}

impl ExecuteRequest {
    /// Silent work is never stored, whatever the request says.
    pub fn store_history(&self) -> bool {
        !self.silent && self.store_history.unwrap_or(true)
    }

    /// The user expressions, as (name, code).
    pub fn expressions(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let expressions = self.user_expressions.iter().flatten();
        expressions.map(|(name, code)| (name.clone(), text(code))).collect()
    }

    pub fn stop_on_error(&self) -> bool {
        self.stop_on_error.unwrap_or(true)
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct CompleteRequest {
    pub code: String,
    /// In Unicode code points; the end of the code when missing.
    #[serde(default)]
    pub cursor_pos: Option<usize>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct InspectRequest {
    pub code: String,
    /// In Unicode code points; the end of the code when missing.
    #[serde(default)]
    pub cursor_pos: Option<usize>,
    #[serde(default)]
    pub detail_level: u8,
}

#[derive(Clone, Debug, Deserialize)]
pub struct IsCompleteRequest {
    pub code: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct HistoryRequest {
    /// `range`, `tail` or `search`.
    pub hist_access_type: String,
    pub output: bool,
    pub raw: Option<bool>,
    pub session: Option<i64>,
    pub start: Option<i64>,
    pub stop: Option<i64>,
    pub n: Option<usize>,
    pub pattern: Option<String>,
    pub unique: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct CommInfoRequest {
    pub target_name: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommOpen {
    pub comm_id: String,
    #[serde(default)]
    pub target_name: String,
    #[serde(default)]
    pub data: Object,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommMsg {
    pub comm_id: String,
    #[serde(default)]
    pub data: Object,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommClose {
    pub comm_id: String,
    #[serde(default)]
    pub data: Object,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct InputReply {
    pub value: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ShutdownRequest {
    pub restart: bool,
}

/// The reply to an execute request.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum ExecuteReply {
    Ok {
        execution_count: u32,
        payload: Vec<Value>,
        user_expressions: Object,
    },
    Error {
        execution_count: u32,
        ename: String,
        evalue: String,
        traceback: Vec<String>,
        payload: Vec<Value>,
        user_expressions: Object,
    },
    Aborted {
        execution_count: u32,
    },
}

/// `{"status": "ok"}`, or an error of a request that is no execution.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum PlainReply {
    Ok,
    Error { ename: String, evalue: String, traceback: Vec<String> },
}

#[derive(Clone, Debug, Serialize)]
pub struct LanguageInfo {
    pub name: &'static str,
    pub version: String,
    pub mimetype: &'static str,
    pub file_extension: &'static str,
    pub pygments_lexer: &'static str,
    pub codemirror_mode: &'static str,
    pub nbconvert_exporter: &'static str,
}

#[derive(Clone, Debug, Serialize)]
pub struct KernelInfoReply {
    pub status: &'static str,
    pub protocol_version: &'static str,
    pub implementation: &'static str,
    pub implementation_version: &'static str,
    pub language_info: LanguageInfo,
    pub banner: String,
    pub help_links: Vec<HelpLink>,
    pub supported_features: Vec<&'static str>,
    /// For frontends older than `supported_features`.
    pub debugger: bool,
}

/// One completion with what JupyterLab and the console show beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    /// Where the text to be replaced starts and ends, in Unicode code points.
    pub start: usize,
    pub end: usize,
    pub text: String,
    /// `function`, `instance`, `magic`, `keyword`, ...
    #[serde(rename = "type")]
    pub kind: String,
    pub signature: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct CompleteReply {
    pub status: &'static str,
    pub matches: Vec<String>,
    pub cursor_start: usize,
    pub cursor_end: usize,
    pub metadata: Value,
}

impl CompleteReply {
    /// All `completions` replace the same stretch, `start..end`.
    pub fn new(start: usize, end: usize, completions: Vec<Completion>) -> Self {
        Self {
            status: "ok",
            matches: completions.iter().map(|completion| completion.text.clone()).collect(),
            cursor_start: start,
            cursor_end: end,
            metadata: serde_json::json!({ "_jupyter_types_experimental": completions }),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InspectReply {
    pub status: &'static str,
    pub found: bool,
    pub data: Object,
    pub metadata: Object,
}

impl InspectReply {
    /// `data`: a MIME bundle, or `None` if nothing is known.
    pub fn new(data: Option<Object>) -> Self {
        let found = data.is_some();
        Self { status: "ok", found, data: data.unwrap_or_default(), metadata: Object::new() }
    }
}

/// Whether a cell can be run as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum IsCompleteReply {
    Complete,
    Incomplete { indent: String },
    Invalid,
}

#[derive(Clone, Debug, Serialize)]
pub struct HistoryReply {
    pub status: &'static str,
    /// `[session, line, input]` or `[session, line, [input, output]]`.
    pub history: Vec<Value>,
}

#[derive(Clone, Debug, Serialize)]
pub struct CommInfoReply {
    pub status: &'static str,
    pub comms: Object,
}

#[derive(Clone, Debug, Serialize)]
pub struct ShutdownReply {
    pub status: &'static str,
    pub restart: bool,
}

/// The two streams of a cell. (`jupyter-protocol`'s own cannot be compared.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stdio {
    Stdout,
    Stderr,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamContent {
    pub name: Stdio,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ExecutionState {
    Starting,
    Idle,
    Busy,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Status {
    pub execution_state: ExecutionState,
}

#[derive(Clone, Debug, Serialize)]
pub struct ExecuteInput<'a> {
    pub code: &'a str,
    pub execution_count: u32,
}

/// `display_data` and `update_display_data`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DisplayData {
    pub data: Object,
    pub metadata: Object,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transient: Option<Transient>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Transient {
    pub display_id: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExecuteResult {
    pub execution_count: u32,
    pub data: Object,
    pub metadata: Object,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ClearOutput {
    pub wait: bool,
}

/// Makes a MIME bundle of texts: JSON types are read, everything else (images come in base64)
/// stays text. Text that claims to be JSON and is not stays text, too.
pub fn bundle<'a>(data: impl IntoIterator<Item = (&'a str, &'a str)>) -> Object {
    let value = |mime: &str, text: &str| match mime {
        _ if !mime.ends_with("json") => Value::String(text.to_owned()),
        _ => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
    };
    data.into_iter().map(|(mime, text)| (mime.to_owned(), value(mime, text))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_execute_request_needs_nothing_but_code() {
        let request: ExecuteRequest = serde_json::from_str(r#"{"code": "1"}"#).expect("lenient");
        assert!(request.store_history() && request.stop_on_error() && !request.allow_stdin);
        let text = r#"{"code": "1", "silent": true, "store_history": true}"#;
        let request: ExecuteRequest = serde_json::from_str(text).expect("lenient");
        assert!(!request.store_history());
    }

    #[test]
    fn a_reply_has_objects_and_no_nulls() {
        let reply = ExecuteReply::Ok {
            execution_count: 1,
            payload: Vec::new(),
            user_expressions: Object::new(),
        };
        assert_eq!(
            serde_json::to_value(reply).expect("it is JSON"),
            json!({"status": "ok", "execution_count": 1, "payload": [], "user_expressions": {}})
        );
        let data = DisplayData { data: Object::new(), metadata: Object::new(), transient: None };
        let text = serde_json::to_string(&data).expect("it is JSON");
        assert_eq!(text, r#"{"data":{},"metadata":{}}"#);
        let reply = IsCompleteReply::Incomplete { indent: "    ".to_owned() };
        let text = serde_json::to_string(&reply).expect("it is JSON");
        assert_eq!(text, r#"{"status":"incomplete","indent":"    "}"#);
        assert_eq!(serde_json::to_string(&PlainReply::Ok).expect("JSON"), r#"{"status":"ok"}"#);
    }

    #[test]
    fn json_types_become_values_and_the_rest_stays_text() {
        let bundle = bundle([
            ("text/plain", "{}"),
            ("application/json", r#"{"a": 1}"#),
            ("application/vnd.plotly.v1+json", "no json"),
        ]);
        assert_eq!(
            Value::Object(bundle),
            json!({"text/plain": "{}", "application/json": {"a": 1},
                "application/vnd.plotly.v1+json": "no json"})
        );
    }
}
