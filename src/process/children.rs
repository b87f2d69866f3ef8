//! The children of this process. Those that it starts are collected by whoever started them. Those
//! that it is left with (the worker of an engine that was killed, programs that a crashed worker
//! ran) are collected here, because they would stay as zombies otherwise. Never signals anybody.
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard};

use tokio::signal::unix::{SignalKind, signal};

use super::Ended;

/// Ends of children that nobody has asked for yet. A snapshot that ends is asked for within
/// milliseconds; most others never are.
const ENDS_KEPT_MAX: usize = 64;

static CHILDREN: Mutex<Children> =
    Mutex::new(Children { own: BTreeSet::new(), ends: VecDeque::new() });

struct Children {
    /// Started here. Those that were collected are forgotten at the next look.
    own: BTreeSet<u32>,
    /// How those that were collected here have ended, the latest last.
    ends: VecDeque<(u32, Ended)>,
}

/// Starts a program. The caller collects it.
///
/// # Errors
/// As the standard library's `spawn`.
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    // Held while it starts: a child is never seen before it is known to be ours.
    let mut children = lock();
    let child = command.spawn()?;
    children.own.insert(child.id());
    Ok(child)
}

/// As `spawn`, within tokio.
///
/// # Errors
/// As tokio's `spawn`.
pub fn spawn_async(command: &mut tokio::process::Command) -> io::Result<tokio::process::Child> {
    let mut children = lock();
    let child = command.spawn()?;
    children.own.extend(child.id());
    Ok(child)
}

/// Runs a program to its end, without input.
///
/// # Errors
/// As the standard library's `output`.
pub fn output(command: &mut Command) -> io::Result<Output> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    spawn(command)?.wait_with_output()
}

/// Adopts the orphans among this process's descendants, and collects each when it has ended. Runs
/// as long as the process; without `/proc/self/task/*/children`, which nearly every system has, it
/// collects nothing.
pub async fn collect_orphans() {
    if let Err(error) = super::adopt_orphans() {
        return tracing::warn!(%error, "orphans cannot be adopted");
    }
    let mut ended = match signal(SignalKind::child()) {
        Ok(ended) => ended,
        Err(error) => return tracing::warn!(%error, "orphans cannot be collected"),
    };
    loop {
        lock().collect();
        if ended.recv().await.is_none() {
            return;
        }
    }
}

/// How a child ended that was collected here.
pub(super) fn taken(pid: u32) -> Option<Ended> {
    let ends = &mut lock().ends;
    let at = ends.iter().rposition(|(of, _)| *of == pid)?;
    ends.remove(at).map(|(_, ended)| ended)
}

impl Children {
    fn collect(&mut self) {
        self.own.retain(|pid| super::is_child(*pid));
        for pid in listed().into_iter().filter(|pid| !self.own.contains(pid)) {
            if let Some(ended) = super::try_reap(pid) {
                if self.ends.len() == ENDS_KEPT_MAX {
                    self.ends.pop_front();
                }
                self.ends.push_back((pid, ended));
            }
        }
    }
}

fn lock() -> MutexGuard<'static, Children> {
    // Both lists are valid after any panic.
    CHILDREN.lock().unwrap_or_else(|poison| poison.into_inner())
}

/// Every child of every thread, ended ones included.
fn listed() -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    let of = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("children"));
    // A thread that has just ended has no children left.
    let lists: Vec<String> = threads.flatten().filter_map(|thread| of(thread).ok()).collect();
    lists.iter().flat_map(|list| list.split_whitespace()).flat_map(str::parse).collect()
}
