//! How a controller is: a short status for people, and a dump of the whole state for bug reports.
//! Both only read. What users sent is told by its size; a dump holds no more text than named limits
//! allow.

use std::collections::VecDeque;

use serde_json::{Value, json};

use crate::engine::Engine;
use crate::record::{Moment, Record};
use crate::request::Request;
use crate::{Cluster, Frames, Key, Message, Millis, iso};

/// Rates are over so many seconds at most.
const RATE_SECONDS: u64 = 10;

/// Records in a dump: all open ones first, then the latest that have ended.
pub const DUMP_RECORDS_MAX: usize = 2000;

/// Ids of one list in a dump; the rest is counted.
pub const DUMP_IDS_MAX: usize = 64;

/// Bytes of any text in a dump that somebody else has written: ids, labels, errors.
pub const DUMP_TEXT_MAX: usize = 200;

/// What is counted over time, and what only the owner of the sockets knows.
#[derive(Debug)]
pub(crate) struct Watch {
    started: Millis,
    /// Tasks submitted and ended before each of the last seconds, oldest first.
    seconds: VecDeque<Second>,
    /// Messages that were refused before they came here.
    n_dropped: u64,
}

#[derive(Clone, Copy, Debug)]
struct Second {
    /// When it was seen first.
    at: Millis,
    n_submitted: u64,
    n_ended: u64,
}

impl Second {
    fn is_recent(&self, now: Millis) -> bool {
        now - self.at <= Millis(RATE_SECONDS * 1000)
    }
}

impl Watch {
    pub(crate) fn new(now: Millis) -> Self {
        Self { started: now, seconds: VecDeque::new(), n_dropped: 0 }
    }

    /// Notes where the counters stand, once a second.
    pub(crate) fn look(&mut self, n_submitted: u64, n_ended: u64, now: Millis) {
        if self.seconds.back().is_some_and(|last| now - last.at < Millis(1000)) {
            return;
        }
        self.seconds.retain(|second| second.is_recent(now));
        self.seconds.push_back(Second { at: now, n_submitted, n_ended });
    }

    /// Submitted and ended tasks per second, lately.
    fn rates(&self, n_submitted: u64, n_ended: u64, now: Millis) -> (f64, f64) {
        let from = self.seconds.iter().find(|second| second.is_recent(now));
        let Some(from) = from else { return (0.0, 0.0) };
        let seconds = (now - from.at).0.max(1000) as f64 / 1000.0;
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        (rate(n_submitted, from.n_submitted), rate(n_ended, from.n_ended))
    }
}

impl Cluster {
    /// Takes over how many messages were refused at the door: unsigned, forged, replayed, broken.
    pub fn note_dropped(&mut self, n_dropped: u64) {
        self.watch.n_dropped = n_dropped;
    }

    /// Looks at the counters; to be called after every event.
    pub(crate) fn look(&mut self, now: Millis) {
        let (n_submitted, n_ended) = self.n_submitted_and_ended();
        self.watch.look(n_submitted, n_ended, now);
    }

    fn n_submitted_and_ended(&self) -> (u64, u64) {
        let n_submitted = self.records.n_added();
        (n_submitted, n_submitted.saturating_sub(self.records.n_open() as u64))
    }

    /// The content of a `prust_status_reply`.
    pub(crate) fn status(&self, now: Millis) -> Value {
        let (n_submitted, n_ended) = self.n_submitted_and_ended();
        let (submitted_per_second, ended_per_second) = self.watch.rates(n_submitted, n_ended, now);
        let engines = self.engines.values().filter(|engine| engine.announced);
        let engines = engines.map(|engine| {
            json!({
                "id": engine.id, "uuid": engine.uuid,
                "queue": engine.direct.len(), "tasks": engine.in_flight.len(),
                "completed": engine.n_completed,
            })
        });
        json!({
            "status": "ok",
            "started": iso(self.watch.started),
            "uptime_seconds": (now - self.watch.started).0 as f64 / 1000.0,
            "engines": engines.collect::<Vec<_>>(),
            "engines_starting": self.engines.values().filter(|engine| !engine.announced).count(),
            "unassigned": self.scheduler.n_waiting(),
            "tasks": {
                "submitted": n_submitted, "ended": n_ended, "open": self.records.n_open(),
                "submitted_per_second": submitted_per_second,
                "ended_per_second": ended_per_second,
            },
            "records": {"kept": self.records.iter().count(), "bytes": self.records.n_bytes_kept()},
            "messages": {
                "refused": self.watch.n_dropped, "malformed": self.counts.malformed,
                "duplicate": self.counts.duplicate, "late": self.counts.late,
            },
        })
    }

    /// The content of a `prust_dump_reply`.
    pub(crate) fn dump(&self, now: Millis) -> Value {
        let mut dump = json!({
            "status": "ok",
            "now": iso(now),
            "summary": self.status(now),
            "settings": {
                "period": self.settings.period.0, "hwm": format!("{:?}", self.settings.hwm),
                "session": self.settings.session,
            },
            "next_engine": self.next_engine,
            "next_deadline": iso(self.next_deadline()),
            "beat": format!("{:?}", self.beat),
            "stop_at": self.stop_at.map(iso),
            "notices": self.notices.len(),
            "resubmitted": self.n_resubmitted,
        });
        dump["engines"] = self.engines.values().map(|engine| self.dumped_engine(engine)).collect();
        dump["scheduler"] = self.dumped_scheduler();
        dump["broadcasts"] = self
            .broadcasts
            .values()
            .take(DUMP_IDS_MAX)
            .map(|broadcast| {
                let waiting: Vec<_> = broadcast.waiting.keys().take(DUMP_IDS_MAX).collect();
                json!({"msg_id": cut(&broadcast.msg_id), "waits_for": waiting})
            })
            .collect();
        dump["broadcasts_open"] = self.broadcasts.len().into();
        let is_open = |(_, record): &(Key, &Record)| record.is_open();
        let open = self.records.iter().filter(is_open).take(DUMP_RECORDS_MAX);
        let mut shown: Vec<(Key, &Record)> = open.collect();
        let n_left = DUMP_RECORDS_MAX - shown.len();
        let mut ended: Vec<(Key, &Record)> =
            self.records.iter().filter(|known| !is_open(known)).collect();
        shown.extend(ended.drain(ended.len().saturating_sub(n_left)..));
        dump["records_left_out"] = (self.records.iter().count() - shown.len()).into();
        dump["records"] = shown.iter().map(|(key, record)| dumped_record(*key, record)).collect();
        dump
    }

    fn dumped_engine(&self, engine: &Engine) -> Value {
        let (registered, n_missed) = engine.heart();
        json!({
            "id": engine.id, "uuid": cut(&engine.uuid), "announced": engine.announced,
            "registered": iso(registered), "missed_beats": n_missed,
            "limit": engine.limit, "service_micros": engine.service_micros,
            "last_done": iso(engine.last_done), "last_used": engine.last_used,
            "in_flight": self.ids(engine.in_flight.iter().map(|(key, _)| *key)),
            "n_in_flight": engine.in_flight.len(),
            "direct": self.ids(engine.direct.iter().copied()),
            "n_direct": engine.direct.len(),
            "busy": self.ids(engine.busy.into_iter()).pop(),
            "n_broadcasts": engine.broadcasts.len(), "completed": engine.n_completed,
        })
    }

    fn dumped_scheduler(&self) -> Value {
        let tasks = self.scheduler.tasks.iter().take(DUMP_RECORDS_MAX).map(|(key, task)| {
            json!({
                "msg_id": self.ids(std::iter::once(*key)).pop(),
                "state": format!("{:?}", task.state),
                "n_targets": task.place.targets.len(), "avoid": task.place.avoid,
                "n_follow": task.place.follow.ids.len(), "n_after": task.after.ids.len(),
                "deadline": task.deadline.map(iso), "retries": task.retries,
                "n_sent": task.n_sent,
            })
        });
        let queues =
            self.scheduler.queues.values().take(DUMP_IDS_MAX).map(|queue| queue.keys.len());
        json!({
            "tasks": tasks.collect::<Vec<_>>(), "n_tasks": self.scheduler.tasks.len(),
            "queues": queues.collect::<Vec<_>>(), "n_queues": self.scheduler.queues.len(),
            "n_timers": self.scheduler.timers.len(),
        })
    }

    /// The message ids behind some keys, as many as a dump shows.
    fn ids(&self, keys: impl Iterator<Item = Key>) -> Vec<String> {
        let records = keys.take(DUMP_IDS_MAX).filter_map(|key| self.records.get(key));
        records.map(|record| cut(&record.msg_id).to_owned()).collect()
    }
}

fn dumped_record(key: Key, record: &Record) -> Value {
    let story: Vec<_> = record.story.iter().map(|(at, moment)| (iso(*at), told(moment))).collect();
    json!({
        "key": key, "msg_id": cut(&record.msg_id), "msg_type": cut(&record.msg_type),
        "session": cut(&record.session),
        "queue": record.queue.name(),
        "engine": record.engine.as_deref().map(cut),
        "request": asked(&record.request), "reply": record.reply.as_deref().map(replied),
        "stdout_bytes": record.stdout.len(), "stderr_bytes": record.stderr.len(),
        "resubmitted": record.resubmitted.as_deref().map(cut), "story": story,
    })
}

fn asked(request: &Request) -> Value {
    let body = &request.body;
    sizes([&request.header, &body.metadata, &body.content], &body.buffers)
}

fn replied(reply: &Message) -> Value {
    sizes([&reply.header, &reply.metadata, &reply.content], &reply.buffers)
}

/// How large the parts of a message are.
fn sizes([header, metadata, content]: [&[u8]; 3], buffers: &Frames) -> Value {
    json!({
        "header": header.len(), "metadata": metadata.len(), "content": content.len(),
        "buffers": buffers.iter().take(DUMP_IDS_MAX).map(Vec::len).collect::<Vec<_>>(),
        "n_buffers": buffers.len(),
    })
}

fn told(moment: &Moment) -> String {
    cut(&format!("{moment:?}")).to_owned()
}

/// The beginning of a text.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(DUMP_TEXT_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{Lab, message};
    use crate::{Channel, Event, Hwm};

    fn ok() -> Value {
        json!({"status": "ok"})
    }

    #[test]
    fn a_status_counts_what_each_engine_has_and_what_waits() {
        let mut lab = Lab::new(Hwm::Fixed(1));
        lab.engine("e0");
        lab.engine("e1");
        for id in ["a", "b", "c", "d"] {
            lab.task(id, json!({}));
        }
        lab.reply("e0", "a", ok());
        lab.cluster.note_dropped(3);
        lab.wait(2000);
        let status = lab.query("prust_status_request", json!({}));
        assert_eq!(status["status"], "ok");
        let count = |name: &str| -> Vec<u64> {
            let engines = status["engines"].as_array().unwrap().iter();
            engines.map(|engine| engine[name].as_u64().unwrap()).collect()
        };
        assert_eq!((count("id"), count("tasks")), (vec![0, 1], vec![1, 1]));
        assert_eq!((count("completed"), count("queue")), (vec![1, 0], vec![0, 0]));
        assert_eq!(status["unassigned"], 1);
        assert_eq!(status["tasks"]["submitted"], 4);
        assert_eq!(status["tasks"]["open"], 3);
        assert_eq!(status["messages"]["refused"], 3);
        assert_eq!(status["records"]["kept"], 4);
        assert!(status["uptime_seconds"].as_f64().unwrap() >= 2.0);
    }

    #[test]
    fn a_rate_is_of_the_last_seconds_and_falls_to_nothing() {
        let mut lab = Lab::new(Hwm::Unlimited);
        lab.engine("e0");
        let rate = |lab: &mut Lab| -> f64 {
            let status = lab.query("prust_status_request", json!({}));
            status["tasks"]["ended_per_second"].as_f64().unwrap()
        };
        assert_eq!(rate(&mut lab), 0.0);
        for id in 0..100 {
            lab.wait(50);
            lab.task(&format!("t{id}"), json!({}));
            lab.reply("e0", &format!("t{id}"), ok());
        }
        let busy = rate(&mut lab);
        assert!((15.0..=21.0).contains(&busy), "{busy} instead of about 20 per second");
        lab.echo("e0");
        lab.wait(9000);
        lab.echo("e0");
        let later = rate(&mut lab);
        assert!(later < busy / 1.5, "{later} after {busy}");
        lab.wait(9000);
        assert_eq!(rate(&mut lab), 0.0);
    }

    #[test]
    fn a_dump_names_every_task_and_holds_nothing_that_users_sent() {
        let mut lab = Lab::new(Hwm::Fixed(1));
        let engine = lab.engine("e0");
        let secret = "secret".repeat(10_000);
        let metadata = json!({"label": secret});
        let content = json!({"code": secret});
        let mut task = message(&["client"], "t", "apply_request", None, metadata, content);
        task.buffers = vec![secret.clone().into_bytes(); 3];
        lab.receive(Channel::ClientTask, task);
        lab.task("waits", json!({}));
        lab.print("e0", engine, "t", &secret);
        let dump = lab.query("prust_dump_request", json!({}));
        let text = dump.to_string();
        assert!(!text.contains("secretsecret"), "{text}");
        assert!(text.len() < 10_000, "{} bytes", text.len());
        assert_eq!(dump["records"][0]["request"]["buffers"], json!([60_000, 60_000, 60_000]));
        assert_eq!(dump["records"][0]["stdout_bytes"], 60_000);
        assert_eq!(dump["engines"][0]["in_flight"], json!(["t"]));
        assert_eq!(dump["scheduler"]["tasks"][1]["msg_id"], "waits");
        assert_eq!(dump["records_left_out"], 0);
    }

    #[test]
    fn a_dump_is_bounded_and_prefers_what_is_open() {
        let mut lab = Lab::new(Hwm::Unlimited);
        lab.engine("e0");
        lab.task("open", json!({}));
        for id in 0..DUMP_RECORDS_MAX + 10 {
            let id = format!("t{id}");
            let task = message(&["client"], &id, "apply_request", None, json!({}), json!({}));
            let reply = message(&["e0", "client"], "r", "apply_reply", Some(&id), ok(), ok());
            // Past the lab, which checks all records after every event.
            for (channel, message) in [(Channel::ClientTask, task), (Channel::EngineTask, reply)] {
                let head = message.head().expect("tests write JSON headers");
                lab.cluster.handle(Event::Received { channel, head, message }, lab.now);
            }
        }
        let dump = lab.query("prust_dump_request", json!({}));
        let records = dump["records"].as_array().unwrap();
        assert_eq!(records.len(), DUMP_RECORDS_MAX);
        assert_eq!(dump["records_left_out"], 11);
        assert_eq!(records[0]["msg_id"], "open");
        let newest = format!("t{}", DUMP_RECORDS_MAX + 9);
        assert_eq!(records[DUMP_RECORDS_MAX - 1]["msg_id"], newest);
    }
}
