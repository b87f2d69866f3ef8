//! The calls that led to a panic: where each of them stands in the library of a cell. Only
//! addresses; the host, which has the libraries' line tables and the cells, makes places of them.

use crate::os;

/// A panic remembers as many return addresses, from the innermost on.
const ADDRESSES_MAX: usize = 1024;

/// Calls that are told of one panic.
const CALLS_MAX: usize = 32;

/// What a line about a call begins with, before the library's name.
pub const CALLED_AT: &str = "  called at ";

/// The return addresses of the calling thread.
pub(crate) fn here() -> Vec<u64> {
    os::return_addresses(ADDRESSES_MAX)
}

/// A line for each call that stands in a cell's library, the innermost first:
/// `called at libunit_12.so+0x34`. What follows it in parentheses is how often it came in a row.
pub(crate) fn lines(addresses: &[u64]) -> Vec<String> {
    let mut calls: Vec<(u64, usize)> = Vec::new();
    for address in addresses {
        match calls.last_mut() {
            Some((last, times)) if last == address => *times += 1,
            _ => calls.push((*address, 1)),
        }
    }
    let calls = calls.into_iter().filter_map(|(address, times)| {
        // A return address is that of the next instruction, which may be another line's.
        let (library, offset) = os::locate(address.saturating_sub(1) as *const ())?;
        let name = library.rsplit('/').next()?;
        let is_cell = name.starts_with("libunit_") || name.starts_with("libleaf_");
        let often = if times > 1 { format!(" ({times} times)") } else { String::new() };
        is_cell.then(|| format!("{CALLED_AT}{name}+{offset:#x}{often}"))
    });
    shortened(calls.collect())
}

/// Both ends say most: where it broke, and where the cell came in.
fn shortened(mut lines: Vec<String>) -> Vec<String> {
    let n_more = lines.len().saturating_sub(CALLS_MAX);
    if n_more > 0 {
        let from = CALLS_MAX / 2;
        lines.splice(from..from + n_more, [format!("  .. {n_more} more calls ..")]);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calling_function_is_among_the_return_addresses() {
        let here = here();
        assert!((2..ADDRESSES_MAX).contains(&here.len()), "{here:?}");
        let own = std::env::current_exe().expect("it runs");
        let libraries: Vec<String> = here
            .iter()
            .filter_map(|at| os::locate(*at as *const ()))
            .map(|(file, _)| file)
            .collect();
        assert!(libraries.iter().any(|file| *file == own.to_string_lossy()), "{libraries:?}");
        assert_eq!(lines(&here), Vec::<String>::new(), "no cell runs");
    }

    #[test]
    fn a_long_trail_keeps_both_ends() {
        let short = shortened((0..100).map(|n| n.to_string()).collect());
        assert_eq!(short.len(), CALLS_MAX + 1);
        assert_eq!(short[CALLS_MAX / 2], "  .. 68 more calls ..");
        assert_eq!((&*short[0], &*short[CALLS_MAX]), ("0", "99"));
    }
}
