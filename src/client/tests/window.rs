//! Scripts about submissions too long to be with the controller at once.

use super::super::window::TASKS_MAX;
use super::*;

/// One task per item.
fn each() -> Options {
    Options { chunksize: Some(1), ..Options::default() }
}

/// The numbers of the tasks sent since the last call.
fn sent(lab: &mut Lab) -> Vec<Number> {
    let sent = std::mem::take(&mut lab.sent).into_iter();
    sent.filter(|sent| &*sent.msg_type == "apply_request").map(|sent| sent.number).collect()
}

#[test]
fn a_long_submission_is_sent_as_it_is_worked_off_and_each_task_once() {
    let n = TASKS_MAX as u64 * 3 + 7;
    let mut lab = Lab::new(&[0]);
    lab.submit(Targets::All, true, "map", n, each());
    let mut out = sent(&mut lab);
    assert_eq!(out.len(), TASKS_MAX);
    let first = out[0];
    let mut seen = Vec::new();
    while let Some(number) = out.pop() {
        lab.value(number, 0, &[number]);
        seen.push(number);
        out.extend(sent(&mut lab));
        assert!(out.len() <= TASKS_MAX);
        let is_over = seen.len() + out.len() == usize::try_from(n).unwrap();
        assert!(is_over || out.len() >= TASKS_MAX / 2, "engines have work: {}", out.len());
    }
    seen.sort_unstable();
    assert_eq!(seen, (first..first + n).collect::<Vec<_>>());
    assert_eq!(lab.told.last().unwrap(), &format!("finished 1: 0 of {n} failed"));
}

#[test]
fn a_long_submission_keeps_no_other_waiting() {
    let mut lab = Lab::new(&[0]);
    lab.submit(Targets::All, true, "map", TASKS_MAX as u64 + 1, each());
    let out = sent(&mut lab);
    assert_eq!(out.len(), TASKS_MAX);
    let last = out[0] + TASKS_MAX as u64;
    lab.submit(Targets::All, true, "map", 2, each());
    lab.submit(Targets::All, false, "apply", 1, Options::default());
    assert_eq!(sent(&mut lab), [last + 1, last + 2, last + 3]);
    for number in &out[..TASKS_MAX / 2] {
        lab.value(*number, 0, &[0]);
    }
    assert_eq!(sent(&mut lab), [last]);
}

#[test]
fn of_very_many_long_submissions_each_has_a_few_tasks_with_the_controller() {
    let mut lab = Lab::new(&[0]);
    for n_before in 0..10 {
        lab.submit(Targets::All, true, "map", TASKS_MAX as u64, each());
        assert_eq!(sent(&mut lab).len(), if n_before < 8 { TASKS_MAX } else { 64 });
    }
}

#[test]
fn what_was_not_sent_ends_at_once_when_it_is_stopped() {
    let n = TASKS_MAX as u64 + 5;
    let mut lab = Lab::new(&[0]);
    lab.submit(Targets::All, true, "map", n, each());
    let out = sent(&mut lab);
    lab.told.clear();
    lab.ask(2, Request::Stop { submission: 1, running: false });
    let told = lab.told.join("; ");
    assert!(told.contains(&format!("answer 2 stopped {} 0 1 0", n - 1)), "{told}");
    for number in out {
        lab.reply(number, 0, Verdict::Aborted);
    }
    assert_eq!(sent(&mut lab), [0; 0]);
    assert_eq!(lab.told.last().unwrap(), &format!("finished 1: {n} of {n} failed"));
}

#[test]
fn the_scheduler_knows_every_task_that_others_wait_for() {
    let n = TASKS_MAX as u64 + 5;
    let mut lab = Lab::new(&[0]);
    lab.submit(Targets::All, true, "map", n, each());
    assert_eq!(sent(&mut lab).len(), TASKS_MAX);
    lab.submit(Targets::All, true, "apply", 1, Options { after: vec![1], ..Options::default() });
    assert_eq!(sent(&mut lab).len(), 5 + 1);
}

#[test]
fn large_tasks_are_with_the_controller_a_few_at_a_time() {
    let mut lab = Lab::new(&[0]);
    let items = vec!["x".repeat(8 << 20); 70];
    let Items { lengths, bytes } = write_items(&items).unwrap();
    let work = Work::Map { call: call_by("map"), prefix: 0, lengths };
    let submit =
        Submit { work, targets: Targets::All, balanced: true, options: each(), there: Vec::new() };
    lab.ask_with(1, Request::Submit { name: NAMES, submit: Box::new(submit) }, bytes);
    assert_eq!(sent(&mut lab).len(), 64);
}
