//! rustc's `--error-format=json` messages, as far as they are read. Unknown fields are ignored.

use serde::Deserialize;

/// One diagnostic, or one of its children.
#[derive(Clone, Debug, Deserialize)]
pub struct Message {
    pub message: String,
    pub code: Option<Code>,
    pub level: String,
    #[serde(default)]
    pub spans: Vec<Span>,
    #[serde(default)]
    pub children: Vec<Self>,
    pub rendered: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Code {
    pub code: String,
}

/// A place in a source file, with rustc's label or suggested replacement.
#[derive(Clone, Debug, Deserialize)]
pub struct Span {
    pub file_name: String,
    pub byte_start: usize,
    pub byte_end: usize,
    #[serde(default)]
    pub line_start: usize,
    #[serde(default)]
    pub column_start: usize,
    #[serde(default)]
    pub text: Vec<Line>,
    pub is_primary: bool,
    pub label: Option<String>,
    pub suggested_replacement: Option<String>,
    pub expansion: Option<Box<Expansion>>,
}

/// A line that a span covers, or begins in.
#[derive(Clone, Debug, Deserialize)]
pub struct Line {
    pub text: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Expansion {
    pub span: Span,
    /// `name!`, or `#[derive(Name)]`.
    #[serde(default)]
    pub macro_decl_name: String,
    /// Where the macro is defined.
    #[serde(default)]
    pub def_site_span: Option<Span>,
}

/// Reads the diagnostics among rustc's lines; other lines (artifact notices) are left out.
pub fn read(stderr: &str) -> Vec<Message> {
    stderr
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok())
        .filter(|message| !message.message.starts_with("aborting due to"))
        .filter(|message| message.level != "failure-note")
        .collect()
}
