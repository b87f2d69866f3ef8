//! What rustc has asked for about a leaf so far: variables it says are moved, values to be kept in
//! another form, statements that await. Each round of compiling may add to it.

use std::collections::{BTreeMap, BTreeSet};

use super::leaf;
use super::runtime::{RUNTIME, Runtime};
use crate::cell::assigned;
use crate::cell::diagnostic::{self, Book};
use crate::cell::facade;
use crate::cell::keep::{self, Form};
use crate::cell::map::Edit;
use crate::cell::mir::{self, Types};
use crate::cell::rustc_json::Message;
use crate::cell::split::Split;
use crate::cell::{CrateSet, Namespace};

/// Starts as the split says; [`Shape::learn`] and [`Shape::keep`] change it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// The crates that types may be of.
    set: Option<CrateSet>,
    /// The statements stand in a future.
    pub asynchronous: bool,
    /// The final expression gives no value (`{ panic!() }`): nothing of it can be shown.
    pub(super) silent: bool,
    /// What is known of the final expression's type.
    pub(super) value: Guess,
    /// The runtime that the main thread is to be in.
    pub(super) runtime: Option<Runtime>,
    /// Taken, moved away and given another value: the cell's own code puts it back.
    refilled: BTreeSet<String>,
    /// Those that have none on some way to the end.
    half: BTreeSet<String>,
    /// Taken and not put back.
    spent: BTreeSet<String>,
    /// Those of them of which something is left.
    parted: BTreeSet<String>,
    /// Numbers of the `put`s whose variables the cell itself moves away.
    gone: BTreeSet<usize>,
    /// Numbers of those `put`s that are gone because the variable has no value.
    unset: BTreeSet<usize>,
    /// Values that are put in another form, by number.
    kept: BTreeMap<usize, Kept>,
    /// The types as they were before any was put in another form.
    types: Types,
    /// Types that no later cell can name, by number.
    hidden: BTreeMap<usize, String>,
    /// Crates that are named for rustc's sake, which looks for public paths in such alone.
    named: BTreeSet<String>,
    /// What is inserted into the user's text.
    edits: Vec<Edit>,
    /// Types that are written behind variables, where rustc may take a closure for a function.
    annotations: Vec<Edit>,
    /// Such types did not fit.
    plain: bool,
    /// They did: what does not compile later is something else.
    fits: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kept {
    /// Put as it is: no form is known.
    Never,
    /// rustc is asked what is known of its type.
    Asked,
    /// Known by its type's text.
    Typed(Form),
    /// Known by its bounds.
    Bounded(Form, String),
    /// Known to nobody but where it is declared.
    Hidden(Form),
    /// By its type as it may be written, in these ways.
    Spelled(Vec<String>),
}

/// The type of the final expression, where rustc does not know it yet when the value is shown:
/// numbers become `i32` and `f64` only at a function's end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Guess {
    #[default]
    NotNeeded,
    /// rustc is asked what it becomes.
    Asked,
    Known(String),
    /// Not even then.
    Unknown,
}

/// The number of the `put` by which the final expression's type is asked for.
pub(super) const VALUE: usize = 1_000_000;

/// Types that work with a function in place of a closure: the user's own, and these. Others are
/// boxed by what they do.
const TAKE_FUNCTIONS: [&str; 3] = ["unit_", "std::sync::LazyLock<", "std::cell::LazyCell<"];

impl Shape {
    /// How a leaf starts.
    pub fn of(namespace: &Namespace, cell: &str, split: &Split) -> Self {
        let crates = namespace.set.iter().flat_map(|set| &set.crates);
        let tokio = crates.into_iter().any(|name| name == "tokio");
        let asynchronous = split.awaits;
        let names = leaf::leaf_mentions(cell, split);
        let built = |units: &[String]| {
            let units = namespace.items.with_needs(units);
            units.iter().any(|unit| unit.generated.contains("tokio"))
        };
        let uses = || {
            asynchronous || names.contains("tokio") || built(&leaf::units(namespace, &names, split))
        };
        let runtime = (tokio && uses()).then_some(Runtime::ManyThreads);
        let value = split.value.as_ref().map_or(Guess::Unknown, |_| Guess::NotNeeded);
        let set = namespace.set.clone();
        Self { set, asynchronous, runtime, value, ..Self::default() }
    }

    /// Whether the cell moves the variable away, or moved the one it declared in its place.
    pub fn is_moved(&self, name: &str) -> bool {
        self.spent.contains(name)
    }

    /// Whether the variable is to be put back at the end of the cell's own code.
    pub(super) fn is_refilled(&self, name: &str) -> bool {
        self.refilled.contains(name)
    }

    /// Whether the variable is moved away and given another value only now and then.
    pub(super) fn is_half(&self, name: &str) -> bool {
        self.half.contains(name)
    }

    /// Whether the cell moves only a part of the variable away.
    pub(super) fn is_parted(&self, name: &str) -> bool {
        self.parted.contains(name)
    }

    /// Whether the cell declares the variable and gives it no value.
    pub(super) fn is_unset(&self, number: usize) -> bool {
        self.unset.contains(&number)
    }

    /// The user's text is edited so.
    pub(super) fn edits(&self, split: &Split) -> Vec<Edit> {
        let own = self.edits.iter().chain(&self.annotations);
        let mut edits: Vec<Edit> = split.edits.iter().chain(own).cloned().collect();
        edits.sort_by_key(|edit| edit.at);
        edits
    }

    /// The line that stores a new variable; `None` when the cell has moved it away.
    pub(super) fn put(&self, number: usize, name: &str) -> Option<String> {
        if self.gone.contains(&number) {
            return None;
        }
        let type_text = self.types.puts.get(&number).map(String::as_str).unwrap_or_default();
        let value = match self.kept.get(&number) {
            Some(Kept::Spelled(texts)) => {
                let text = &texts[0];
                return Some(format!(
                    "::prust_runtime::slots::put::<{number}, {text}>({name:?}, {name});\n"
                ));
            }
            Some(Kept::Asked) => return Some(format!("let () = {name};\n")),
            Some(Kept::Typed(form)) => keep::kept(name, type_text, &self.types, *form),
            Some(Kept::Bounded(form, bounds)) => keep::kept_opaque(name, bounds, *form),
            Some(Kept::Hidden(form)) => Some(keep::kept_hidden(name, *form)),
            Some(Kept::Never) | None => None,
        };
        let value = value.map(|value| self.rooted(&value)).unwrap_or_else(|| name.to_owned());
        Some(format!("::prust_runtime::slots::put::<{number}, _>({name:?}, {value});\n"))
    }

    /// Crates that the leaf is to name.
    pub(super) fn named(&self) -> &BTreeSet<String> {
        &self.named
    }

    /// The lines and texts of ours with types that begin at crates of the set.
    pub(super) fn spelled(&self) -> impl Iterator<Item = String> {
        let puts = self.kept.keys().filter_map(|number| self.put(*number, "_"));
        puts.chain(self.annotations.iter().map(|edit| edit.insert.clone()))
    }

    /// The type of a variable, where it is written in another way than rustc's.
    pub fn spelling(&self, number: usize, type_text: &str) -> Option<String> {
        match self.kept.get(&number)? {
            Kept::Spelled(texts) => texts.first().cloned(),
            Kept::Typed(_) | Kept::Bounded(..) => {
                let text = mir::writable(type_text);
                Some(self.rooted(&text)).filter(|rooted| *rooted != text)
            }
            _ => None,
        }
    }

    fn rooted(&self, text: &str) -> String {
        self.set.as_ref().map_or_else(|| text.to_owned(), |set| facade::rooted(text, set))
    }

    /// The type to write by hand for a variable that was not kept.
    pub(super) fn by_hand(&self, number: usize) -> Option<String> {
        let shown = self.types.puts.get(&number).filter(|_| !self.hidden.contains_key(&number))?;
        keep::by_hand(shown, &self.types, !self.plain).map(|text| keep::as_people_write(&text))
    }

    /// After a round that compiled: values whose types cannot be written are to be put in another
    /// form. `behind` says where the type of a variable may be written, `text` is the round's.
    /// Whether another round is needed.
    pub fn keep(
        &mut self,
        types: &Types,
        text: &str,
        behind: impl Fn(usize) -> Option<usize>,
    ) -> bool {
        self.fits = !self.annotations.is_empty();
        if self.value == Guess::Asked {
            let text = types.puts.get(&VALUE).filter(|text| mir::unwritable(text).is_none());
            self.silent = text.is_some_and(|text| text == "!");
            self.value = text.map_or(Guess::Unknown, |text| Guess::Known(mir::writable(text)));
            return true;
        }
        let bodies = types.bodies.values();
        let said = bodies.flat_map(|body| body.parameters.iter().chain([&body.result]));
        if self.name(said, text, true) {
            self.types = Types::default();
            return true;
        }
        if self.types == Types::default() {
            self.types = types.clone();
        }
        if self.annotate(types, behind) {
            self.types = Types::default();
            return true;
        }
        let mut more = false;
        for (number, type_text) in &types.puts {
            if self.kept.contains_key(number) || mir::unwritable(type_text).is_none() {
                continue;
            }
            let foreign = mir::labels(type_text)
                .iter()
                .any(|label| label.starts_with("{closure@") && !types.bodies.contains_key(label));
            let form = Form::STRONGEST;
            let kept = if keep::kept("", type_text, types, form).is_some() {
                Kept::Typed(form)
            } else if foreign {
                Kept::Asked
            } else {
                Kept::Never
            };
            more |= kept != Kept::Never;
            self.kept.insert(*number, kept);
        }
        more
    }

    /// A type with a closure inside that captures nothing can be written with a function there.
    fn annotate(&mut self, types: &Types, behind: impl Fn(usize) -> Option<usize>) -> bool {
        if self.plain || !self.annotations.is_empty() {
            return false;
        }
        let takes_functions =
            |text: &str| TAKE_FUNCTIONS.iter().any(|prefix| text.starts_with(prefix));
        for (number, type_text) in types.puts.iter().filter(|(_, text)| takes_functions(text)) {
            let by_hand =
                mir::unwritable(type_text).and_then(|_| keep::by_hand(type_text, types, true));
            if let (Some(text), Some(at)) = (by_hand, behind(*number))
                && !text.contains("dyn ")
            {
                self.annotations.push(Edit {
                    at,
                    remove: 0,
                    insert: format!(": {}", self.rooted(&text)),
                });
            }
        }
        !self.annotations.is_empty()
    }

    /// After a round that compiled as `text`: these `put`s are of types that no later cell can
    /// name, unless they are written as types of crates of the set. Whether another round is
    /// needed.
    pub fn hide(&mut self, numbers: &BTreeSet<usize>, types: &Types, text: &str) -> bool {
        let mut more = false;
        for (number, type_text) in types.puts.iter().filter(|(number, _)| numbers.contains(number))
        {
            let is_boxed =
                matches!(self.kept.get(number), Some(Kept::Typed(_) | Kept::Bounded(..)));
            more |= self.name([type_text], text, is_boxed);
        }
        if more {
            return true;
        }
        for number in numbers {
            let Some(type_text) = types.puts.get(number) else { continue };
            self.hidden.insert(*number, type_text.clone());
            if !self.kept.contains_key(number) {
                let text = mir::writable(type_text);
                let set = self.set.as_ref();
                let texts = set.map(|set| facade::spellings(&text, set)).unwrap_or_default();
                let kept = match texts.is_empty() {
                    true => Kept::Hidden(Form::STRONGEST),
                    false => Kept::Spelled(texts),
                };
                self.kept.insert(*number, kept);
                more = true;
            }
        }
        more
    }

    /// Has crates named that these types begin at, and where `all` is set also such that they lead
    /// through, unless the leaf's `text` does. Whether there are any.
    fn name<'a>(
        &mut self,
        types: impl IntoIterator<Item = &'a String>,
        text: &str,
        all: bool,
    ) -> bool {
        let Some(set) = &self.set else { return false };
        let before = self.named.len();
        for type_text in types {
            let first = facade::beginnings(type_text, set).into_iter();
            let first = first.filter(|name| !text.contains(&format!("{name}::")));
            let others = if all { facade::within(type_text, set) } else { Vec::new() };
            self.named.extend(first.chain(others).cloned());
        }
        self.named.len() > before
    }

    /// Why a variable of this type cannot stay; `None` when it can.
    pub(super) fn unkept(&self, number: usize, type_text: &str) -> Option<&'static str> {
        let hidden = self.hidden.get(&number).is_some_and(|hidden| hidden == type_text);
        let hidden = hidden && self.spelling(number, type_text).is_none();
        let why = hidden.then_some("of a type that is private where it is declared");
        mir::unwritable(type_text).or(why)
    }

    /// After a round that did not compile: what rustc's errors say about lines of ours. Whether
    /// another round is worth it.
    pub fn learn(&mut self, messages: &[Message], book: Book<'_>) -> bool {
        if !self.annotations.is_empty() && !self.fits {
            self.annotations.clear();
            self.plain = true;
            return true;
        }
        let (before, mut is_open) = (self.clone(), false);
        for message in messages.iter().filter(|message| message.level == "error") {
            let code = message.code.as_ref().map(|code| code.code.as_str());
            if code == Some("E0728") {
                self.asynchronous = true;
            } else if code == Some("E0282") && diagnostic::is_in_ours(message, book) {
                self.silent = true;
            } else if matches!(code, Some("E0282" | "E0283" | "E0689")) {
                is_open = true;
            } else if let Some(at) = diagnostic::question_on_none(message, book) {
                let insert = ".ok_or(::prust_runtime::cell::NoneError)".to_owned();
                let edit = Edit { at, remove: 0, insert };
                if !self.edits.contains(&edit) {
                    self.edits.push(edit);
                }
            } else if diagnostic::slot_of(message, &[book]).is_some_and(|(name, _)| name == RUNTIME)
            {
                // A tokio without the features that this takes.
                self.runtime = before.runtime.and_then(Runtime::weaker);
            } else if let Some((name, put)) = diagnostic::slot_of(message, &[book]) {
                self.learn_slot(name, put, message, book.text);
            }
        }
        if *self == before && (is_open || self.value != Guess::NotNeeded) {
            self.value = match self.value {
                Guess::NotNeeded => Guess::Asked,
                _ => Guess::Unknown,
            };
        }
        if *self == before && self.kept.values().any(|kept| *kept != Kept::Never) {
            // The cell compiled before its values were put in another form.
            self.kept.values_mut().for_each(|kept| *kept = Kept::Never);
        }
        *self != before
    }

    /// What an error says about the line of ours that a variable is put by, or put back.
    fn learn_slot(&mut self, name: String, put: Option<usize>, message: &Message, text: &str) {
        let code = message.code.as_ref().map(|code| code.code.as_str());
        let is_gone = matches!(code, Some("E0382" | "E0381"));
        if put.is_none() && self.refilled.remove(&name) {
            if assigned::may_be(text, &name) {
                self.half.insert(name.clone());
            }
            self.spent.insert(name);
            return;
        }
        let may_have = || assigned::may_be(text, &name) || assigned::may_be_by_macro(text, &name);
        if put.is_none() && is_gone && may_have() {
            self.refilled.insert(name);
            return;
        }
        if message.message.contains("partially moved") {
            self.parted.insert(name.clone());
        }
        match (code, put) {
            // A macro's own variable, of a name that it was also given.
            (Some("E0425"), Some(number)) => _ = self.gone.insert(number),
            (Some("E0382" | "E0381"), None) => _ = self.spent.insert(name),
            (Some("E0382" | "E0381"), Some(number)) => {
                self.gone.insert(number);
                if code == Some("E0381") {
                    self.unset.insert(number);
                }
                // What it had shadowed is out of reach, too.
                self.spent.insert(name);
            }
            (_, Some(number)) => self.weaken(number, message),
            (_, None) => (),
        }
    }

    fn weaken(&mut self, number: usize, message: &Message) {
        let Some(kept) = self.kept.get_mut(&number) else { return };
        let weaker = |form: &Form| form.weaker(&message.message);
        *kept = match kept {
            Kept::Asked => known_bounds(message)
                .map_or(Kept::Never, |bounds| Kept::Bounded(Form::STRONGEST, bounds)),
            Kept::Typed(form) => weaker(form).map_or(Kept::Never, Kept::Typed),
            Kept::Bounded(form, bounds) => {
                weaker(form).map_or(Kept::Never, |form| Kept::Bounded(form, bounds.clone()))
            }
            Kept::Hidden(form) => weaker(form).map_or(Kept::Never, Kept::Hidden),
            // Another crate of that name, or private there, too.
            Kept::Spelled(texts) if texts.len() > 1 => Kept::Spelled(texts.split_off(1)),
            Kept::Spelled(_) => Kept::Hidden(Form::STRONGEST),
            Kept::Never => return,
        };
    }
}

/// `this expression has type `Vec<impl Fn(i32) -> i32>``
fn known_bounds(message: &Message) -> Option<String> {
    let labels = message.spans.iter().filter_map(|span| span.label.as_deref());
    let bounds = labels.filter_map(|label| label.split_once("has type `")?.1.strip_suffix('`'));
    bounds.into_iter().find(|bounds| bounds.contains("impl ")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(type_text: &str) -> Types {
        Types { puts: [(0, type_text.to_owned())].into_iter().collect(), ..Types::default() }
    }

    #[test]
    fn a_function_item_is_put_as_a_pointer_in_the_next_round() {
        let mut shape = Shape::default();
        assert!(shape.keep(&types("fn(u8) -> u8 {f}"), "", |_| None));
        let line = shape.put(0, "f").expect("it is stored");
        assert!(line.contains("(\"f\", f as fn(u8) -> u8)"), "{line}");
        assert!(!shape.keep(&types("fn(u8) -> u8"), "", |_| None));
    }

    #[test]
    fn a_type_behind_a_facade_is_written_by_its_own_crate_and_else_as_before() {
        let set = CrateSet { inner: vec!["chan".to_owned()], ..CrateSet::default() };
        let hidden = types("front::chan::Sender<u8>");
        let mut shape = Shape { set: Some(set), ..Shape::default() };
        assert!(shape.hide(&BTreeSet::from([0]), &hidden, ""));
        let line = shape.put(0, "s").expect("it is stored");
        assert!(line.contains("slots::put::<0, ::chan::Sender<u8>>(\"s\", s)"), "{line}");
        assert_eq!(shape.unkept(0, "front::chan::Sender<u8>"), None);
        assert!(!shape.hide(&BTreeSet::from([0]), &hidden, ""));
        let error = r#"{"message": "other types", "code": null, "level": "error"}"#;
        shape.weaken(0, &crate::cell::rustc_json::read(error)[0]);
        assert_eq!(shape.spelling(0, "front::chan::Sender<u8>"), None);
        assert!(shape.unkept(0, "front::chan::Sender<u8>").is_some());
    }

    #[test]
    fn what_has_no_form_is_stored_as_it_is() {
        let mut shape = Shape::default();
        assert!(!shape.keep(&types("{async closure@a.rs:1:1: 1:2}"), "", |_| None));
        assert!(shape.put(0, "f").expect("it is stored").contains("(\"f\", f)"));
    }
}
