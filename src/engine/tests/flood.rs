//! What an engine does that prints more than anybody reads.

use serde_json::json;

use super::*;
use crate::engine::state::{READ_ON_MAX, READ_ON_PACE};

#[test]
fn a_flood_waits_for_the_client_that_shows_it() {
    let mut lab = Lab::registered();
    let paused = || Event::Worker(WorkerEvent::Paused);
    let cell = lab.cell(false);
    lab.tell(cell);
    assert_eq!(lab.tell(paused()), ["m1> prust_paused"]);
    lab.now.instant += READ_ON_PACE;
    assert_eq!(lab.tell(Event::Tick), [""; 0]);
    let read_on = lab.request("read_on_request", &json!({}), &json!({}));
    assert_eq!(lab.tell(read_on), ["read on", "m2: read_on_reply ok"]);
    // One that says nothing does not hold the engine for ever.
    lab.tell(paused());
    lab.now.instant += READ_ON_MAX;
    assert_eq!(lab.tell(Event::Tick), ["read on"]);
    // What comes next may print.
    lab.tell(paused());
    lab.tell(ok(1));
    let next = lab.cell(false);
    assert_eq!(lab.tell(next)[0], "read on");
}

#[test]
fn a_flood_for_a_client_of_another_kind_is_slowed() {
    let mut lab = Lab::registered();
    let cell = lab.plain_cell("loop {}");
    lab.tell(cell);
    assert_eq!(lab.tell(Event::Worker(WorkerEvent::Paused)), [""; 0]);
    assert_eq!(lab.tell(Event::Tick), [""; 0]);
    lab.now.instant += READ_ON_PACE;
    assert_eq!(lab.tell(Event::Tick), ["read on"]);
}
