//! What the host has sent and nobody has begun with. The host may send a few calls ahead of the one
//! that runs, and take them back: a call is either taken by the main thread or taken back, never
//! both.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::frame::ToWorker;

/// The host's commands in order.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    commands: Mutex<VecDeque<ToWorker>>,
    came: Condvar,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, VecDeque<ToWorker>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn put(&self, command: ToWorker) {
        self.lock().push_back(command);
        self.came.notify_one();
    }

    /// Waits for the next command.
    pub(crate) fn take(&self) -> ToWorker {
        let mut commands = self.lock();
        loop {
            if let Some(command) = commands.pop_front() {
                return command;
            }
            commands = self.came.wait(commands).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes back the calls that were not taken, and says which.
    pub(crate) fn recall(&self) -> Vec<u64> {
        let mut runs = Vec::new();
        self.lock().retain(|command| match command {
            ToWorker::Call { run, .. } => {
                runs.push(*run);
                false
            }
            _ => true,
        });
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_taken_or_taken_back_and_the_rest_stays_in_order() {
        let inbox = Inbox::default();
        let call = |run| ToWorker::Call {
            run,
            library: String::new(),
            offset: 0,
            snapshot: false,
            payload: Vec::new(),
        };
        for command in [call(1), call(2), ToWorker::Measure, call(3)] {
            inbox.put(command);
        }
        assert_eq!(inbox.take(), call(1));
        assert_eq!(inbox.recall(), [2, 3]);
        assert_eq!(inbox.take(), ToWorker::Measure);
        assert!(inbox.recall().is_empty());
    }
}
