//! Which generated file came from which cell: so that a panic in a function of an older cell is
//! shown at that cell's line. Remembers the latest `BOOKS_MAX` sources.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use super::cell::{Cell, Compiler};
use crate::cell::items::Part;
use crate::cell::map::{byte_at, line_column};
use crate::cell::plan::CratePlan;
use crate::cell::{Map, Namespace, Unit};

/// Sources remembered; an older one shows its generated place instead.
const BOOKS_MAX: usize = 2000;

/// How far a place in text of ours may be from the user's to be taken for it.
const NEARBY_BYTES: usize = 4;

/// One generated source and its cell.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) pages: Vec<Page>,
    pub(super) generated: String,
}

/// One cell's share of a source.
#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) label: String,
    pub(super) text: String,
    pub(super) map: Map,
}

#[derive(Debug, Default)]
struct Shelf {
    entries: HashMap<String, Arc<Entry>>,
    order: VecDeque<String>,
}

/// All sources of this process, by generated file.
#[derive(Clone, Debug, Default)]
pub(super) struct Books(Arc<Mutex<Shelf>>);

/// A place in a user's cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub label: String,
    /// 1-based.
    pub line: usize,
    /// 1-based, in characters.
    pub column: usize,
    /// The cell's text.
    pub text: String,
}

impl Place {
    pub(super) fn is_on_line_of(&self, other: &Self) -> bool {
        (&self.label, self.line) == (&other.label, other.line)
    }
}

impl Entry {
    /// The user's place for a byte of the source, or for one at most `near` bytes behind it.
    fn place(&self, at: usize, near: usize) -> Option<Place> {
        let exact = |page: &Page| page.map.to_user(at..at).map(|range| range.start);
        let near = |page: &Page| page.map.user_start_after(at, near);
        let found = |find: &dyn Fn(&Page) -> Option<usize>| {
            self.pages.iter().find_map(|page| Some((page, find(page)?)))
        };
        let (page, user) = found(&exact).or_else(|| found(&near))?;
        let (line, column) = line_column(&page.text, user);
        Some(Place { label: page.label.clone(), line, column, text: page.text.clone() })
    }
}

impl Books {
    pub(super) fn add(&self, file: &str, entry: Entry) {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if shelf.entries.insert(file.to_owned(), Arc::new(entry)).is_none() {
            shelf.order.push_back(file.to_owned());
        }
        if shelf.order.len() > BOOKS_MAX {
            let oldest = shelf.order.pop_front().expect("it is longer than the limit");
            shelf.entries.remove(&oldest);
        }
    }

    fn entry(&self, file: &str) -> Option<Arc<Entry>> {
        let shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.entries.get(file).cloned()
    }

    /// The user's place for a line and column of a generated file.
    pub(super) fn place(&self, file: &str, line: u32, column: u32) -> Option<Place> {
        let entry = self.entry(file)?;
        let at = byte_at(&entry.generated, line, column);
        entry.place(at, NEARBY_BYTES)
    }

    /// The place of the first of the user's words on a line of a generated file.
    fn place_of_line(&self, file: &str, line: u32) -> Option<Place> {
        let entry = self.entry(file)?;
        let at = byte_at(&entry.generated, line, 1);
        let length = entry.generated.get(at..)?.lines().next().map_or(0, str::len);
        entry.place(at, length)
    }

    /// Replaces what names a known source (`FOLDER/name.rs`, with a line, with a column, too) by
    /// the user's cell, line and column: `In[3]:LINE:COLUMN`.
    pub(super) fn rewrite(&self, folder: &str, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(folder) {
            out.push_str(&rest[..at]);
            let named = &rest[at..];
            let (told, length) = self.told(named).unwrap_or((folder.to_owned(), folder.len()));
            out.push_str(&told);
            rest = &named[length..];
        }
        out.push_str(rest);
        out
    }

    /// Reads a file, or a place in it, at the start of `text`; gives the user's words for it and
    /// the bytes they replace.
    fn told(&self, text: &str) -> Option<(String, usize)> {
        let file_end = text.find(".rs")? + ".rs".len();
        let file = &text[..file_end];
        let number = |from: usize| -> Option<(u32, usize)> {
            let digits = text.get(from..)?.strip_prefix(':')?;
            let count = digits.bytes().take_while(u8::is_ascii_digit).count();
            Some((digits[..count].parse().ok()?, from + 1 + count))
        };
        let line = number(file_end);
        let column = line.and_then(|(_, line_end)| number(line_end));
        match (line, column) {
            (Some((line, _)), Some((column, end))) => {
                let place = self.place(file, line, column)?;
                Some((format!("{}:{}:{}", place.label, place.line, place.column), end))
            }
            (Some((line, end)), None) => {
                let place = self.place_of_line(file, line)?;
                Some((format!("{}:{}", place.label, place.line), end))
            }
            _ => Some((self.label(file)?, file_end)),
        }
    }

    /// The cell that a generated file was made from; the last of several.
    pub(super) fn label(&self, file: &str) -> Option<String> {
        Some(self.entry(file)?.pages.last()?.label.clone())
    }
}

impl Compiler {
    /// The cell and line behind a place in generated source.
    pub fn place(&self, file: &str, line: u32, column: u32) -> Option<Place> {
        self.shared.books.place(file, line, column)
    }

    /// Remembers the units of a namespace that another process compiled, for places in panics and
    /// to compile against.
    pub fn learn(&self, namespace: &Namespace) {
        for unit in &namespace.items.units {
            self.remember_unit(unit);
            if let Err(error) = self.shared.store.hold(&unit.file) {
                tracing::warn!(%error, unit = unit.file, "a library may be removed while in use");
            }
        }
    }

    pub(super) fn remember_unit(&self, unit: &Unit) {
        let page = |part: &Part| Page {
            label: part.label.clone(),
            text: part.text.clone(),
            map: part.map.clone(),
        };
        let pages = unit.parts.iter().map(page).collect();
        let entry = Entry { pages, generated: unit.generated.to_string() };
        self.shared.books.add(&self.source_file(&unit.file).display().to_string(), entry);
    }

    pub(super) fn remember_leaf(&self, name: &str, cell: Cell<'_>, plan: &CratePlan) {
        let page = Page {
            label: cell.label.to_owned(),
            text: cell.text.to_owned(),
            map: plan.source.map.clone(),
        };
        let entry = Entry { pages: vec![page], generated: plan.source.text.clone() };
        self.shared.books.add(&self.source_file(name).display().to_string(), entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::Source;

    #[test]
    fn generated_places_in_text_become_the_users() {
        let cell = "\nboom()";
        let mut source = Source::default();
        source.ours("fn f() {\n").user(cell, 0..cell.len());
        let books = Books::default();
        let page = Page { label: "In[3]".into(), text: cell.into(), map: source.map.clone() };
        let entry = Entry { pages: vec![page], generated: source.text.clone() };
        books.add("/store/src/leaf_1.rs", entry);
        let text = "at /store/src/leaf_1.rs:3:1, then /store/src/other.rs:1:1, \
                    /store/src/leaf_1.rs:3 in /store/src/leaf_1.rs: 7";
        let expected = "at In[3]:2:1, then /store/src/other.rs:1:1, In[3]:2 in In[3]: 7";
        assert_eq!(books.rewrite("/store/src/", text), expected);
    }
}
