//! The panel's promises: sizes, order, honesty, escaping. Time is made up; nothing is drawn.
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::html::frozen;
use super::lanes::{BLOCKS_MAX, ROWS_MAX as LANES_MAX};
use super::text::plain;
use super::*;
use crate::client::summary::{Counts, ErrorGroup, Lane, Row, SPANS_MAX, Span};

const NASTY: &str = "\u{1b}[31m<img src=x onerror='alert(\"1\")'>\u{1b}[0m & \u{1b}]0;title\u{7}co";

fn time(ms: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(ms)
}

/// A submission of `total` items on `n_engines`, of which `done` ended within `ms`, evenly.
fn running(n_engines: u32, total: u64, done: u64, ms: u64) -> Summary {
    let elapsed = Duration::from_millis(ms);
    let n_spans = (SPANS_MAX as u32).min(20);
    let lane = |engine| Lane {
        engine,
        done: done / u64::from(n_engines),
        failed: 0,
        running: 1,
        spans: (0..n_spans)
            .map(|idx| Span {
                from: elapsed * idx / n_spans,
                to: (idx + 1 < n_spans).then(|| elapsed * (idx + 1) / n_spans),
                items: done / u64::from(n_engines * n_spans),
                failed: false,
            })
            .collect(),
        busy: elapsed,
        lost: None,
        tail: String::new(),
    };
    let in_flight = u64::from(n_engines).min(total - done);
    Summary {
        submission: 7,
        label: "is_prime".to_owned(),
        state: State::Running,
        counts: Counts {
            total,
            done,
            running: in_flight,
            waiting: total - done - in_flight,
            ..Counts::default()
        },
        tasks: total,
        submitted: time(0),
        elapsed,
        serial: elapsed * n_engines,
        lanes: (0..n_engines).map(lane).collect(),
        errors: Vec::new(),
        rows: Vec::new(),
        bytes_sent: total * 8,
        bytes_received: done,
        hint: None,
    }
}

fn ended(mut summary: Summary, state: State) -> Summary {
    summary.state = state;
    summary.counts.done = summary.counts.total - summary.counts.failed;
    (summary.counts.running, summary.counts.waiting) = (0, 0);
    for lane in &mut summary.lanes {
        lane.running = 0;
        lane.spans.last_mut().expect("a lane was given spans").to = Some(summary.elapsed);
    }
    summary
}

fn failed(mut summary: Summary) -> Summary {
    summary.counts.failed = 3;
    summary.counts.waiting -= 3;
    summary.errors = vec![ErrorGroup {
        ename: "Panic".to_owned(),
        evalue: NASTY.to_owned(),
        count: 3,
        engines: vec![0, 1],
        traceback: vec![format!("at {NASTY}")],
    }];
    summary
}

fn open(summary: &Summary) -> (Panel, Vec<PanelMessage>) {
    Panel::open("s_1", summary, time(0))
}

fn ids(messages: &[PanelMessage]) -> Vec<&str> {
    messages.iter().map(id).collect()
}

fn id(message: &PanelMessage) -> &str {
    match message {
        PanelMessage::CommOpen { comm_id, .. }
        | PanelMessage::CommMsg { comm_id, .. }
        | PanelMessage::CommClose { comm_id } => comm_id.trim_start_matches("prust-s_1-"),
        PanelMessage::Display { .. } => "display",
        PanelMessage::UpdateDisplay { .. } => "update_display",
    }
}

fn state_of<'a>(messages: &'a [PanelMessage], id: &str) -> &'a Value {
    let found = messages.iter().find_map(|message| match message {
        PanelMessage::CommOpen { comm_id, data, .. } | PanelMessage::CommMsg { comm_id, data }
            if comm_id.ends_with(id) =>
        {
            Some(&data["state"])
        }
        _ => None,
    });
    found.unwrap_or(&Value::Null)
}

/// The value of an attribute or style in the first tag that has `class`.
fn in_tag<'a>(html: &'a str, class: &str, name: &str, end: char) -> &'a str {
    let tag = &html[html.find(&format!("class=\"{class}\"")).expect("the class is in the page")..];
    let tag = &tag[..tag.find('>').expect("a tag ends")];
    let value = &tag[tag.find(name).expect("the name is in the tag") + name.len()..];
    &value[..value.find(end).expect("a value ends")]
}

#[test]
fn models_are_opened_before_they_are_referred_to() {
    let (_, messages) = open(&running(4, 100, 10, 1000));
    let mut opened = Vec::new();
    for message in &messages {
        let text = match message {
            PanelMessage::CommOpen { data, .. } => data.to_string(),
            PanelMessage::Display { data, .. } => {
                assert!(opened.iter().any(|id| data[VIEW_MIME]["model_id"] == *id));
                continue;
            }
            other => panic!("only opens and the display: {other:?}"),
        };
        for reference in text.split("IPY_MODEL_").skip(1) {
            let id = &reference[..reference.find('"').expect("a reference is a whole string")];
            assert!(opened.iter().any(|open| open == id), "{id} is opened too late");
        }
        opened.push(format!("prust-s_1-{}", id(message)));
    }
    assert!(matches!(messages.last(), Some(PanelMessage::Display { .. })));
    assert_eq!(opened.len(), Part::ALL.len());
}

#[test]
fn messages_have_the_keys_of_the_protocol() {
    let (mut panel, mut messages) = open(&running(2, 100, 10, 1000));
    messages.extend(panel.update(&running(2, 100, 20, 2000), time(200)));
    messages.extend(panel.finish(&ended(running(2, 100, 20, 3000), State::Done)));
    for parts in messages.into_iter().map(parts) {
        match parts.msg_type {
            "comm_open" => {
                assert_eq!(parts.content["target_name"], "jupyter.widget");
                assert_eq!(parts.metadata, json!({ "version": "2.1.0" }));
                assert_eq!(parts.content["data"]["buffer_paths"], json!([]));
                let state = parts.content["data"]["state"].as_object().expect("a state");
                for key in ["_model_name", "_model_module", "_model_module_version", "_view_name"] {
                    assert!(state[key].is_string(), "{key}");
                }
            }
            "comm_msg" => assert_eq!(parts.content["data"]["method"], "update"),
            "comm_close" => assert_eq!(parts.content["data"], json!({})),
            "display_data" | "update_display_data" => {
                assert_eq!(parts.content["transient"]["display_id"], "prust-s_1");
                assert!(parts.content["data"]["text/plain"].is_string());
                assert!(parts.content["data"]["text/html"].is_string());
            }
            other => panic!("an unexpected message type: {other}"),
        }
    }
}

#[test]
fn bar_widths_agree_with_the_counts() {
    let mut summary = failed(running(4, 2000, 1201, 4000));
    summary.counts.cancelled = 5;
    summary.counts.waiting -= 5;
    let (_, messages) = open(&summary);
    let body = state_of(&messages, "-body")["value"].as_str().expect("the body is text");
    let counts = summary.counts;
    let mut sum = 0.0;
    for (name, n) in [
        ("prust-bar-done", counts.done),
        ("prust-bar-failed", counts.failed),
        ("prust-bar-running", counts.running),
        ("prust-bar-cancelled", counts.cancelled),
    ] {
        let width: f64 = in_tag(body, name, ";width:", '%').parse().expect("a number");
        assert!((width - n as f64 / 20.0).abs() < 1e-3, "{name}: {width} for {n}");
        let left: f64 = in_tag(body, name, "left:", '%').parse().expect("a number");
        assert!((left - sum).abs() < 1e-3, "{name} starts where the part before it ends");
        assert_eq!(in_tag(body, name, "data-items=\"", '"'), n.to_string());
        sum += width;
    }
    assert_eq!(in_tag(body, "prust-bar", "aria-valuenow=\"", '"'), "1201");
}

#[test]
fn update_sends_changed_keys_of_changed_models_only() {
    let (mut panel, _) = open(&running(2, 100, 10, 1000));
    let messages = panel.update(&running(2, 100, 20, 2000), time(200));
    assert_eq!(ids(&messages), ["body"]);
    assert_eq!(state_of(&messages, "body").as_object().map(Map::len), Some(1));
    assert_eq!(panel.update(&running(2, 100, 20, 2000), time(400)), []);
    let messages = panel.update(&failed(running(2, 100, 20, 2000)), time(600));
    assert_eq!(ids(&messages), ["retry-layout", "retry", "body", "sections"]);
}

#[test]
fn updates_too_close_together_are_refused_unless_final() {
    let (mut panel, _) = open(&running(2, 100, 10, 1000));
    assert_eq!(panel.update(&running(2, 100, 20, 1050), time(99)), []);
    assert_eq!(ids(&panel.update(&running(2, 100, 20, 1050), time(100))), ["body"]);
    let last = ended(running(2, 100, 20, 1060), State::Done);
    assert_eq!(ids(&panel.update(&last, time(101))), ["title", "cancel", "body"]);
}

#[test]
fn finish_sends_the_final_state_then_the_static_page_then_closes() {
    let (mut panel, _) = open(&running(2, 100, 10, 1000));
    let messages = panel.finish(&ended(running(2, 100, 10, 1001), State::Done));
    let kinds = ids(&messages);
    assert_eq!(kinds[..4], ["title", "cancel", "body", "update_display"]);
    assert_eq!(kinds[4..].len(), Part::ALL.len());
    assert_eq!(kinds[4], "root");
    assert_eq!(state_of(&messages, "cancel")["disabled"], true);
    assert_eq!(state_of(&messages, "cancel")["description"], "Done");
    let PanelMessage::UpdateDisplay { data, .. } = &messages[3] else { panic!("the static page") };
    let mimes: Vec<&String> = data.as_object().expect("a bundle").keys().collect();
    assert_eq!(mimes, ["text/html", "text/plain"]);
    assert!(!panel.is_live());
    assert_eq!(panel.finish(&ended(running(2, 100, 10, 1001), State::Done)), []);
}

#[test]
fn ended_submission_opens_as_a_static_page() {
    let (mut panel, messages) = open(&ended(running(2, 100, 10, 1000), State::Done));
    assert_eq!(ids(&messages), ["display"]);
    assert_eq!(panel.update(&running(2, 100, 10, 1000), time(500)), []);
}

#[test]
fn page_loaded_anew_keeps_its_widgets() {
    let (mut panel, messages) = open(&running(2, 100, 10, 1000));
    assert!(ids(&messages).len() > 1);
    panel.page_loaded();
    let messages = panel.finish(&ended(running(2, 100, 10, 1001), State::Done));
    assert_eq!(ids(&messages).last(), Some(&"update_display"));
    assert_eq!(panel.close().len(), Part::ALL.len());
}

#[test]
fn clicks_become_actions() {
    let (mut panel, _) = open(&running(2, 100, 10, 1000));
    let click = json!({ "method": "custom", "content": { "event": "click" } });
    assert_eq!(panel.clicked("prust-s_1-title", &click), None);
    assert_eq!(panel.clicked("other", &click), None);
    assert_eq!(panel.clicked("prust-s_1-cancel", &json!(["nonsense"])), None);
    assert_eq!(panel.clicked("prust-s_1-cancel", &click), Some(Action::Cancel));
    let answer = panel.update(&running(2, 100, 10, 1000), time(1));
    assert_eq!(state_of(&answer, "cancel")["description"], "Cancelling…");
    assert_eq!(panel.clicked("prust-s_1-retry", &click), Some(Action::RetryFailed));
    let answer = panel.update(&failed(running(2, 100, 10, 1000)), time(2));
    assert_eq!(state_of(&answer, "-retry")["description"], "Retried");
}

#[test]
fn section_fills_when_it_is_opened() {
    let summary = failed(running(2, 100, 10, 1000));
    let (mut panel, messages) = open(&summary);
    assert_eq!(state_of(&messages, "-errors")["value"], "");
    let opened = json!({ "method": "update", "state": { "selected_index": 1 } });
    let action = panel.clicked("prust-s_1-sections", &opened);
    assert_eq!(action, Some(Action::Open(Section::Errors)));
    let messages = panel.update(&summary, time(1));
    assert_eq!(ids(&messages), ["errors"]);
    let shut = json!({ "method": "update", "state": { "selected_index": null } });
    assert_eq!(panel.clicked("prust-s_1-sections", &shut), None);
    assert_eq!(panel.update(&summary, time(500)), []);
}

#[test]
fn user_text_is_escaped_and_free_of_control_sequences() {
    let mut summary = ended(failed(running(2, 100, 10, 1000)), State::Failed);
    summary.label = NASTY.to_owned();
    summary.hint = Some(NASTY.to_owned());
    summary.lanes[0].tail = NASTY.to_owned();
    summary.lanes[1].lost = Some(NASTY.to_owned());
    summary.rows = vec![Row {
        msg_id: NASTY.to_owned(),
        engine: None,
        items: 1,
        status: NASTY.to_owned(),
        submitted: None,
        started: None,
        completed: None,
        received: None,
    }];
    let page = frozen(&summary);
    assert!(!page.contains("<img") && !page.contains("onerror='"), "{page}");
    assert!(page.contains("&lt;img src=x onerror=&#39;alert(&quot;1&quot;)&#39;&gt; &amp; co"));
    for text in [page, plain(&summary)] {
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'));
    }
}

#[test]
fn static_page_uses_only_what_sanitisers_keep() {
    let page = frozen(&failed(running(40, 4000, 400, 1000)));
    for part in page.split('<').skip(1) {
        let name = part.trim_start_matches('/').split([' ', '>']).next().unwrap_or_default();
        let kept = ["div", "span", "details", "summary", "pre", "code", "table", "thead", "tbody"];
        assert!(kept.contains(&name) || ["tr", "th", "td"].contains(&name), "<{name}>");
    }
    assert!(!page.contains("flex") && !page.contains("calc("));
    let unguarded = page.replace("),rgb(", "").matches("var(--jp-").count();
    assert_eq!(unguarded, page.matches(",rgb(").count(), "a var() is kept only around an rgb()");
}

#[test]
fn million_tasks_cost_no_more_than_a_hundred() {
    let size = |total| {
        let summary = running(4, total, total / 2, 10_000);
        let (mut panel, _) = open(&running(4, total, 0, 10));
        let update: usize = panel
            .update(&summary, time(200))
            .into_iter()
            .map(|message| parts(message).content.to_string().len())
            .sum();
        (update, frozen(&summary).len())
    };
    let (small, large) = (size(100), size(1_000_000));
    assert!(large.0 < small.0 + 2_000, "{small:?} {large:?}");
    assert!(large.1 < small.1 + 2_000, "{small:?} {large:?}");
    assert!(large.0 < 40_000, "{large:?}");
}

#[test]
fn many_engines_are_grouped() {
    for n_engines in [33, 40, 64, 1000] {
        let mut summary = running(n_engines, 1_000_000, 500_000, 10_000);
        for (idx, span) in summary.lanes.iter_mut().flat_map(|l| &mut l.spans).enumerate() {
            span.failed = idx % 3 == 0;
        }
        let page = frozen(&summary);
        let n_rows = page.matches("class=\"prust-lane\"").count();
        assert!((16..=LANES_MAX).contains(&n_rows), "{n_engines} engines in {n_rows} rows");
        let n_blocks = page.matches("top:0;height:100%").count();
        assert!(n_blocks <= 2 * BLOCKS_MAX, "{n_blocks} blocks");
        assert!(page.len() < 300_000, "{}", page.len());
    }
}

#[test]
fn remaining_time_is_shown_only_when_honest() {
    let left = |panel: &Panel, summary: &Summary| panel.pace.figures(summary).left;
    let (mut panel, _) = open(&running(2, 1000, 0, 1));
    for step in 1..=20 {
        let summary = running(2, 1000, step * 20, step * 100);
        panel.update(&summary, time(step * 100));
        let shown = left(&panel, &summary);
        assert_eq!(shown.is_some(), step >= 6, "step {step}: {shown:?}");
    }
    // 400 items took two seconds, so 600 take three.
    let (low, high) = left(&panel, &running(2, 1000, 400, 2000)).expect("even work is foreseeable");
    let three = Duration::from_secs(3);
    assert!(low < three && three < high && high < three * 2, "{low:?} {high:?}");
    // Then nothing ends for a minute, and the panel takes it back.
    for step in 0..100 {
        panel.update(&running(2, 1000, 400, 2000 + step * 600), time(2000 + step * 600));
    }
    assert_eq!(left(&panel, &running(2, 1000, 400, 62_000)), None);
}

#[test]
fn plain_text_says_the_same_in_a_few_lines() {
    let mut summary = failed(running(4, 2000, 1204, 3900));
    summary.hint = Some("waiting for engine 3".to_owned());
    for lane in &mut summary.lanes {
        lane.lost = Some("killed by SIGKILL".to_owned());
    }
    let text = plain(&summary);
    let n_lines = text.lines().count();
    assert!(n_lines <= text::LINES_MAX, "{text}");
    for part in [
        "is_prime: running, 1,204 of 2,000 items done (60%) in 3.90 s",
        "4 running, 3 failed, 789 waiting",
        "speed-up 4.0 on 4 engines (100%)",
        "3 times, engines 0, 1",
        "engine 0 was lost: killed by SIGKILL",
        "waiting for engine 3",
        "%px_cancel 7",
    ] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    assert!(!text.ends_with('\n'));
}

#[track_caller]
fn check(shown: String, expect: &str) {
    assert_eq!(shown, expect);
}

#[test]
fn numbers_and_times_are_written_for_reading() {
    check(words::count(1_234_567), "1,234,567");
    check(words::short_count(1_234_567), "1.23 M");
    check(words::counted(1, "item"), "1 item");
    check(words::percent(999, 1000).to_string(), "99");
    check(words::duration(Duration::from_micros(250)), "250 µs");
    check(words::duration(Duration::from_millis(12)), "12 ms");
    check(words::duration(Duration::from_secs_f64(3.456)), "3.46 s");
    check(words::duration(Duration::from_secs(125)), "2 min 05 s");
    check(words::range(Duration::from_millis(1800), Duration::from_millis(2600)), "~2–3 s");
    check(words::range(Duration::from_secs(300), Duration::from_secs(420)), "~5–7 min");
    check(words::range(Duration::from_millis(100), Duration::from_millis(400)), "under 1 s");
    check(words::rate(0.5), "30.0/min");
    check(words::rate(312.4), "312/s");
    check(words::bytes(1_500_000), "1.5 MB");
    check(words::engines(&[3, 0, 1, 2, 6, 8, 9]), "0–3, 6, 8, 9");
    check(words::tail("a\n10%\r50%\r\u{1b}[1m90%\u{1b}[0m\nend\n", 2), "90%\nend");
    check(words::one_line("let x = 1;\n    x + 1", 14), "let x = 1; x …");
}

/// A panel message as the parts of a Jupyter message on iopub.
struct Parts {
    msg_type: &'static str,
    content: Value,
    metadata: Value,
}

fn parts(message: PanelMessage) -> Parts {
    let display = |display_id: String, data: Value| {
        let transient = json!({ "display_id": display_id });
        json!({ "data": data, "metadata": {}, "transient": transient })
    };
    let (msg_type, content, metadata) = match message {
        PanelMessage::Display { display_id, data } => {
            ("display_data", display(display_id, data), json!({}))
        }
        PanelMessage::UpdateDisplay { display_id, data } => {
            ("update_display_data", display(display_id, data), json!({}))
        }
        PanelMessage::CommOpen { comm_id, data, metadata } => {
            let content =
                json!({ "comm_id": comm_id, "target_name": "jupyter.widget", "data": data });
            ("comm_open", content, metadata)
        }
        PanelMessage::CommMsg { comm_id, data } => {
            ("comm_msg", json!({ "comm_id": comm_id, "data": data }), json!({}))
        }
        PanelMessage::CommClose { comm_id } => {
            ("comm_close", json!({ "comm_id": comm_id, "data": {} }), json!({}))
        }
    };
    Parts { msg_type, content, metadata }
}
