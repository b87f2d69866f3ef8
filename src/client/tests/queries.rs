//! Scripts about questions to the controller that have no answer.

use super::*;

/// A client of somebody else's controller, in which a cell has asked this.
fn asked(msg_type: &str) -> Lab {
    let mut lab = Lab::new(&[0]);
    lab.state.settings.foreign = true;
    let (msg_type, content) = (msg_type.to_owned(), "{}".to_owned());
    lab.ask(1, Request::Hub { msg_type, content });
    lab
}

impl Lab {
    /// Lets a second pass; the controller answers what it is asked of its engines.
    fn heard_second(&mut self) {
        self.wait(1000);
        self.event(Event::EngineList(self.state.n_numbers, vec![(0, "uuid0".to_owned())]));
    }

    /// When the question of this type was sent, in seconds, and under which numbers.
    fn times(&mut self, msg_type: &str, seconds: u64) -> (Vec<u64>, Vec<Number>) {
        let (mut times, mut numbers) = (Vec::new(), Vec::new());
        for second in 0..=seconds {
            for sent in std::mem::take(&mut self.sent) {
                if &*sent.msg_type == msg_type {
                    times.push(second);
                    numbers.push(sent.number);
                }
            }
            self.heard_second();
        }
        (times, numbers)
    }
}

#[test]
fn a_question_is_asked_again_until_it_is_answered() {
    let mut lab = asked("queue_request");
    let (times, numbers) = lab.times("queue_request", 150);
    assert_eq!(times, [0, 10, 30, 70, 130]);
    let number = numbers[0];
    assert_eq!(numbers, [number; 5]);
    for _ in 0..2 {
        let content = json!({"status": "ok"});
        let msg_type = "queue_reply".to_owned();
        lab.event(Event::Answered { number, msg_type, content, buffers: Vec::new() });
    }
    let answers: Vec<_> = lab.told.iter().filter(|told| told.starts_with("answer 1")).collect();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert!(lab.times("queue_request", 150).0.is_empty());
}

#[test]
fn what_would_be_done_twice_is_given_up_and_says_so() {
    let mut lab = asked("resubmit_request");
    assert_eq!(lab.times("resubmit_request", 8).0, [0]);
    assert!(!lab.told.join("\n").contains("refuse 1"), "{:?}", lab.told);
    assert!(lab.times("resubmit_request", 60).0.is_empty());
    let told = lab.told.join("\n");
    assert!(
        told.contains("refuse 1") && told.contains("whether it was done is not known"),
        "{told}"
    );
}

#[test]
fn nobody_waits_for_a_controller_that_has_ended() {
    let mut lab = asked("queue_request");
    for _ in 0..31 {
        lab.wait(1000);
    }
    let told = lab.told.join("\n");
    assert!(told.contains("refuse 1") && told.contains("has not answered for 30 s"), "{told}");
    let (msg_type, content) = ("queue_request".to_owned(), "{}".to_owned());
    lab.ask(2, Request::Hub { msg_type, content });
    for _ in 0..11 {
        lab.wait(1000);
    }
    let told = lab.told.join("\n");
    assert!(told.contains("refuse 2") && told.contains("does not answer"), "{told}");
}

#[test]
fn a_controller_of_our_own_is_asked_once() {
    let mut lab = asked("queue_request");
    lab.state.settings.foreign = false;
    assert_eq!(lab.times("queue_request", 150).0, [0]);
}
