//! What a cell submits without waiting for an answer, and asks of by a name.

use super::*;

/// Tells of work on all engines, under a name.
fn told(lab: &mut Lab, name: u64, targets: Targets, after: Vec<u64>) {
    let work = Work::Apply { call: call_by("apply"), prefix: 0, lengths: none() };
    let options = Options { after, ..Options::default() };
    let submit = Submit { work, targets, balanced: true, options, there: Vec::new() };
    lab.ask(0, Request::Submit { name, submit: Box::new(submit) });
}

fn none() -> Lengths {
    Lengths::Fixed { n: 0, size: 0 }
}

#[test]
fn a_name_stands_for_the_number_until_it_is_forgotten() {
    let mut lab = Lab::new(&[0]);
    told(&mut lab, NAMES + 7, Targets::All, Vec::new());
    lab.expect(&["Task any #2 apply_request"]);
    lab.ask(1, all(NAMES + 7, 0));
    lab.ask(2, Request::Submitted { submission: NAMES + 7 });
    lab.expect(&["answer 2 submitted 1: 1 tasks 1 values"]);
    lab.value(2, 0, &[5]);
    assert!(lab.told[0].starts_with("answer 1 [0+1] next 1 complete true"), "{:?}", lab.told);
    lab.told.clear();
    // The number is as good.
    lab.ask(3, Request::Status { submission: 1 });
    lab.expect(&["answer 3 1 0 0 0 true"]);
    lab.ask(0, Request::Forget { submission: NAMES + 7 });
    lab.ask(4, Request::Status { submission: NAMES + 7 });
    lab.expect(&["refuse 4 ResultPurged: these results are not kept any more"]);
}

#[test]
fn what_was_refused_is_told_to_whoever_asks_and_to_what_depends_on_it() {
    let mut lab = Lab::new(&[0]);
    told(&mut lab, NAMES, Targets::Ids(vec![9]), Vec::new());
    told(&mut lab, NAMES + 1, Targets::All, vec![NAMES]);
    lab.expect(&[]);
    let why = "refuse 1 InvalidTarget";
    for submission in [NAMES, NAMES + 1] {
        lab.ask(1, all(submission, 0));
        assert!(lab.told[0].starts_with(why), "{:?}", lab.told);
        lab.told.clear();
    }
}

#[test]
fn the_kernel_hears_of_named_work_before_the_cell_ends() {
    let mut lab = Lab::new(&[0]);
    lab.progress = true;
    told(&mut lab, NAMES, Targets::All, Vec::new());
    lab.ask(1, Request::Heard);
    lab.expect(&["Task any #2 apply_request", "progress Running 0/1", "answer 1 Done"]);
}
