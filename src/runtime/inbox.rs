//! What the host has sent: commands, which the main thread takes in order, and answers to requests.
//! Whoever waits for something reads, for all who wait. Were there always a thread that reads, it
//! would have to be woken for each command and answer, and then wake who waits; a short call takes
//! as long as such wakings do. Only while nobody waits a thread of ours reads: the host may take
//! calls back, or end us, whatever the user's code does.
//!
//! The host may send a few calls ahead of the one that runs, and take them back: a call is either
//! taken by the main thread or taken back, never both.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::frame::{Status, ToWorker};

/// Another thread looks as often as this whether somebody works; who does for twice as long has it
/// read. Most calls are shorter.
const SHORT: Duration = Duration::from_micros(2500);

pub(crate) type Answer = (Status, Vec<u8>, Vec<u8>);

#[derive(Debug, Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    /// Told when something has come for others than who reads, or nobody reads any more.
    changed: Condvar,
    /// Told when somebody has ceased to wait, if the thread that reads then is resting.
    left: Condvar,
}

#[derive(Debug, Default)]
struct State {
    commands: VecDeque<ToWorker>,
    /// Those of requests that wait for theirs.
    answers: HashMap<u64, Option<Answer>>,
    is_read: bool,
    n_waiting: usize,
    /// How often somebody has ceased to wait.
    n_left: u64,
    /// The thread that reads when nobody waits sleeps until it is told.
    is_resting: bool,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next command. `read` returns what comes next.
    pub(crate) fn take(&self, read: impl Fn() -> ToWorker) -> ToWorker {
        self.wait(read, |state| state.commands.pop_front())
    }

    /// Says that there will be an answer to this request.
    pub(crate) fn expect(&self, request: u64) {
        self.lock().answers.insert(request, None);
    }

    /// Waits for the answer to a request that was expected.
    pub(crate) fn answer(&self, request: u64, read: impl Fn() -> ToWorker) -> Answer {
        self.wait(read, |state| {
            let answer = state.answers.get_mut(&request)?.take()?;
            state.answers.remove(&request);
            Some(answer)
        })
    }

    /// Takes back the calls that were not taken, and says which.
    pub(crate) fn recall(&self) -> Vec<u64> {
        let mut runs = Vec::new();
        self.lock().commands.retain(|command| match command {
            ToWorker::Call { run, .. } => {
                runs.push(*run);
                false
            }
            _ => true,
        });
        runs
    }

    /// Reads whenever nobody has waited for a moment. It looks from time to time while calls come
    /// and go, and is told of none: a thread that is told has to be woken.
    pub(crate) fn read_for_who_works(&self, read: impl Fn() -> ToWorker) -> ! {
        let mut state = self.lock();
        loop {
            let n_left = state.n_left;
            state = match self.left.wait_timeout(state, SHORT) {
                Ok((state, _)) => state,
                Err(poison) => poison.into_inner().0,
            };
            let is_still = state.n_left == n_left;
            let is_waited_for = state.is_read || state.n_waiting > 0;
            if is_still && !is_waited_for {
                state = self.read_one(state, &read, 0);
            } else if is_still {
                state.is_resting = true;
                while state.is_resting {
                    state = self.left.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    fn wait<T>(
        &self,
        read: impl Fn() -> ToWorker,
        mut taken: impl FnMut(&mut State) -> Option<T>,
    ) -> T {
        let mut state = self.lock();
        state.n_waiting += 1;
        let taken = loop {
            if let Some(taken) = taken(&mut state) {
                break taken;
            }
            state = if state.is_read {
                self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                self.read_one(state, &read, 1)
            };
        };
        state.n_waiting -= 1;
        state.n_left += 1;
        if std::mem::take(&mut state.is_resting) {
            self.left.notify_one();
        }
        taken
    }

    /// Reads what comes next, for everybody. `n_own`: of those who wait, so many read.
    fn read_one<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        read: impl Fn() -> ToWorker,
        n_own: usize,
    ) -> MutexGuard<'a, State> {
        state.is_read = true;
        drop(state);
        let command = read();
        let mut state = self.lock();
        state.is_read = false;
        match command {
            ToWorker::Reply { request, status, head, body } => {
                // Nobody waits for an answer to what was only told.
                if let Some(answer) = state.answers.get_mut(&request) {
                    *answer = Some((status, head, body));
                }
            }
            command => state.commands.push_back(command),
        }
        // Somebody else may be meant, or has to read now.
        if state.n_waiting > n_own {
            self.changed.notify_all();
        }
        state
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::sync::{Arc, Mutex};
    use std::thread;

    use super::*;

    /// An inbox, what comes in as the host sends it, and the sender.
    fn host() -> (Arc<Inbox>, Arc<Mutex<Receiver<ToWorker>>>, Sender<ToWorker>) {
        let (sender, receiver) = channel();
        (Arc::default(), Arc::new(Mutex::new(receiver)), sender)
    }

    fn read(from: &Arc<Mutex<Receiver<ToWorker>>>) -> impl Fn() -> ToWorker + use<> {
        let from = Arc::clone(from);
        // One reads at a time: who finds it locked fails.
        move || from.try_lock().expect("one reads").recv().unwrap_or(ToWorker::Exit)
    }

    fn call(run: u64) -> ToWorker {
        let (library, payload) = (String::new(), Vec::new());
        ToWorker::Call { run, library, offset: 0, snapshot: false, payload }
    }

    fn reply(request: u64) -> ToWorker {
        let (head, body) = (request.to_le_bytes().to_vec(), Vec::new());
        ToWorker::Reply { request, status: Status::Ok, head, body }
    }

    #[test]
    fn a_call_is_taken_or_taken_back_and_the_rest_stays_in_order() {
        let (inbox, from, host) = host();
        for command in [call(1), call(2), ToWorker::Measure, call(3), reply(9)] {
            host.send(command).unwrap();
        }
        inbox.expect(9);
        assert_eq!(inbox.answer(9, read(&from)).1, 9u64.to_le_bytes());
        assert_eq!(inbox.take(read(&from)), call(1));
        assert_eq!(inbox.recall(), [2, 3]);
        assert_eq!(inbox.take(read(&from)), ToWorker::Measure);
        assert!(inbox.recall().is_empty());
    }

    #[test]
    fn whoever_waits_reads_for_all() {
        const N_THREADS: u64 = 8;
        const N_REQUESTS: u64 = 500;
        let (inbox, from, host) = host();
        let asks = |thread: u64| {
            let (inbox, from, host) = (Arc::clone(&inbox), Arc::clone(&from), host.clone());
            thread::spawn(move || {
                for n in 0..N_REQUESTS {
                    let request = thread * N_REQUESTS + n;
                    inbox.expect(request);
                    host.send(reply(request)).unwrap();
                    let (_, head, _) = inbox.answer(request, read(&from));
                    assert_eq!(head, request.to_le_bytes());
                }
            })
        };
        let threads: Vec<_> = (0..N_THREADS).map(asks).collect();
        for run in 0..N_REQUESTS {
            host.send(call(run)).unwrap();
        }
        for run in 0..N_REQUESTS {
            assert_eq!(inbox.take(read(&from)), call(run));
        }
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(inbox.lock().answers.is_empty());
    }

    #[test]
    fn while_nobody_waits_a_thread_of_its_own_reads() {
        let (inbox, from, host) = host();
        let (seen, sees) = channel();
        let (reads, of_thread) = (Arc::clone(&inbox), read(&from));
        thread::spawn(move || {
            reads.read_for_who_works(|| {
                let command = of_thread();
                if command == ToWorker::Exit {
                    // The host is gone: the worker ends here.
                    loop {
                        thread::park();
                    }
                }
                seen.send(()).unwrap();
                command
            })
        });
        for run in 0..100 {
            host.send(call(run)).unwrap();
            if run % 3 == 0 {
                sees.recv().expect("it reads what nobody waits for");
            }
            assert_eq!(inbox.take(read(&from)), call(run));
        }
    }
}
