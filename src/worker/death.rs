//! Why a worker's process ended, in words for the user: its last words, what std wrote on stderr as
//! it aborted, how much memory it had held. Decides nothing about what follows.

use std::collections::BTreeMap;
use std::io;

use super::Failure;
use crate::process::{self, Ended};

/// As much of stderr is looked at: a backtrace may follow std's words.
const TAIL_BYTES: usize = 32 * 1024;

/// What was noticed while the process lived.
#[derive(Debug, Default)]
pub(super) struct Scene {
    pub(super) last_words: Option<Failure>,
    stderr: String,
    oom_kills: u64,
}

impl Scene {
    /// A run begins.
    pub(super) fn begin(&mut self) {
        self.last_words = None;
        self.stderr.clear();
    }

    /// Looks at the system's count of processes killed for memory, to see later that it has grown.
    pub(super) fn count_kills(&mut self) {
        self.oom_kills = process::oom_kills();
    }

    pub(super) fn wrote(&mut self, text: &str) {
        self.stderr.push_str(text);
        if self.stderr.len() > 2 * TAIL_BYTES {
            let mut cut = self.stderr.len() - TAIL_BYTES;
            while !self.stderr.is_char_boundary(cut) {
                cut += 1;
            }
            self.stderr.drain(..cut);
        }
    }

    /// The end in a word ("SIGSEGV", "exit code 3"), and as a failure of the user's code.
    pub(super) fn explain(&mut self, ended: io::Result<Ended>) -> (String, Failure) {
        let last_words = self.last_words.take();
        let ended = match ended {
            Ok(ended) => ended,
            Err(error) => {
                let cause = format!("an unknown end ({error})");
                return (cause.clone(), failure("Exit", format!("the process came to {cause}")));
            }
        };
        let cause = ended.cause();
        let why = match cause.as_str() {
            "SIGABRT" => last_words.unwrap_or_else(|| self.aborted()),
            "SIGSEGV" | "SIGBUS" => {
                failure(&cause, "the code touched memory that is not its own".to_owned())
            }
            "SIGILL" => failure(&cause, "the processor met an illegal instruction".to_owned()),
            "SIGFPE" => failure(&cause, "the processor met an arithmetic fault".to_owned()),
            "SIGKILL" => self.killed(ended.peak_bytes),
            signal if signal.starts_with("SIG") => {
                failure(&cause, format!("the process was ended by {cause}"))
            }
            _ => failure("Exit", format!("the code ended its process ({cause})")),
        };
        (cause, why)
    }

    fn aborted(&self) -> Failure {
        if let Some(bytes) = between(&self.stderr, "memory allocation of ", " bytes failed") {
            let evalue = match bytes.parse::<u64>() {
                Ok(count) => format!("an allocation of {} failed", size(count)),
                Err(_) => "an allocation failed".to_owned(),
            };
            return failure("OutOfMemory", evalue);
        }
        if self.stderr.contains("has overflowed its stack") {
            let name = between(&self.stderr, "thread '", "' ").unwrap_or("<unnamed>");
            let mut overflow =
                failure("StackOverflow", format!("the thread `{name}` has overflowed its stack"));
            overflow.backtrace.push(
                "A recursion without end does this, or an array that belongs into a `Vec`; a deep \
                 recursion can run in a thread of its own: \
                 std::thread::Builder::new().stack_size(..)"
                    .to_owned(),
            );
            return overflow;
        }
        failure("SIGABRT", "the code aborted".to_owned())
    }

    fn killed(&self, peak_bytes: u64) -> Failure {
        let held = size(peak_bytes);
        failure(
            "SIGKILL",
            if process::oom_kills() > self.oom_kills {
                format!("memory ran out, and the system killed the process (it held {held})")
            } else {
                format!("the process was killed from outside (it had held up to {held})")
            },
        )
    }
}

fn failure(ename: &str, evalue: String) -> Failure {
    Failure { ename: ename.to_owned(), evalue, ..Failure::default() }
}

/// What stands between the last `before` and the next `after`.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.rsplit_once(before)?;
    Some(rest.split_once(after)?.0)
}

/// Names of threads for people, each once with how many have it. (The system gives a thread without
/// a name that of the thread that started it.)
pub fn names(threads: &[String]) -> String {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for name in threads {
        let nameless = name.starts_with("prust-worker") || name.is_empty();
        *counts.entry(if nameless { "" } else { name }).or_default() += 1;
    }
    let told = |(name, count): (&&str, &u32)| match (*name, *count) {
        ("", count) => format!("{count} without a name"),
        (name, 1) => format!("`{name}`"),
        (name, count) => format!("{count} `{name}`"),
    };
    counts.iter().rev().map(told).collect::<Vec<_>>().join(", ")
}

/// A number of bytes for people: `3.1 GiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    let power = (bytes.ilog2() / 10).min(UNITS.len() as u32);
    let scaled = bytes as f64 / f64::from(power * 10).exp2();
    format!("{scaled:.1} {}", UNITS[power as usize - 1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    fn explained(stderr: &[&str], status: i32) -> Failure {
        let mut scene = Scene::default();
        scene.begin();
        stderr.iter().for_each(|text| scene.wrote(text));
        let status = std::process::ExitStatus::from_raw(status);
        scene.explain(Ok(Ended { status, peak_bytes: 3 << 29 })).1
    }

    #[test]
    fn an_abort_is_explained_by_what_std_wrote_in_any_pieces() {
        let overflow = explained(&["\nthread 'de", "ep' (7) has overflowed its", " stack\n"], 6);
        assert_eq!(overflow.ename, "StackOverflow");
        assert!(overflow.evalue.contains("`deep`"), "{overflow:?}");
        let allocation = explained(&["memory allocation of 2048 bytes failed\nstack backtrace"], 6);
        assert_eq!(allocation.ename, "OutOfMemory");
        assert_eq!(allocation.evalue, "an allocation of 2.0 KiB failed");
        assert_eq!(explained(&["thread 'x' has words"], 6).ename, "SIGABRT");
    }

    #[test]
    fn other_ends_have_their_signal_or_their_code() {
        assert_eq!(explained(&[], 11).ename, "SIGSEGV");
        let exit = explained(&[], 3 << 8);
        assert_eq!((exit.ename.as_str(), exit.evalue.as_str()), ("Exit", EXITED));
        assert!(explained(&[], 9).evalue.contains("1.5 GiB"));
    }

    const EXITED: &str = "the code ended its process (exit code 3)";

    #[test]
    fn threads_without_a_name_are_counted() {
        let threads = ["a", "b", "prust-worker", "b", "prust-worker"].map(str::to_owned);
        assert_eq!(names(&threads), "2 `b`, `a`, 2 without a name");
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!(size(12), "12 bytes");
        assert_eq!(size(1 << 20), "1.0 MiB");
        assert_eq!(size(u64::MAX), "16384.0 PiB");
    }
}
