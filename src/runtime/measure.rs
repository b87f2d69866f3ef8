//! Times code for `%timeit`: how often to run it, and what the runs say. Prints on the cell's
//! stdout.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::cell::CellError;

/// One measurement should take this long: the clock and the loop cost nothing beside it.
const MEASUREMENT: Duration = Duration::from_millis(100);
/// Measurements, unless the user says how many.
const REPEAT: u32 = 7;
/// No loop is tried longer than this, however short its body.
const LOOPS_MAX: u64 = 10_000_000_000;

/// Runs `body` many times and says how long it takes. Zero `loops` or `repeat`: chosen here.
///
/// # Errors
/// What the body's `?` met, at once.
pub fn timeit(
    loops: u32,
    repeat: u32,
    mut body: impl FnMut() -> Result<(), CellError>,
) -> Result<(), CellError> {
    // Only the loop is compiled with the cell.
    measure(loops, repeat, &mut |loops| {
        let start = Instant::now();
        for _ in 0..loops {
            body()?;
        }
        Ok(start.elapsed())
    })
}

type Time<'a> = &'a mut dyn FnMut(u64) -> Result<Duration, CellError>;

fn measure(loops: u32, repeat: u32, time: Time<'_>) -> Result<(), CellError> {
    let repeat = if repeat == 0 { REPEAT } else { repeat };
    let loops = if loops == 0 { choose(time)? } else { u64::from(loops) };
    let mut seconds = Vec::new();
    for _ in 0..repeat {
        seconds.push(time(loops)?.as_secs_f64() / loops as f64);
    }
    let text = format!("{}\n", said(&seconds, loops));
    // A closed stdout is the cell's own doing.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

/// 1, 2, 5, 10, 20, .. loops: the first that take long enough.
fn choose(time: Time<'_>) -> Result<u64, CellError> {
    let mut decade = 1;
    loop {
        for loops in [decade, 2 * decade, 5 * decade] {
            if loops >= LOOPS_MAX || time(loops)? >= MEASUREMENT {
                return Ok(loops);
            }
        }
        decade *= 10;
    }
}

fn said(seconds: &[f64], loops: u64) -> String {
    let count = seconds.len() as f64;
    let mean = seconds.iter().sum::<f64>() / count;
    let variance = seconds.iter().map(|each| (each - mean).powi(2)).sum::<f64>() / count;
    let best = seconds.iter().copied().fold(f64::INFINITY, f64::min);
    let runs = if seconds.len() == 1 { "run" } else { "runs" };
    let each = if loops == 1 { "loop" } else { "loops" };
    format!(
        "{} ± {} per loop (mean ± std. dev. of {} {runs}, {loops} {each} each), best {}",
        time_text(mean),
        time_text(variance.sqrt()),
        seconds.len(),
        time_text(best),
    )
}

/// Three digits and a unit.
fn time_text(seconds: f64) -> String {
    let units = [(1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")];
    let (size, unit) = units.into_iter().find(|(size, _)| seconds >= *size).unwrap_or((1e-9, "ns"));
    let value = seconds / size;
    let decimals = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loops_grow_until_they_take_long_enough() {
        let mut asked = Vec::new();
        let chosen = choose(&mut |loops| {
            asked.push(loops);
            Ok(Duration::from_millis(loops))
        });
        assert_eq!(chosen.ok(), Some(100));
        assert_eq!(asked, [1, 2, 5, 10, 20, 50, 100]);
    }

    #[test]
    fn times_have_three_digits_and_a_unit() {
        let texts = [(0.0, "0.00 ns"), (1.5e-9, "1.50 ns"), (12.34e-6, "12.3 µs"), (2.0, "2.00 s")];
        for (seconds, text) in texts {
            assert_eq!(time_text(seconds), text);
        }
        assert_eq!(
            said(&[1e-3, 3e-3], 10),
            "2.00 ms ± 1.00 ms per loop (mean ± std. dev. of 2 runs, 10 loops each), best 1.00 ms"
        );
    }
}
