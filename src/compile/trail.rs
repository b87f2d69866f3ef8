//! The calls that led to a panic: from addresses in cells' libraries, as the worker tells them, to
//! lines of the user's. The door to debug information; a line that is not found is left out.

use std::path::Path;

use addr2line::gimli::{Dwarf, EndianSlice, NativeEndian, SectionId};
use object::{Object, ObjectSection};
use prust_runtime::trail::CALLED_AT;

use super::books::Place;
use super::cell::Compiler;
use crate::cell::function_name;

/// A place that a function was called from, or that a panic came from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Call {
    place: Place,
    /// Empty for the statements of a cell.
    function: String,
    /// What the worker has said behind the address.
    often: String,
}

impl Compiler {
    /// The lines that follow a panic at `place`, in the user's terms. A panic that came from no
    /// cell is given the place that called there.
    pub fn trail(&self, place: &mut Option<Place>, lines: &[String]) -> Vec<String> {
        let mut told = Vec::new();
        let mut is_first = true;
        for line in lines {
            let Some((_, calls)) = self.calls(line) else {
                told.push(self.in_user_terms(line));
                continue;
            };
            for call in calls {
                match place {
                    None if is_first => *place = Some(call.place),
                    Some(known) if is_first && known.is_on_line_of(&call.place) => (),
                    Some(_) | None => told.push(format!("{CALLED_AT}{}", call.words())),
                }
                is_first = false;
            }
        }
        told
    }

    /// Puts the user's lines for the addresses of a trail, wherever it stands in a text.
    pub(super) fn with_trail(&self, text: &str) -> String {
        if !text.contains(CALLED_AT) {
            return text.to_owned();
        }
        let mut out = String::with_capacity(text.len());
        for line in text.split_inclusive('\n') {
            let Some((indent, calls)) = self.calls(line) else {
                out.push_str(line);
                continue;
            };
            for call in calls {
                // The line above may name the place of the panic itself.
                let place = format!("at {}:{}:", call.place.label, call.place.line);
                let above = out.trim_end().rsplit('\n').next().unwrap_or_default();
                if !above.trim_start().starts_with(&place) {
                    out.push_str(&format!("{indent}{CALLED_AT}{}\n", call.words()));
                }
            }
        }
        // What ended without a newline does so again.
        let ended = text.ends_with('\n');
        if ended { out } else { out.trim_end_matches('\n').to_owned() }
    }

    /// The calls that one line of a trail stands for, and what the line is indented by; `None` for
    /// any other line.
    fn calls<'a>(&self, line: &'a str) -> Option<(&'a str, Vec<Call>)> {
        let (indent, rest) = line.trim_end().split_once(CALLED_AT)?;
        let (library, rest) = rest.split_once("+0x")?;
        let (offset, often) = rest.split_at(rest.find(' ').unwrap_or(rest.len()));
        let offset = u64::from_str_radix(offset, 16).ok()?;
        let is_name =
            indent.trim().is_empty() && library.starts_with("lib") && !library.contains('/');
        is_name.then_some(())?;
        let path = self.shared.store.lib().join(library);
        let lines = lines_at(&path, offset).unwrap_or_default();
        let calls = lines.into_iter().filter_map(|(function, file, line, column)| {
            let place = self.place(&file, line, column)?;
            Some(Call { place, function, often: often.to_owned() })
        });
        Some((indent, calls.collect()))
    }
}

impl Call {
    fn words(&self) -> String {
        let Place { label, line, column, .. } = &self.place;
        let within = if self.function.is_empty() {
            String::new()
        } else {
            format!(", in `{}`", self.function)
        };
        format!("{label}:{line}:{column}{within}{}", self.often)
    }
}

/// A function, and file, line and column in it.
type At = (String, String, u32, u32);

/// What stands at an address of a library: the innermost function first, where some were inlined.
/// `None` when the library or its line table cannot be read.
fn lines_at(library: &Path, offset: u64) -> Option<Vec<At>> {
    let bytes = std::fs::read(library).ok()?;
    let file = object::File::parse(&*bytes).ok()?;
    let section = |id: SectionId| {
        let section = file.section_by_name(id.name());
        // What a library lacks is empty.
        let data = section.and_then(|section| section.data().ok()).unwrap_or_default();
        Ok::<_, addr2line::gimli::Error>(EndianSlice::new(data, NativeEndian))
    };
    let dwarf = Dwarf::load(section).ok()?;
    let context = addr2line::Context::from_dwarf(dwarf).ok()?;
    let mut frames = context.find_frames(offset).skip_all_loads().ok()?;
    let mut found = Vec::new();
    while let Ok(Some(frame)) = frames.next() {
        let name = frame.function.as_ref().and_then(|name| name.raw_name().ok());
        let function = name.map(|name| plain(&name)).unwrap_or_default();
        if let Some(location) = frame.location
            && let (Some(file), Some(line)) = (location.file, location.line)
        {
            found.push((function, file.to_owned(), line, location.column.unwrap_or(1)));
        }
    }
    Some(found)
}

/// A function's name as the user knows it. The statements of a cell are a closure of ours.
fn plain(name: &str) -> String {
    if name.starts_with('{') || name == crate::cell::plan::leaf::ENTRY {
        return String::new();
    }
    function_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_this_program_has_a_line() {
        let own = std::env::current_exe().expect("it runs");
        let function: fn(&str) -> String = plain;
        let (file, offset) =
            prust_runtime::os::locate(function as *const ()).expect("it is loaded");
        assert_eq!(file, own.to_string_lossy());
        let lines = lines_at(&own, offset).expect("tests are built with line tables");
        assert!(lines[0].1.ends_with("src/compile/trail.rs"), "{lines:?}");
        assert_eq!(lines_at(Path::new("/nowhere"), 1), None);
    }
}
