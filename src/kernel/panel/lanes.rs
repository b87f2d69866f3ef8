//! One row per engine on a common time axis, drawn with absolutely placed blocks so that it
//! survives sanitisers that drop SVG and flex boxes. Its size is bounded whatever the number of
//! tasks.
use std::fmt::Write as _;
use std::time::Duration;

use super::html::{DONE, FAILED, MUTED, NUMERIC, RUNNING, TRACK};
use super::words;
use crate::client::summary::{Lane, Span};

/// Rows drawn; more engines than this are grouped by neighbours.
pub const ROWS_MAX: usize = 32;
/// Blocks over all rows that decide how fine a row is drawn; at most twice as many are drawn.
pub const BLOCKS_MAX: usize = 800;
/// No row is finer than this: about five pixels of a usual panel.
const COLUMNS_MAX: usize = 120;
/// Columns of a row that stands for several engines.
const GROUP_COLUMNS: usize = 48;
/// Space between two blocks, in percent of the axis: about one pixel.
const GAP: f64 = 0.14;
const LABEL_WIDTH: u32 = 92;
/// Right of the axis: items done, busy share, what went wrong; as offsets from the right edge.
const VALUES_WIDTH: u32 = 176;
const ITEMS: &str = "right:108px;width:58px";
const BUSY: &str = "right:60px;width:44px";
const WRONG: &str = "right:0;width:54px";

/// One block: a stretch of the axis in percent, and how it looks.
struct Block {
    from: f64,
    to: f64,
    items: u64,
    kind: Kind,
    /// Share of the stretch that was work, in quarters; below 4 only in grouped and summed blocks.
    quarters: u8,
}

/// In order of importance: a block that stands for several stretches shows the last of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Done,
    Running,
    Failed,
}

/// Returns the rows and the axis. `finished`: the axis ends with the work; else it ends at a round
/// time ahead of now, so that blocks move seldom.
pub(super) fn draw(lanes: &[Lane], elapsed: Duration, finished: bool) -> String {
    if lanes.is_empty() {
        return String::new();
    }
    let axis = axis_end(lanes, elapsed, finished);
    let group_size = lanes.len().div_ceil(ROWS_MAX);
    let n_rows = lanes.len().div_ceil(group_size);
    let (pitch, font) = match n_rows {
        0..=8 => (20, 12),
        9..=16 => (16, 11),
        _ => (13, 10),
    };
    let columns = (BLOCKS_MAX / n_rows).min(COLUMNS_MAX);
    let mut out =
        format!("<div class=\"prust-lanes\" style=\"font-size:{font}px;margin-top:8px\">");
    for group in lanes.chunks(group_size) {
        let blocks = match group {
            [lane] => lane_blocks(lane, elapsed, axis, columns),
            _ => group_blocks(group, elapsed, axis),
        };
        row(&mut out, group, &blocks, elapsed, pitch);
    }
    ticks(&mut out, axis);
    out.push_str("</div>");
    out
}

fn row(out: &mut String, group: &[Lane], blocks: &[Block], elapsed: Duration, pitch: u32) {
    let done: u64 = group.iter().map(|lane| lane.done).sum();
    let failed: u64 = group.iter().map(|lane| lane.failed).sum();
    let busy = busy_percent(group, elapsed);
    let (name, description) = names(group, done, failed, busy);
    let bar = pitch - if pitch > 13 { 6 } else { 4 };
    let top = (pitch - bar) / 2;
    let inset = "white-space:nowrap;overflow:hidden;text-overflow:ellipsis";
    let _ = write!(
        out,
        "<div class=\"prust-lane\" role=\"img\" aria-label=\"{description}\" \
         style=\"position:relative;height:{pitch}px;line-height:{pitch}px\">\
         <div style=\"position:absolute;left:0;width:{}px;{inset};{MUTED}\">{name}</div>\
         <div style=\"position:absolute;left:{LABEL_WIDTH}px;right:{VALUES_WIDTH}px;top:{top}px;\
         height:{bar}px;overflow:hidden;border-radius:2px;background-color:{TRACK}\">",
        LABEL_WIDTH - 8
    );
    for block in blocks {
        write_block(out, block);
    }
    let lost = group.iter().filter(|lane| lane.lost.is_some()).count();
    let mark = match (lost, failed) {
        (0, 0) => String::new(),
        (0, n) => format!("<span style=\"color:{FAILED}\">{} failed</span>", words::short_count(n)),
        (_, _) => format!("<span style=\"color:{FAILED}\">lost</span>"),
    };
    let _ = write!(
        out,
        "</div><div style=\"position:absolute;{ITEMS};text-align:right;{NUMERIC};{inset}\">{}</div>\
         <div style=\"position:absolute;{BUSY};text-align:right;{NUMERIC};{MUTED};{inset}\">{busy}%\
         </div><div style=\"position:absolute;{WRONG};text-align:right;\
         {inset}\">{mark}</div></div>",
        words::short_count(done)
    );
}

fn write_block(out: &mut String, block: &Block) {
    let colour = match block.kind {
        Kind::Done => DONE,
        Kind::Running => RUNNING,
        Kind::Failed => FAILED,
    };
    let gap = if block.items > 0 { GAP } else { 0.0 };
    let width = (block.to - block.from - gap).max(0.25);
    let _ = write!(
        out,
        "<div style=\"position:absolute;top:0;height:100%;left:{:.2}%;width:{width:.2}%;\
         background-color:{colour}",
        block.from
    );
    if block.quarters < 4 {
        let _ = write!(out, ";opacity:0.{}", [25, 40, 60, 80][usize::from(block.quarters)]);
    }
    out.push('"');
    if block.items > 0 {
        let _ = write!(out, " title=\"{}\"", words::counted(block.items, "item"));
    }
    out.push_str("></div>");
}

fn names(group: &[Lane], done: u64, failed: u64, busy: u64) -> (String, String) {
    let name = match group {
        [lane] => format!("engine {}", lane.engine),
        [first, .., last] => format!("{}–{}", first.engine, last.engine),
        [] => String::new(),
    };
    let mut description =
        format!("{name}: {} done, busy {busy}% of the time", words::counted(done, "item"));
    if failed > 0 {
        let _ = write!(description, ", {} failed", words::count(failed));
    }
    (name, description)
}

/// Returns the blocks of one engine: every stretch of work as it was, unless it is narrower than a
/// column, in which case neighbours join. At most about two blocks a column.
fn lane_blocks(lane: &Lane, elapsed: Duration, axis: f64, columns: usize) -> Vec<Block> {
    let column = 100.0 / columns as f64;
    let mut blocks: Vec<Block> = Vec::new();
    let known: u64 = lane.spans.iter().filter(|s| s.to.is_some()).map(|span| span.items).sum();
    let earlier = (lane.done + lane.failed).saturating_sub(known);
    if let Some(first) = lane.spans.first().filter(|_| earlier > 0) {
        // Older stretches are no longer kept one by one: one pale block stands for them.
        let to = place(first.from, axis);
        blocks.push(Block { from: 0.0, to, items: earlier, kind: Kind::Done, quarters: 3 });
    }
    for span in &lane.spans {
        let (from, to) = (place(span.from, axis), place(span.to.unwrap_or(elapsed), axis));
        let kind = kind(span);
        let to = to.max(from);
        match blocks.last_mut() {
            Some(last)
                if last.quarters == 4
                    && from - last.to < column
                    && (last.to - last.from < column
                        || (to - from < column && last.kind == kind)) =>
            {
                last.to = to.max(last.to);
                last.items += span.items;
                last.kind = last.kind.max(kind);
            }
            _ => blocks.push(Block { from, to, items: span.items, kind, quarters: 4 }),
        }
    }
    blocks
}

/// Returns the blocks of several engines in one row: how many of them worked, in quarters.
fn group_blocks(group: &[Lane], elapsed: Duration, axis: f64) -> Vec<Block> {
    let mut busy = [0.0_f64; GROUP_COLUMNS];
    let mut failed = [false; GROUP_COLUMNS];
    let column = 100.0 / GROUP_COLUMNS as f64;
    for span in group.iter().flat_map(|lane| &lane.spans) {
        let (from, to) = (place(span.from, axis), place(span.to.unwrap_or(elapsed), axis));
        let first = (from / column) as usize;
        let last = ((to / column) as usize).min(GROUP_COLUMNS - 1);
        for idx in first..=last {
            let (left, right) = (idx as f64 * column, (idx + 1) as f64 * column);
            busy[idx] += (to.min(right) - from.max(left)).max(0.0) / column;
            failed[idx] |= span.failed;
        }
    }
    let mut blocks: Vec<Block> = Vec::new();
    for idx in 0..GROUP_COLUMNS {
        let share = busy[idx] / group.len() as f64;
        let quarters = (share * 4.0).round().clamp(0.0, 4.0) as u8;
        let kind = if failed[idx] { Kind::Failed } else { Kind::Done };
        if share <= 0.02 {
            continue;
        }
        let (from, to) = (idx as f64 * column, (idx + 1) as f64 * column);
        match blocks.last_mut() {
            Some(last)
                if last.kind == kind && last.quarters == quarters && from - last.to < 1e-6 =>
            {
                last.to = to;
            }
            _ => blocks.push(Block { from, to, items: 0, kind, quarters }),
        }
    }
    blocks
}

fn kind(span: &Span) -> Kind {
    match (span.to, span.failed) {
        (None, _) => Kind::Running,
        (Some(_), true) => Kind::Failed,
        (Some(_), false) => Kind::Done,
    }
}

fn busy_percent(group: &[Lane], elapsed: Duration) -> u64 {
    let running = group.iter().filter_map(|lane| lane.spans.last().filter(|s| s.to.is_none()));
    let running: f64 = running.map(|s| elapsed.saturating_sub(s.from).as_secs_f64()).sum();
    let busy: f64 = group.iter().map(|lane| lane.busy.as_secs_f64()).sum();
    let whole = elapsed.as_secs_f64() * group.len() as f64;
    if whole > 0.0 { ((busy + running) / whole * 100.0).round().min(100.0) as u64 } else { 0 }
}

fn place(at: Duration, axis: f64) -> f64 {
    (at.as_secs_f64() / axis * 100.0).clamp(0.0, 100.0)
}

fn axis_end(lanes: &[Lane], elapsed: Duration, finished: bool) -> f64 {
    let last = lanes.iter().filter_map(|lane| lane.spans.last());
    let last = last.filter_map(|span| span.to).max().unwrap_or_default().max(elapsed);
    let seconds = last.as_secs_f64().max(1e-6);
    if finished { seconds } else { round_up(seconds.max(0.5)) }
}

/// Returns the next round number: few enough steps that a running axis is redrawn seldom.
fn round_up(seconds: f64) -> f64 {
    let magnitude = 10.0_f64.powf(seconds.log10().floor());
    let steps = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    steps.iter().map(|step| step * magnitude).find(|end| *end >= seconds).unwrap_or(seconds)
}

fn ticks(out: &mut String, axis: f64) {
    let step = round_up(axis / 5.0);
    let _ = write!(
        out,
        "<div style=\"position:relative;height:18px;line-height:16px;font-size:10px;{MUTED}\">\
         <div style=\"position:absolute;left:{LABEL_WIDTH}px;right:{VALUES_WIDTH}px;top:0;\
         height:18px;border-top:1px solid rgba(128,128,128,0.35)\">"
    );
    let n_steps = (axis / step + 1e-9) as usize;
    for idx in 0..=n_steps {
        let at = idx as f64 * step;
        let left = at / axis * 100.0;
        let (shift, align) = match left {
            l if l < 1.0 => (0, "left"),
            l if l > 97.0 => (-60, "right"),
            _ => (-30, "center"),
        };
        let _ = write!(
            out,
            "<div style=\"position:absolute;left:{left:.2}%;width:60px;\
             margin-left:{shift}px;top:2px;\
             text-align:{align};{NUMERIC}\">{}</div>",
            tick(at, axis)
        );
    }
    let _ = write!(
        out,
        "</div><div style=\"position:absolute;{ITEMS};text-align:right\">items</div>\
         <div style=\"position:absolute;{BUSY};text-align:right\">busy</div></div>"
    );
}

fn tick(seconds: f64, axis: f64) -> String {
    let short = |value: f64| {
        let text = format!("{value:.2}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match axis {
        a if a < 1.0 => format!("{} ms", short(seconds * 1e3)),
        a if a < 120.0 => format!("{} s", short(seconds)),
        a if a < 7200.0 => format!("{} min", short(seconds / 60.0)),
        _ => format!("{} h", short(seconds / 3600.0)),
    }
}
