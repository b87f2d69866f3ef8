//! Child processes, signals and wake-up descriptors: the door to the parts of libc that the
//! standard library lacks. Children are started and collected in `children`, temporary directories
//! held in `scratch`, the system's own lists read in `listing`, Unix sockets divided in `stream`;
//! `pace` is how loops wait. Never decides who is to be signalled or when.
#![expect(unsafe_code, reason = "the door to kill, setpgid, prctl and eventfd")]

mod children;
mod listing;
mod pace;
mod scratch;
mod stream;

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub use children::{collect_orphans, output, spawn, spawn_async};
pub use listing::{Listed, listed, memory_bytes, of_group, oom_kills};
pub use pace::{Alarm, others_first};
pub use scratch::Scratch;
pub use stream::{Inward, Outward, divide};

/// The `fcntl` command that chooses a descriptor's signal, which the libc crate does not name; the
/// same number on every Linux.
const F_SETSIG: i32 = 10;

/// A signal, as far as this program sends them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Interrupt,
    Terminate,
    Kill,
    /// Any other one by its number, as ipyparallel's `signal_request` may ask for.
    Number(i32),
}

impl Signal {
    pub fn number(self) -> i32 {
        match self {
            Self::Interrupt => libc::SIGINT,
            Self::Terminate => libc::SIGTERM,
            Self::Kill => libc::SIGKILL,
            Self::Number(number) => number,
        }
    }

    /// Reads `2`, `INT`, `SIGINT`, in any case.
    pub fn read(text: &str) -> Option<Self> {
        if let Ok(number) = text.parse::<i32>() {
            return (1..=64).contains(&number).then_some(Self::Number(number));
        }
        let name = text.to_ascii_uppercase();
        match name.strip_prefix("SIG").unwrap_or(&name) {
            "INT" => Some(Self::Interrupt),
            "TERM" => Some(Self::Terminate),
            "KILL" => Some(Self::Kill),
            "HUP" => Some(Self::Number(libc::SIGHUP)),
            "QUIT" => Some(Self::Number(libc::SIGQUIT)),
            "USR1" => Some(Self::Number(libc::SIGUSR1)),
            "USR2" => Some(Self::Number(libc::SIGUSR2)),
            "STOP" => Some(Self::Number(libc::SIGSTOP)),
            "CONT" => Some(Self::Number(libc::SIGCONT)),
            _ => None,
        }
    }
}

/// The name of a signal number, for messages to people.
pub fn signal_name(number: i32) -> String {
    let name = match number {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGSYS => "SIGSYS",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

/// Sends `signal` to one process. Not finding it is not an error: it has ended already.
pub fn signal(pid: u32, signal: Signal) -> io::Result<()> {
    kill(positive(pid)?, signal)
}

/// Sends `signal` to every process of the group that `leader` leads.
pub fn signal_group(leader: u32, signal: Signal) -> io::Result<()> {
    kill(-positive(leader)?, signal)
}

/// Whether a process of this id exists (a zombie counts until it is reaped).
pub fn exists(pid: u32) -> bool {
    let Ok(pid) = positive(pid) else { return false };
    // SAFETY: signal 0 only asks; the call touches no memory of ours.
    let code = unsafe { libc::kill(pid, 0) };
    code == 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

/// Makes the child of `command` the leader of its own process group, so that a signal to the
/// kernel's group (as Jupyter sends it) does not reach it.
pub fn in_own_group(command: &mut Command) -> &mut Command {
    command.process_group(0)
}

/// Makes the child of `command` the leader of a session of its own, without a terminal: it goes on
/// when this process and its terminal are gone.
pub fn in_own_session(command: &mut Command) -> &mut Command {
    let leave = || {
        // SAFETY: setsid takes nothing and touches no memory; between fork and exec it is allowed.
        if unsafe { libc::setsid() } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: as said in `leave`.
    unsafe { command.pre_exec(leave) }
}

/// Runs a program to its end; what it wrote to standard output, or why there is none.
pub fn output_of(program: &str, args: &[&str]) -> io::Result<String> {
    let output = output(Command::new(program).args(args))?;
    if !output.status.success() {
        return Err(io::Error::other(format!("{program} ended with {}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Gives the child of `command` a process group of its own, and has the whole group killed when
/// this process ends, however it ends: for compilers, cargo and shells, whose own children nobody
/// wants to stay either.
///
/// A signal for the death of the parent would not do, because it is not inherited. So the child
/// holds the reading end of a pipe whose writing end is here alone. When that is closed, the system
/// signals the pipe's readers, as it does for terminals and sockets: we ask for SIGKILL, for the
/// group. It works as long as one process of the group keeps the descriptor, which all inherit.
pub fn end_with_us(command: &mut Command) -> &mut Command {
    let pipe = life().as_ref().map(|(read, _)| format!("/proc/self/fd/{}", read.as_raw_fd()));
    let pipe = pipe.and_then(|path| CString::new(path).ok());
    let join = move || {
        let Some(pipe) = &pipe else { return Ok(()) };
        // SAFETY: between fork and exec only system calls are made, which touch no memory of ours
        // but the path. Opened anew because owner and signal belong to an open file, and every
        // child has its own. Where a call is refused, the child goes on without.
        unsafe {
            let descriptor = libc::open(pipe.as_ptr(), libc::O_RDONLY | libc::O_NONBLOCK);
            libc::fcntl(descriptor, F_SETSIG, libc::SIGKILL);
            libc::fcntl(descriptor, libc::F_SETOWN, -libc::getpid());
            libc::fcntl(descriptor, libc::F_SETFL, libc::O_ASYNC | libc::O_NONBLOCK);
        }
        Ok(())
    };
    // SAFETY: as said in `join`; the group has been made by then.
    unsafe { command.process_group(0).pre_exec(join) }
}

/// A pipe whose writing end is closed when this process ends. Nobody writes to it.
fn life() -> &'static Option<(io::PipeReader, io::PipeWriter)> {
    static LIFE: OnceLock<Option<(io::PipeReader, io::PipeWriter)>> = OnceLock::new();
    LIFE.get_or_init(|| io::pipe().ok())
}

/// Kills the process group that `leader` leads when this is dropped.
#[derive(Debug)]
pub struct GroupKill {
    leader: u32,
}

impl GroupKill {
    pub fn new(leader: u32) -> Self {
        Self { leader }
    }

    /// Lets the group live.
    pub fn disarm(self) {
        std::mem::forget(self);
    }
}

impl Drop for GroupKill {
    fn drop(&mut self) {
        // A group that has ended needs no signal.
        let _ = signal_group(self.leader, Signal::Kill);
    }
}

/// Makes orphaned descendants children of this process, so that it can reap them.
pub fn adopt_orphans() -> io::Result<()> {
    // SAFETY: PR_SET_CHILD_SUBREAPER takes one integer and touches no memory of ours.
    let code = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How a process ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    pub status: ExitStatus,
    /// The most memory it held at a time.
    pub peak_bytes: u64,
}

impl Ended {
    /// The end in a word: "SIGSEGV", "exit code 3".
    pub fn cause(&self) -> String {
        match (self.status.signal(), self.status.code()) {
            (Some(signal), _) => signal_name(signal),
            (None, Some(code)) => format!("exit code {code}"),
            (None, None) => "an unknown end".to_owned(),
        }
    }
}

/// Waits until a child (born here or adopted) has ended, and collects it. Blocks its thread.
pub fn reap(pid: u32) -> io::Result<Ended> {
    wait(pid).or_else(|error| children::taken(pid).ok_or(error))
}

fn wait(pid: u32) -> io::Result<Ended> {
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both are valid places for the answers; wait4 touches nothing else of ours.
    let code = unsafe { libc::wait4(positive(pid)?, &raw mut status, 0, usage.as_mut_ptr()) };
    if code < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all zeroes are a valid rusage, and wait4 has filled it in.
    let peak_kibibytes = unsafe { usage.assume_init() }.ru_maxrss;
    let peak_bytes = u64::try_from(peak_kibibytes).unwrap_or(0) << 10;
    Ok(Ended { status: ExitStatus::from_raw(status), peak_bytes })
}

/// Collects a child if it has ended.
fn try_reap(pid: u32) -> Option<Ended> {
    is_ended(pid).then(|| wait(pid).ok()).flatten()
}

/// Whether a child has ended and was not collected.
fn is_ended(pid: u32) -> bool {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is a valid place for the answer; waitid touches nothing else of ours.
    let code = unsafe { libc::waitid(libc::P_PID, pid, info.as_mut_ptr(), options) };
    // SAFETY: all zeroes are a valid siginfo; for a child's end the id is filled in.
    code == 0 && unsafe { info.assume_init().si_pid() } != 0
}

/// Whether a process is a child of this one, ended or not, that was not collected.
fn is_child(pid: u32) -> bool {
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: waitid takes a null pointer where no answer is wanted, and touches no memory then.
    unsafe { libc::waitid(libc::P_PID, pid, std::ptr::null_mut(), options) == 0 }
}

/// The id of this process's parent now; it changes when the parent dies.
pub fn parent() -> u32 {
    std::os::unix::process::parent_id()
}

/// This machine's name, as the kernel of the operating system knows it.
pub fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}

/// A counter that can be waited for with `poll`: each write of a `u64` adds to it, a read takes the
/// sum. Non-blocking, closed on exec.
pub fn event_fd() -> io::Result<File> {
    // SAFETY: eventfd takes two integers and returns a new descriptor or -1.
    let descriptor: RawFd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and nothing else owns it.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}

/// Has tokio tell when a descriptor of somebody else's becomes readable. What is watched is a copy,
/// which stays what it is whatever happens to the original. Must be called within a runtime.
pub fn watch(descriptor: RawFd) -> io::Result<AsyncFd<OwnedFd>> {
    watch_for(Interest::READABLE, descriptor)
}

fn watch_for(interest: Interest, descriptor: RawFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: fcntl makes a new descriptor of one that may be closed or no descriptor at all: -1.
    let copy = unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, 0) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and nothing else owns it.
    let copy = unsafe { OwnedFd::from_raw_fd(copy) };
    // SAFETY: an owned descriptor stays open, and the same, as long as it is.
    unsafe { AsyncFd::register_with_interest(copy, interest) }.map_err(io::Error::from)
}

/// Lets this process have as many descriptors as the system allows it. The programs that it starts
/// may then have as many, too.
pub fn allow_descriptors() -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is a valid place to read.
    let code = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A descriptor that becomes readable when the process ends; works for processes that are not our
/// children.
pub fn pid_fd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and returns a new descriptor or -1.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, positive(pid)?, 0) };
    let descriptor = RawFd::try_from(descriptor).unwrap_or(-1);
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Who may lock the same byte of a file at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteLock {
    /// All that ask for this.
    Shared,
    /// Nobody else.
    Alone,
}

/// Locks one byte of an open file, which need not be that long. The lock belongs to the open file:
/// it ends when that is closed, and so when the process ends. Blocks while others are in the way
/// if `wait`; else says whether the lock was taken.
pub fn lock_byte(file: &File, at: u64, lock: ByteLock, wait: bool) -> io::Result<bool> {
    let kind = if lock == ByteLock::Shared { libc::F_RDLCK } else { libc::F_WRLCK };
    let range = libc::flock {
        l_type: libc::c_short::try_from(kind).expect("the system's own constant"),
        l_whence: libc::c_short::try_from(libc::SEEK_SET).expect("the system's own constant"),
        l_start: i64::try_from(at).map_err(io::Error::other)?,
        l_len: 1,
        l_pid: 0,
    };
    let command = if wait { libc::F_OFD_SETLKW } else { libc::F_OFD_SETLK };
    loop {
        // SAFETY: the descriptor is open, its owner is borrowed; `range` is a valid place to read.
        if unsafe { libc::fcntl(file.as_raw_fd(), command, &raw const range) } == 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => (),
            Some(libc::EAGAIN | libc::EACCES) if !wait => return Ok(false),
            _ => return Err(error),
        }
    }
}

/// Lets `descriptor` survive an exec, or not.
pub fn set_inherited(descriptor: &impl AsRawFd, inherited: bool) -> io::Result<()> {
    let flags = if inherited { 0 } else { libc::FD_CLOEXEC };
    // SAFETY: F_SETFD takes one integer; the descriptor is open, its owner is borrowed.
    let code = unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_SETFD, flags) };
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn kill(pid: i32, signal: Signal) -> io::Result<()> {
    // SAFETY: kill takes two integers and touches no memory of ours; the id was checked not to be
    // 0 or 1, which would mean our own group or everything.
    if unsafe { libc::kill(pid, signal.number()) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(error) }
}

fn positive(pid: u32) -> io::Result<i32> {
    match i32::try_from(pid) {
        Ok(pid) if pid > 1 => Ok(pid),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{pid} is no process id"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn signals_are_read_by_number_and_by_name() {
        assert_eq!(Signal::read("SIGINT"), Some(Signal::Interrupt));
        assert_eq!(Signal::read("term"), Some(Signal::Terminate));
        assert_eq!(Signal::read("9").map(Signal::number), Some(9));
        assert_eq!(Signal::read("0"), None);
        assert_eq!(Signal::read("SIGNAL"), None);
    }

    #[test]
    fn descriptors_are_allowed_up_to_the_systems_own_limit() {
        allow_descriptors().expect("the limit is ours");
        let limits = std::fs::read_to_string("/proc/self/limits").expect("Linux has it");
        let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        let mut numbers = files.expect("it is listed").split_whitespace();
        assert_eq!(numbers.next(), numbers.next());
    }

    #[test]
    fn an_event_fd_counts_and_does_not_block() {
        let mut event = event_fd().expect("descriptors are left");
        event.write_all(&2u64.to_ne_bytes()).expect("an eventfd takes eight bytes");
        event.write_all(&3u64.to_ne_bytes()).expect("an eventfd takes eight bytes");
        let mut sum = [0; 8];
        event.read_exact(&mut sum).expect("it was written");
        assert_eq!(u64::from_ne_bytes(sum), 5);
        let error = event.read(&mut sum).expect_err("it is empty");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_signal_never_goes_to_everything() {
        assert!(signal(0, Signal::Kill).is_err());
        assert!(signal_group(1, Signal::Kill).is_err());
        assert!(signal(u32::MAX, Signal::Kill).is_err());
    }

    #[test]
    fn a_child_in_its_own_group_dies_by_its_group() {
        let mut command = Command::new("sleep");
        let mut child = in_own_group(command.arg("60")).spawn().expect("sleep exists");
        assert!(exists(child.id()));
        signal_group(child.id(), Signal::Kill).expect("the group is ours");
        let status = child.wait().expect("it is our child");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL));
    }
}
