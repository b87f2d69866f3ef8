//! The worker executable. Built by the user's rustc, never by cargo: it defines `read`, which takes
//! the place of the C library's for the whole process, so that `std::io::stdin()` in any cell asks
//! the host.
#![expect(unsafe_code, reason = "takes the place of the C library's read")]

use std::ffi::{c_int, c_long, c_void};

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
}

const READ: c_long = if cfg!(target_arch = "aarch64") { 63 } else { 0 };

/// What was typed and not yet read.
static TYPED: std::sync::Mutex<Vec<u8>> = std::sync::Mutex::new(Vec::new());

/// `read(2)`; on standard input it asks the host for a line.
///
/// # Safety
/// As the C library's: `buffer` has room for `count` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn read(fd: c_int, buffer: *mut c_void, count: usize) -> isize {
    if fd != 0 || count == 0 {
        // SAFETY: the caller vouches for `buffer` and `count`, exactly as for the real call.
        return unsafe { syscall(READ, c_long::from(fd), buffer, count) as isize };
    }
    let mut typed = TYPED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if typed.is_empty() {
        match prust_runtime::door::input("", false) {
            Some(line) => {
                typed.extend_from_slice(line.as_bytes());
                typed.push(b'\n');
            }
            None => return 0,
        }
    }
    let given = typed.len().min(count);
    // SAFETY: `given <= count`, for which the caller vouches, and `given <= typed.len()`.
    unsafe { std::ptr::copy_nonoverlapping(typed.as_ptr(), buffer.cast::<u8>(), given) };
    typed.drain(..given);
    given as isize
}

/// Keeps `read` from being discarded as unused.
#[used]
static KEEP: unsafe extern "C" fn(c_int, *mut c_void, usize) -> isize = read;

fn main() {
    prust_runtime::worker::main()
}
