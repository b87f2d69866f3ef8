//! Numbers, times and text in the words of the panel: one way to write each, for HTML and for plain
//! text. Knows nothing of widgets.
use std::time::Duration;

/// Longest label shown; a cell excerpt is cut here.
pub(super) const LABEL_CHARS_MAX: usize = 100;

/// Returns `n` with thousands separators.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (idx, digit) in digits.chars().enumerate() {
        if idx > 0 && (digits.len() - idx).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Returns `n` in a few characters, for narrow columns.
pub(super) fn short_count(n: u64) -> String {
    match n {
        0..1_000_000 => count(n),
        1_000_000..1_000_000_000 => format!("{:.2} M", n as f64 / 1e6),
        _ => format!("{:.2} G", n as f64 / 1e9),
    }
}

/// Returns "1 item", "2 items".
pub(super) fn counted(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(n), if n == 1 { "" } else { "s" })
}

/// Returns the whole percentage of `part`, rounded down so that 100 means all.
pub(super) fn percent(part: u64, total: u64) -> u64 {
    if total == 0 { 0 } else { (u128::from(part) * 100 / u128::from(total)) as u64 }
}

/// Returns a duration with a unit and two or three significant digits.
pub(super) fn duration(value: Duration) -> String {
    let seconds = value.as_secs_f64();
    match seconds {
        0.0 => "0 s".to_owned(),
        s if s < 0.001 => format!("{:.0} µs", s * 1e6),
        s if s < 0.1 => format!("{:.0} ms", s * 1e3),
        s if s < 10.0 => format!("{s:.2} s"),
        s if s < 60.0 => format!("{s:.1} s"),
        s if s < 3600.0 => format!("{} min {:02} s", s as u64 / 60, s as u64 % 60),
        s => format!("{} h {:02} min", s as u64 / 3600, s as u64 % 3600 / 60),
    }
}

/// Returns a duration for a running clock: its width changes as rarely as possible.
pub(super) fn clock(value: Duration) -> String {
    if value < Duration::from_secs(60) {
        format!("{:.1} s", value.as_secs_f64())
    } else {
        duration(value)
    }
}

/// Returns a range of durations, as coarse as an estimate deserves.
pub(super) fn range(low: Duration, high: Duration) -> String {
    let (unit, name) = match high.as_secs_f64() {
        s if s < 120.0 => (1.0, "s"),
        s if s < 7200.0 => (60.0, "min"),
        _ => (3600.0, "h"),
    };
    let (low, high) =
        ((low.as_secs_f64() / unit).round(), (high.as_secs_f64() / unit).ceil().max(1.0));
    if high <= 1.0 {
        format!("under 1 {name}")
    } else if low >= high {
        format!("~{high} {name}")
    } else {
        format!("~{low}–{high} {name}")
    }
}

/// Returns items per second.
pub(super) fn rate(per_second: f64) -> String {
    match per_second {
        r if r <= 0.0 => "–".to_owned(),
        r if r < 1.0 => format!("{:.1}/min", r * 60.0),
        r if r < 10.0 => format!("{r:.1}/s"),
        r => format!("{}/s", count(r.round() as u64)),
    }
}

/// Returns a size in the largest unit that keeps the number above one.
pub(super) fn bytes(n: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if n < 1000 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1000.0;
    let mut unit_idx = 0;
    while value >= 999.5 && unit_idx + 1 < UNITS.len() {
        value /= 1000.0;
        unit_idx += 1;
    }
    format!("{value:.1} {}", UNITS[unit_idx])
}

/// Returns engine ids as text, runs joined: "0–3, 6".
pub(super) fn engines(ids: &[u32]) -> String {
    const RUNS_MAX: usize = 8;
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for id in ids {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == id => *last = id,
            _ => runs.push((id, id)),
        }
    }
    let mut parts: Vec<String> = runs
        .iter()
        .take(RUNS_MAX)
        .map(|&(from, to)| match to - from {
            0 => from.to_string(),
            1 => format!("{from}, {to}"),
            _ => format!("{from}–{to}"),
        })
        .collect();
    if runs.len() > RUNS_MAX {
        parts.push("…".to_owned());
    }
    parts.join(", ")
}

/// Returns text on one line, cut at `chars_max` characters.
pub(super) fn one_line(text: &str, chars_max: usize) -> String {
    let joined = plain(text).split_whitespace().collect::<Vec<_>>().join(" ");
    if joined.chars().count() <= chars_max {
        return joined;
    }
    let mut cut: String = joined.chars().take(chars_max.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// Returns the last `lines_max` lines of `text`, with what a terminal would still show of lines
/// that were overwritten by carriage returns.
pub(super) fn tail(text: &str, lines_max: usize) -> String {
    let text = plain(text);
    let lines: Vec<&str> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(lines_max)..];
    shown
        .iter()
        .map(|line| line.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

/// Returns the text without terminal control sequences and control characters.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(next) = chars.next() {
        match next {
            '\u{1b}' => skip_sequence(&mut chars),
            '\n' | '\t' | '\r' => out.push(next),
            c if c.is_control()
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {}
            c => out.push(c),
        }
    }
    out
}

/// Skips what follows an escape character: a CSI sequence, an OSC string, or one character.
fn skip_sequence(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.next() {
        Some('[') => while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
        Some(']') => {
            while let Some(c) = chars.next() {
                if c == '\u{7}' || (c == '\u{1b}' && chars.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
        }
        _ => {}
    }
}

/// Returns `text` safe inside HTML text and quoted attributes, without control sequences.
pub(super) fn escape(text: &str) -> String {
    let text = plain(text);
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
