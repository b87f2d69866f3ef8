//! The kernel's face over real sockets, with the executor's part played by the test: each test is
//! the transcript of a notebook.
use std::os::unix::fs::PermissionsExt;

use prust_kernel::kernel::{Answer, KernelError, Outcome, Report, Settings, Work, bind};
use prust_kernel::wire::connection::Channel;
use prust_kernel::wire::jupyter::Stdio;
use serde_json::json;

use crate::support::frontend::Frontend;

fn printed(text: &str) -> Report {
    Report::Output { run: None, stream: Stdio::Stdout, text: text.to_owned() }
}

fn finish(frontend: &mut Frontend, run: u64, id: &str, count: u32) {
    frontend.report(Report::Done { run, outcome: Outcome::ok() });
    let reply = frontend.recv_reply(Channel::Shell, "execute_reply", id);
    assert_eq!(
        reply,
        json!({"status": "ok", "execution_count": count, "payload": [], "user_expressions": {}})
    );
    frontend.recv_iopub_idle(id);
}

#[test]
fn a_cell_is_told_in_the_order_of_the_specification() {
    let mut frontend = Frontend::start("order");
    let id = frontend.execute("println!(\"a\"); 1");
    frontend.recv_iopub_busy(&id);
    frontend.recv_execute_input(&id, 1);
    let run = frontend.recv_run();
    assert_eq!((run.label.as_str(), run.silent), ("In[1]", false));
    frontend.report(printed("a\n"));
    frontend.recv_stream(&id, "stdout", "a\n");
    let data = prust_kernel::wire::jupyter::bundle([("text/plain", "1")]);
    let metadata = Default::default();
    frontend.report(Report::Result { run: run.run, data, metadata });
    let content = frontend.recv_iopub("execute_result", &id);
    assert_eq!(content["data"]["text/plain"], "1");
    finish(&mut frontend, run.run, &id, 1);
    frontend.end();
}

#[test]
fn everything_works_over_ipc() {
    let mut frontend = Frontend::start_on("ipc", json!({ "transport": "ipc" }));
    let id = frontend.execute("1;");
    frontend.recv_iopub_busy(&id);
    frontend.recv_execute_input(&id, 1);
    let run = frontend.recv_run().run;
    finish(&mut frontend, run, &id, 1);
    frontend.end();
}

#[test]
fn control_and_comms_are_answered_while_a_cell_runs() {
    let mut frontend = Frontend::start("while-busy");
    let id = frontend.execute("loop {}");
    frontend.recv_iopub_busy(&id);
    frontend.recv_execute_input(&id, 1);
    let run = frontend.recv_run().run;
    let info = frontend.send(Channel::Control, "kernel_info_request", json!({}));
    frontend.recv_iopub_busy(&info);
    let reply = frontend.recv_reply(Channel::Control, "kernel_info_reply", &info);
    assert_eq!(reply["language_info"]["name"], "rust");
    assert_eq!(reply["supported_features"], json!([]));
    frontend.recv_iopub_idle(&info);
    frontend.recv_iopub_busy(&id);
    let open = json!({ "comm_id": "c", "target_name": "nobody.knows", "data": {} });
    let comm = frontend.send(Channel::Shell, "comm_open", open);
    frontend.recv_iopub_busy(&comm);
    assert_eq!(frontend.recv_iopub("comm_close", &comm)["comm_id"], "c");
    frontend.recv_iopub_idle(&comm);
    frontend.recv_iopub_busy(&id);
    let interrupt = frontend.send(Channel::Control, "interrupt_request", json!({}));
    assert_eq!(frontend.recv_work(), Work::Interrupt);
    frontend.recv_iopub_busy(&interrupt);
    frontend.recv_reply(Channel::Control, "interrupt_reply", &interrupt);
    frontend.recv_iopub_idle(&interrupt);
    frontend.recv_iopub_busy(&id);
    finish(&mut frontend, run, &id, 1);
    frontend.end();
}

#[test]
fn a_wrong_magic_aborts_the_cells_sent_with_it() {
    let mut frontend = Frontend::start("abort");
    let (first, first_frames) = frontend.message("execute_request", json!({ "code": "%vras" }));
    let (second, second_frames) = frontend.message("execute_request", json!({ "code": "1" }));
    frontend.send_frames(Channel::Shell, first_frames);
    frontend.send_frames(Channel::Shell, second_frames);
    let reply = frontend.recv_reply(Channel::Shell, "execute_reply", &first);
    assert_eq!((&reply["status"], &reply["ename"]), (&json!("error"), &json!("UsageError")));
    let reply = frontend.recv_reply(Channel::Shell, "execute_reply", &second);
    assert_eq!(reply["status"], "aborted");
    frontend.recv_iopub_busy(&first);
    frontend.recv_execute_input(&first, 1);
    let error = frontend.recv_iopub("error", &first);
    assert!(error["evalue"].as_str().is_some_and(|text| text.contains("%vars")), "{error}");
    frontend.recv_iopub_idle(&first);
    frontend.recv_iopub_busy(&second);
    frontend.recv_iopub_idle(&second);
    frontend.end();
}

#[test]
fn a_question_reaches_the_frontend_and_its_answer_the_executor() {
    let mut frontend = Frontend::start("stdin");
    let id = frontend.execute("read()");
    frontend.recv_iopub_busy(&id);
    frontend.recv_execute_input(&id, 1);
    let run = frontend.recv_run().run;
    frontend.report(Report::Input { request: 7, prompt: "name? ".to_owned(), password: true });
    let question = frontend.recv(Channel::Stdin);
    assert_eq!(question.header.msg_type, "input_request");
    let content: serde_json::Value = question.content().expect("contents are JSON");
    assert_eq!(content, json!({ "prompt": "name? ", "password": true }));
    frontend.send(Channel::Stdin, "input_reply", json!({ "value": "me" }));
    let answer = Answer::Line("me".to_owned());
    assert_eq!(frontend.recv_work(), Work::Input { request: 7, answer });
    finish(&mut frontend, run, &id, 1);
    frontend.end();
}

#[test]
fn a_flood_of_lines_arrives_whole_in_few_messages() {
    const N: usize = 100_000;
    let mut frontend = Frontend::start("flood");
    let id = frontend.execute("flood()");
    frontend.recv_iopub_busy(&id);
    frontend.recv_execute_input(&id, 1);
    let run = frontend.recv_run().run;
    for n in 0..N {
        frontend.report(printed(&format!("line {n}\n")));
    }
    frontend.report(Report::Done { run, outcome: Outcome::ok() });
    frontend.recv_reply(Channel::Shell, "execute_reply", &id);
    let expect: String = (0..N).map(|n| format!("line {n}\n")).collect();
    let (mut text, mut n_messages) = (String::new(), 0);
    while text.len() < expect.len() {
        let content = frontend.recv_iopub("stream", &id);
        text.push_str(content["text"].as_str().expect("it is text"));
        n_messages += 1;
    }
    assert!(text == expect, "every line in its place");
    assert!(n_messages < 500, "{n_messages}");
    frontend.recv_iopub_idle(&id);
    frontend.end();
}

#[test]
fn bad_messages_on_every_socket_are_dropped_and_the_kernel_lives() {
    let mut frontend = Frontend::start("bad");
    for channel in [Channel::Shell, Channel::Control, Channel::Stdin] {
        let (_, good) = frontend.message("kernel_info_request", json!({}));
        let mut unsigned = good.clone();
        unsigned[1].clear();
        let mut forged = good.clone();
        forged[5] = br#"{"a":1}"#.to_vec();
        let truncated = good[..4].to_vec();
        let nothing = vec![Vec::new()];
        for frames in [unsigned, forged, truncated, nothing, vec![b"x".to_vec(); 1000]] {
            frontend.send_frames(channel, frames);
        }
        let (id, good) = frontend.message("kernel_info_request", json!({}));
        frontend.send_frames(channel, good.clone());
        frontend.send_frames(channel, good);
        if channel != Channel::Stdin {
            frontend.recv_iopub_busy(&id);
            frontend.recv_reply(channel, "kernel_info_reply", &id);
            frontend.recv_iopub_idle(&id);
        }
    }
    frontend.end();
}

#[test]
fn the_heart_beats_with_the_frames_it_got() {
    let mut frontend = Frontend::start("heart");
    frontend.send_frames(Channel::Heartbeat, vec![b"ping".to_vec(), b"more".to_vec()]);
    let back = frontend.recv_frames(Channel::Heartbeat);
    assert_eq!(back, [b"ping".to_vec(), b"more".to_vec()]);
    frontend.end();
}

#[test]
fn a_second_kernel_on_one_file_is_an_error_that_says_so() {
    let frontend = Frontend::start("twice");
    let path = frontend.directory.join("kernel.json");
    let mode = std::fs::metadata(&path).expect("the file is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "the key is for its owner only");
    let settings =
        Settings { connection_file: path, parent_pid: None, username: "tester".to_owned() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let bound = runtime.expect("threads are left").block_on(async { bind(settings).map(|_| ()) });
    let error = bound.expect_err("the ports are taken");
    assert!(matches!(error, KernelError::Socket(_)) && error.to_string().contains("in use"));
    frontend.end();
}
