//! Notices a run that waits for ever in a worker that has lost threads: pools such as rayon's wait
//! for threads that did not survive in a snapshot. Never ends anything.

use std::time::Duration;

use tokio::time::Instant;

use crate::process;

/// How often the processor time is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// So many looks without any processor time mean that nothing happens.
const QUIET_LOOKS: u32 = 4;

/// One run that is watched.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) due: Instant,
    cpu: u64,
    quiet: u32,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self { due: Instant::now() + LOOK, cpu: u64::MAX, quiet: 0 }
    }

    /// Looks; says whether nothing has happened for too long. `excused`: it waits on the host.
    pub(super) fn look(&mut self, pid: u32, excused: bool) -> bool {
        self.due = Instant::now() + LOOK;
        let cpu = process::listed(pid).map_or(u64::MAX, |listed| listed.cpu);
        let quiet = cpu == self.cpu && !excused;
        self.quiet = if quiet { self.quiet + 1 } else { 0 };
        self.cpu = cpu;
        self.quiet >= QUIET_LOOKS
    }
}
