//! The C library, as far as a worker needs it: loading libraries, fork, exit, flushing C's stdio.
//! The only file of the runtime that names it; std only, so the declarations are here.
#![expect(unsafe_code, reason = "the door to dlopen, fork and exit")]

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_short, c_ulong, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

unsafe extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
    fn dlerror() -> *const c_char;
    fn dlinfo(handle: *mut c_void, request: c_int, answer: *mut c_void) -> c_int;
    fn dladdr(address: *const c_void, info: *mut DlInfo) -> c_int;
    fn fflush(stream: *mut c_void) -> c_int;
    fn ioctl(descriptor: c_int, request: c_ulong, ...) -> c_int;
    fn poll(watched: *mut Watched, n_watched: c_ulong, millis: c_int) -> c_int;
    fn _exit(code: c_int) -> !;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn kill(pid: c_int, signal: c_int) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
    fn fork() -> c_int;
    fn close(descriptor: c_int) -> c_int;
    fn sigaction(signal: c_int, new: *const SigAction, old: *mut SigAction) -> c_int;
    fn raise(signal: c_int) -> c_int;
    fn usleep(micros: u32) -> c_int;
    fn mmap(
        start: *mut c_void,
        length: usize,
        protection: c_int,
        flags: c_int,
        descriptor: c_int,
        offset: i64,
    ) -> *mut c_void;
    fn munmap(start: *mut c_void, length: usize) -> c_int;
    fn getrlimit(resource: c_int, limit: *mut Limit) -> c_int;
    fn setrlimit(resource: c_int, limit: *const Limit) -> c_int;
    fn _Unwind_Backtrace(
        each: extern "C" fn(*mut c_void, *mut c_void) -> c_int,
        to: *mut c_void,
    ) -> c_int;
    fn _Unwind_GetIP(context: *mut c_void) -> usize;
}

const RTLD_NOW: c_int = 2;
const SIGKILL: c_int = 9;

/// What `dladdr` tells: the library that holds an address, and where it is loaded.
#[repr(C)]
struct DlInfo {
    file: *const c_char,
    base: *mut c_void,
    symbol: *const c_char,
    symbol_address: *mut c_void,
}

/// Takes a variable of the environment, which nobody after us sees. Only before there are threads.
pub(crate) fn take_variable(name: &str) -> Option<String> {
    let value = std::env::var(name).ok();
    // SAFETY: the caller has started no thread yet, so that nobody reads the environment meanwhile.
    unsafe { std::env::remove_var(name) };
    value
}

/// A loaded library. Never unloaded: values, vtables and threads may point into it.
#[derive(Clone, Copy)]
pub struct Library(*mut c_void);

// SAFETY: a dlopen handle is a process-wide token that any thread may use.
unsafe impl Send for Library {}

/// Loads a library, `RTLD_LOCAL`, all symbols resolved at once so that a missing one is an error
/// here.
///
/// # Errors
/// The dynamic loader's own message.
pub fn load(path: &str) -> Result<Library, String> {
    let path = CString::new(path).map_err(|_| "a path with a NUL byte".to_owned())?;
    // SAFETY: `path` is a NUL-terminated string that outlives the call.
    let handle = unsafe { dlopen(path.as_ptr(), RTLD_NOW) };
    if handle.is_null() { Err(last_error()) } else { Ok(Library(handle)) }
}

/// The address of a symbol in one library.
pub fn symbol(library: Library, name: &str) -> Result<*const (), String> {
    let name = CString::new(name).map_err(|_| "a symbol with a NUL byte".to_owned())?;
    // SAFETY: the handle came from `dlopen` and is never closed; `name` is NUL-terminated.
    let address = unsafe { dlsym(library.0, name.as_ptr()) };
    if address.is_null() { Err(last_error()) } else { Ok(address.cast()) }
}

fn last_error() -> String {
    // SAFETY: no arguments; the result is null or a NUL-terminated string of this thread.
    let text = unsafe { dlerror() };
    if text.is_null() {
        return "unknown loader error".to_owned();
    }
    // SAFETY: checked non-null above, valid until this thread's next dl call.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// The library file that holds `address`, and the address's offset in it.
pub fn locate(address: *const ()) -> Option<(String, u64)> {
    let mut info = DlInfo {
        file: std::ptr::null(),
        base: std::ptr::null_mut(),
        symbol: std::ptr::null(),
        symbol_address: std::ptr::null_mut(),
    };
    // SAFETY: `info` is a valid place for the answer; any address may be asked for.
    let found = unsafe { dladdr(address.cast(), &raw mut info) };
    if found == 0 || info.file.is_null() {
        return None;
    }
    // SAFETY: dladdr gave a non-null, NUL-terminated file name that lives as long as the library.
    let file = unsafe { CStr::from_ptr(info.file) }.to_string_lossy().into_owned();
    Some((file, (address as u64).wrapping_sub(info.base as u64)))
}

/// Where a library is loaded: the address that offsets count from.
pub fn base(library: Library) -> Result<u64, String> {
    const RTLD_DI_LINKMAP: c_int = 2;
    let mut map: *const u64 = std::ptr::null();
    // SAFETY: the handle is live; the request writes one pointer to the library's link_map into
    // `map`.
    let failed = unsafe { dlinfo(library.0, RTLD_DI_LINKMAP, (&raw mut map).cast()) };
    if failed != 0 || map.is_null() {
        return Err(last_error());
    }
    // SAFETY: glibc documents `l_addr`, the load address, as link_map's first field.
    Ok(unsafe { *map })
}

/// The return addresses of the calling thread, the innermost first.
pub(crate) fn return_addresses(max: usize) -> Vec<u64> {
    struct Walk {
        found: Vec<u64>,
        max: usize,
    }
    extern "C" fn each(context: *mut c_void, walk: *mut c_void) -> c_int {
        const GO_ON: c_int = 0;
        const STOP: c_int = 5;
        // SAFETY: `walk` is the pointer handed to the walk below, which this call is part of.
        let walk = unsafe { &mut *walk.cast::<Walk>() };
        // SAFETY: the unwinder calls this with a context of its own, valid during the call.
        walk.found.push(unsafe { _Unwind_GetIP(context) } as u64);
        if walk.found.len() < walk.max { GO_ON } else { STOP }
    }
    let mut walk = Walk { found: Vec::with_capacity(64), max };
    // SAFETY: `walk` outlives the call, and `each` has the signature that the unwinder asks for and
    // never unwinds: allocation failure aborts.
    unsafe { _Unwind_Backtrace(each, (&raw mut walk).cast()) };
    walk.found
}

/// Writes out what C code printed through stdio and Rust's own buffered stdout.
pub fn flush() {
    use std::io::Write;
    // A closed stdout loses output either way; there is nobody to tell.
    let _ = std::io::stdout().flush();
    // SAFETY: a null stream means "all output streams", by the C standard.
    unsafe { fflush(std::ptr::null_mut()) };
}

/// Whether something that was written to a pipe was not read yet.
pub(crate) fn has_unread(descriptor: c_int) -> bool {
    const FIONREAD: c_ulong = 0x541B;
    let mut n_bytes: c_int = 0;
    // SAFETY: this request writes one number, to where `n_bytes` is; a descriptor that is closed
    // or knows no such request is an error, which leaves the number as it is.
    unsafe { ioctl(descriptor, FIONREAD, &raw mut n_bytes) };
    n_bytes > 0
}

/// What `poll` is asked about a descriptor, and its answer.
#[repr(C)]
struct Watched {
    descriptor: c_int,
    events: c_short,
    told: c_short,
}

/// Waits until there is something to read, or the end. Who waits in a read of a Unix socket is
/// woken, too, whenever the other end has read.
pub(crate) fn wait_readable(descriptor: c_int) {
    poll_readable(descriptor, -1);
}

/// Whether there is something to read, or the end.
pub(crate) fn is_readable(descriptor: c_int) -> bool {
    poll_readable(descriptor, 0) != 0
}

fn poll_readable(descriptor: c_int, millis: c_int) -> c_int {
    const POLLIN: c_short = 1;
    let mut watched = Watched { descriptor, events: POLLIN, told: 0 };
    // SAFETY: `watched` is one valid entry. A signal, or a descriptor that is closed, is an error:
    // then the read that follows says so, or waits itself.
    unsafe { poll(&raw mut watched, 1, millis) }
}

/// Ends the process at once: no destructors of cell libraries, no atexit.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process; nothing after it can be observed.
    unsafe { _exit(code) }
}

/// Which side of a fork we are on.
pub enum Fork {
    Child,
    Parent { child: i32 },
}

/// Forks. Only the calling thread exists in the child.
pub fn fork_here() -> std::io::Result<Fork> {
    // SAFETY: the caller holds stdout's lock and no lock of ours; glibc's own atfork handlers guard
    // malloc.
    match unsafe { fork() } {
        -1 => Err(std::io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        child => Ok(Fork::Parent { child }),
    }
}

/// Ends a child of ours and collects it.
pub fn end_child(pid: i32) {
    // SAFETY: signalling a pid has no memory effects; the pid is a child we have not waited for.
    unsafe { kill(pid, SIGKILL) };
    let mut status = 0;
    // SAFETY: `status` is a valid place; the pid is our own child.
    unsafe { waitpid(pid, &raw mut status, 0) };
}

#[repr(C)]
struct Limit {
    now: u64,
    most: u64,
}

/// Has the stack of the main thread grow to so many bytes, in this program's next start. False
/// where it may already, or must not.
pub(crate) fn raise_stack(bytes: u64) -> bool {
    const STACK: c_int = 3;
    let mut limit = Limit { now: 0, most: 0 };
    // SAFETY: both take a `struct rlimit`, which on 64-bit Linux is two 64-bit numbers.
    unsafe {
        if getrlimit(STACK, &raw mut limit) != 0 || limit.now >= bytes || limit.most < bytes {
            return false;
        }
        limit.now = bytes;
        setrlimit(STACK, &raw const limit) == 0
    }
}

/// Replaces this process by a new start of its own program, with one more variable in its
/// environment. Returns only when that fails.
pub(crate) fn start_over(variable: &str, value: &str) {
    use std::os::unix::process::CommandExt;
    if let Ok(exe) = std::env::current_exe() {
        let _ = std::process::Command::new(exe).env(variable, value).exec();
    }
}

/// Closes a descriptor that no live object of this process owns.
pub fn close_descriptor(descriptor: i32) {
    // SAFETY: called in a fresh fork for the socket of the old door, whose owner is leaked.
    unsafe { close(descriptor) };
}

/// The kernel's id of the calling thread.
pub fn thread_id() -> i64 {
    const GETTID: c_long = if cfg!(target_arch = "aarch64") { 178 } else { 186 };
    // SAFETY: gettid takes no arguments and cannot fail.
    unsafe { syscall(GETTID) }
}

/// glibc's `struct sigaction`, the same on every 64-bit Linux it supports.
#[repr(C)]
#[derive(Clone, Copy)]
struct SigAction {
    handler: usize,
    mask: [u64; 16],
    flags: c_int,
    restorer: usize,
}

const SIG_DFL: usize = 0;
const SIG_IGN: usize = 1;
const SA_SIGINFO: c_int = 4;
const SA_ONSTACK: c_int = 0x0800_0000;
const SIGABRT: c_int = 6;

/// Illegal instruction, abort, bus error, arithmetic error, segmentation fault.
const DEADLY: [c_int; 5] = [4, SIGABRT, 7, 8, 11];

/// What is done before the process dies of a signal, and the handlers that were there before ours
/// (std's own, which names a stack overflow).
struct BeforeDeath {
    work: fn(),
    handlers: [SigAction; DEADLY.len()],
}

static BEFORE_DEATH: OnceLock<BeforeDeath> = OnceLock::new();
static DYING: AtomicBool = AtomicBool::new(false);

/// Has `work` done once when a signal is about to end the process. It runs in a signal handler: it
/// may touch atomics and sleep, nothing more.
pub(crate) fn before_death(work: fn()) {
    let none = SigAction { handler: SIG_DFL, mask: [0; 16], flags: 0, restorer: 0 };
    let mut handlers = [none; DEADLY.len()];
    for (signal, old) in DEADLY.iter().zip(&mut handlers) {
        // SAFETY: a null new action only asks; `old` is a valid place of the right layout.
        unsafe { sigaction(*signal, std::ptr::null(), old) };
    }
    if BEFORE_DEATH.set(BeforeDeath { work, handlers }).is_err() {
        return;
    }
    let ours =
        SigAction { handler: deadly as *const () as usize, flags: SA_SIGINFO | SA_ONSTACK, ..none };
    for signal in DEADLY {
        // SAFETY: `deadly` has the signature that SA_SIGINFO asks for and never unwinds.
        unsafe { sigaction(signal, &raw const ours, std::ptr::null_mut()) };
    }
}

extern "C" fn deadly(signal: c_int, info: *mut c_void, context: *mut c_void) {
    let Some(before) = BEFORE_DEATH.get() else { return };
    let index = DEADLY.iter().position(|deadly| *deadly == signal).unwrap_or(0);
    let plain = SigAction { handler: SIG_DFL, mask: [0; 16], flags: 0, restorer: 0 };
    // std's handler may abort in turn: that is the same death, and this stack is small.
    // SAFETY: restores default actions, which needs no more than the valid `plain`.
    unsafe {
        sigaction(signal, &raw const plain, std::ptr::null_mut());
        sigaction(SIGABRT, &raw const plain, std::ptr::null_mut());
    }
    if !DYING.swap(true, Ordering::SeqCst) {
        (before.work)();
    }
    match before.handlers[index].handler {
        SIG_DFL | SIG_IGN => {
            // SAFETY: raise takes an integer; the signal is delivered when this handler returns.
            unsafe { raise(signal) };
        }
        handler => {
            // SAFETY: the address was a handler of this very signal before ours; those of std take
            // three arguments, and one that takes fewer ignores the rest in the C ABI.
            let handler: extern "C" fn(c_int, *mut c_void, *mut c_void) =
                unsafe { std::mem::transmute(handler) };
            handler(signal, info, context);
        }
    }
}

/// What a pointer to a leaked value points to; null is none.
pub(crate) fn leaked<T>(pointer: &'static AtomicPtr<T>) -> Option<&'static T> {
    // SAFETY: the callers store only pointers from `Box::leak`, which stay valid for ever.
    unsafe { pointer.load(Ordering::Acquire).as_ref() }
}

/// Sleeps; may be called in a signal handler.
pub(crate) fn pause_ms(milliseconds: u32) {
    // SAFETY: usleep takes an integer and touches no memory of ours.
    unsafe { usleep(milliseconds * 1000) };
}

/// Mappings begin at a multiple of this.
pub(crate) const PAGE_BYTES: u64 = 4096;

/// Pages of a file, mapped for reading.
pub(crate) struct Pages {
    start: *mut c_void,
    length: usize,
}

// SAFETY: the memory is only ever read, and belongs to this value until it is dropped.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    /// Maps `length` bytes of a file from `offset` on, a multiple of `PAGE_BYTES`; the caller has
    /// seen that the file is so long.
    pub(crate) fn of(file: &std::fs::File, offset: u64, length: usize) -> std::io::Result<Self> {
        use std::os::fd::AsRawFd;
        const PROT_READ: c_int = 1;
        const MAP_SHARED: c_int = 1;
        const MAP_POPULATE: c_int = 0x8000;
        if length == 0 {
            return Ok(Self { start: std::ptr::null_mut(), length });
        }
        let offset = i64::try_from(offset).map_err(|_| std::io::ErrorKind::InvalidInput)?;
        let flags = MAP_SHARED | MAP_POPULATE;
        // SAFETY: the system chooses the place; the descriptor is open; the result is checked.
        let start = unsafe {
            mmap(std::ptr::null_mut(), length, PROT_READ, flags, file.as_raw_fd(), offset)
        };
        if start.addr() == usize::MAX {
            return Err(std::io::Error::last_os_error());
        }
        Ok(Self { start, length })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        if self.length == 0 {
            return &[];
        }
        // SAFETY: `of` mapped that many readable bytes, which stay until `drop`. Who writes such a
        // file has finished before anybody is told of it, and nobody shortens it.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.length) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if self.length > 0 {
            // SAFETY: mapped by `of`, and no slice of it outlives this value.
            unsafe { munmap(self.start, self.length) };
        }
    }
}
