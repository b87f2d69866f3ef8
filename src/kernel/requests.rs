//! The requests that are answered at once: what the kernel is, completion, inspection, whether a
//! cell is complete, history, comms, interrupts. Never runs code.
//!
//! <https://jupyter-client.readthedocs.io/en/stable/messaging.html>
use serde::de::DeserializeOwned;
use serde_json::json;

use super::face::{Face, Parent};
use super::{complete, inspect, scan};
use crate::wire::Message;
use crate::wire::connection::Channel;
use crate::wire::envelope::PROTOCOL_VERSION;
use crate::wire::jupyter::{
    CommInfoRequest, CompleteRequest, HelpLink, HistoryReply, HistoryRequest, InspectRequest,
    IsCompleteRequest, KernelInfoReply, LanguageInfo, PlainReply,
};

/// Answers `message` on `channel`; the caller puts busy and idle around it.
pub(super) fn answer(face: &mut Face, channel: Channel, message: &Message, parent: &Parent) {
    match message.header.msg_type.as_str() {
        "kernel_info_request" => {
            let reply = kernel_info(&face.rust_version);
            face.reply(channel, message, "kernel_info_reply", &reply);
        }
        "complete_request" => with(face, channel, message, |face, request: CompleteRequest| {
            let reply = complete::complete(&request, &face.names);
            face.reply(channel, message, "complete_reply", &reply);
        }),
        "inspect_request" => with(face, channel, message, |face, request: InspectRequest| {
            let reply = inspect::inspect(&request, &face.names);
            face.reply(channel, message, "inspect_reply", &reply);
        }),
        "is_complete_request" => {
            with(face, channel, message, |face, request: IsCompleteRequest| {
                let reply = scan::is_complete(&request.code);
                face.reply(channel, message, "is_complete_reply", &reply);
            });
        }
        "history_request" => with(face, channel, message, |face, request: HistoryRequest| {
            let reply = HistoryReply { status: "ok", history: face.session.history(&request) };
            face.reply(channel, message, "history_reply", &reply);
        }),
        "comm_info_request" => with(face, channel, message, |face, request: CommInfoRequest| {
            let reply = face.comms.info(request.target_name.as_deref());
            face.reply(channel, message, "comm_info_reply", &reply);
        }),
        "comm_open" | "comm_msg" | "comm_close" => face.comm_request(message, parent),
        "connect_request" => {
            let mut reply = face.ports.clone();
            reply.insert("status".to_owned(), "ok".into());
            face.reply(channel, message, "connect_reply", &reply);
        }
        "interrupt_request" => {
            face.interrupt();
            face.reply(channel, message, "interrupt_reply", &PlainReply::Ok);
        }
        other => tracing::debug!(msg_type = %other, "a message nobody answers"),
    }
}

/// The reply to a request whose content lacks what it must have.
pub(super) fn bad_request(error: &serde_json::Error) -> PlainReply {
    PlainReply::Error {
        ename: "BadRequest".to_owned(),
        evalue: error.to_string(),
        traceback: Vec::new(),
    }
}

fn with<T: DeserializeOwned>(
    face: &mut Face,
    channel: Channel,
    message: &Message,
    answer: impl FnOnce(&mut Face, T),
) {
    match message.content() {
        Ok(request) => answer(face, request),
        Err(error) => {
            let msg_type = message.header.msg_type.replace("_request", "_reply");
            face.reply(channel, message, &msg_type, &bad_request(&error));
        }
    }
}

fn kernel_info(rust_version: &str) -> KernelInfoReply {
    let version = env!("CARGO_PKG_VERSION");
    let link = |text: &str, url: &str| HelpLink { text: text.to_owned(), url: url.to_owned() };
    KernelInfoReply {
        status: "ok",
        protocol_version: PROTOCOL_VERSION,
        implementation: "prust",
        implementation_version: version,
        language_info: LanguageInfo {
            name: "rust",
            version: rust_version.to_owned(),
            mimetype: "text/rust",
            file_extension: ".rs",
            pygments_lexer: "rust",
            codemirror_mode: "rust",
            nbconvert_exporter: "script",
        },
        banner: format!(
            "prust {version}: Rust {rust_version} cells, on one engine or many. \
             %help lists what a cell can say besides Rust."
        ),
        help_links: vec![
            link("The Rust Programming Language", "https://doc.rust-lang.org/book/"),
            link("The Rust standard library", "https://doc.rust-lang.org/std/"),
            link("crates.io", "https://crates.io/"),
        ],
        supported_features: Vec::new(),
        debugger: false,
    }
}

/// What a `connect_request` is told.
pub(super) fn connect_ports(file: &crate::wire::connection::KernelFile) -> serde_json::Value {
    json!({
        "shell_port": file.shell_port,
        "iopub_port": file.iopub_port,
        "stdin_port": file.stdin_port,
        "hb_port": file.hb_port,
        "control_port": file.control_port,
    })
}
