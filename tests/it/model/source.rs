//! Reads generated crates as rustc would, by their lines: what stands where, what is imported, and
//! so what each name means where it is said.

use std::collections::{BTreeMap, BTreeSet};

use super::world::{Definition, Mark, bare};

/// The root of a crate, or the module that one item stands in alone.
pub(super) type Place = Option<String>;

#[derive(Debug, Default)]
pub(super) struct Crate {
    items: Vec<(Place, Mark)>,
    /// Place, crate, name.
    uses: Vec<(Place, String, String)>,
    /// Modules whose item the root has, too.
    raised: BTreeSet<(String, String)>,
    /// Inherent impls that are written as those of a trait.
    extensions: BTreeSet<(Place, Mark)>,
    pub(super) text: String,
}

/// The crates of a session, and what stands in them by its mark.
#[derive(Debug, Default)]
pub(super) struct Crates<'a> {
    pub(super) all: BTreeMap<String, Crate>,
    pub(super) definitions: BTreeMap<Mark, &'a Definition>,
}

/// What is wrong with two items of one name.
pub(super) const TWICE: &str = "it stands there twice";

/// One item in one crate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stand {
    pub(super) unit: String,
    pub(super) place: Place,
    pub(super) mark: Mark,
}

pub(super) fn mark_of(text: &str) -> Option<Mark> {
    let numbers = text.split(|letter: char| !letter.is_ascii_digit());
    numbers.filter(|digits| digits.len() == 7).find_map(|digits| digits.parse().ok())
}

impl Crate {
    pub(super) fn read(text: &str) -> Self {
        let mut read = Self { text: text.to_owned(), ..Self::default() };
        let mut place: Place = None;
        let mut in_trait = false;
        for line in text.lines() {
            let word = |start: &str| line.strip_prefix(start);
            // For modules in items; the root has a `use` of the same macro.
            let is_of_modules =
                line.starts_with("#[macro_use(") || line.starts_with("extern crate ");
            if line.starts_with("#![") || line.starts_with("#[allow(async") || is_of_modules {
                continue;
            } else if line == "}" {
                if in_trait {
                    in_trait = false;
                } else {
                    place = None;
                }
            } else if word("pub trait __PrustExtension").is_some() {
                in_trait = true;
            } else if in_trait {
                continue;
            } else if let Some(rest) = word("pub mod __prust_") {
                place = rest.strip_suffix(" {").map(|module| apart(number(module)));
            } else if let Some(rest) = word("pub use ") {
                let (module, name) = rest.trim_end_matches(';').split_once("::").expect("a path");
                let module = module
                    .strip_prefix("__prust_")
                    .map_or(module.to_owned(), |module| apart(number(module)));
                read.raised.insert((module, name.to_owned()));
            } else if let Some(rest) = word("use ::") {
                let (unit, name) = rest.trim_end_matches(';').split_once("::").expect("a path");
                read.uses.push((place.clone(), unit.to_owned(), name.to_owned()));
            } else if let Some(mark) = mark_of(line).filter(|_| !line.starts_with("use ")) {
                if line.starts_with("impl __PrustExtension") {
                    read.extensions.insert((place.clone(), mark));
                }
                read.items.push((place.clone(), mark));
            }
        }
        read
    }
}

/// The module of an item of this number.
fn apart(number: &str) -> String {
    format!("__prust_{number}")
}

/// A module's name says what stands in it, too, behind the number.
fn number(module: &str) -> &str {
    module.split('_').next().unwrap_or(module)
}

impl Crates<'_> {
    /// Everything that stands somewhere.
    pub(super) fn stands(&self) -> impl Iterator<Item = Stand> + '_ {
        self.all.keys().flat_map(|unit| self.of(unit))
    }

    /// Everything that stands in a crate.
    fn of(&self, unit: &str) -> impl Iterator<Item = Stand> + '_ {
        let items = self.all.get(unit).into_iter().flat_map(|each| &each.items);
        let unit = unit.to_owned();
        items.map(move |(place, mark)| Stand {
            unit: unit.clone(),
            place: place.clone(),
            mark: *mark,
        })
    }

    /// The item of this number and mark: in a module of its own, or at the root.
    pub(super) fn stand(&self, unit: &str, id: u64, mark: Mark) -> Stand {
        let apart = Some(apart(&id.to_string()));
        let is_apart = self.all[unit].items.contains(&(apart.clone(), mark));
        let place = apart.filter(|_| is_apart);
        Stand { unit: unit.to_owned(), place, mark }
    }

    pub(super) fn name(&self, of: &Stand) -> &str {
        &self.definitions[&of.mark].name
    }

    /// What `unit::name` is, for others.
    fn public(&self, unit: &str, name: &str) -> Vec<Stand> {
        let items = self.of(unit).filter(|item| {
            let raised = |module: &String| {
                let path = (module.clone(), bare(name).to_owned());
                // A macro stands at the root, wherever it is written.
                self.all[unit].raised.contains(&path) || name.ends_with('!')
            };
            self.name(item) == name && item.place.as_ref().is_none_or(raised)
        });
        items.collect()
    }

    /// What a name is at a place of a crate.
    fn at(&self, unit: &str, place: &Place, name: &str) -> BTreeSet<Stand> {
        let own = self.of(unit).filter(|item| item.place == *place && self.name(item) == name);
        let uses = self.all[unit].uses.iter();
        let named = uses.filter(|(at, _, used)| at == place && used == bare(name));
        let imported = named.flat_map(|(_, other, _)| self.public(other, name));
        own.chain(imported).collect()
    }

    /// What an item's name means; an error when it means nothing, or two things.
    pub(super) fn meaning(&self, of: &Stand, name: &str) -> Result<Stand, String> {
        let Stand { unit, place, mark } = of;
        let mut found = BTreeSet::new();
        if place.is_some() {
            found = self.at(unit, place, name);
        }
        if found.is_empty() {
            found = self.at(unit, &None, name);
            found.extend(self.public(unit, name));
        }
        let mut found = found.into_iter();
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one),
            (None, _) => Err(format!("{name} is not in scope of {mark} in {unit}")),
            (Some(one), Some(other)) => {
                let text = &self.all[unit].text;
                Err(format!("{name} is both {one:?} and {other:?} in {unit}:\n{text}"))
            }
        }
    }

    /// What an item says, with what macros among it make it say there.
    pub(super) fn says(&self, of: &Stand) -> Result<Vec<(String, Option<usize>, Stand)>, String> {
        let mut found = Vec::new();
        let mut seen: BTreeSet<String> = BTreeSet::new();
        let mut open = self.definitions[&of.mark].says.clone();
        while let Some(says) = open.pop() {
            let meant = self.meaning(of, &says.name)?;
            if says.name.ends_with('!') && seen.insert(says.name.clone()) {
                open.extend(self.definitions[&meant.mark].says.iter().cloned());
            }
            found.push((says.name, says.arguments, meant));
        }
        Ok(found)
    }

    /// Why an item does not compile, if so. Macros are looked into where they are used.
    pub(super) fn fault(&self, of: &Stand) -> Option<String> {
        if self.name(of).ends_with('!') {
            return None;
        }
        let says = match self.says(of) {
            Ok(says) => says,
            Err(why) => return Some(why),
        };
        says.into_iter().find_map(|(name, arguments, meant)| {
            let takes = self.definitions[&meant.mark].takes;
            let given = arguments.filter(|given| *given != takes)?;
            Some(format!("{name} takes {takes} arguments, not {given}"))
        })
    }

    /// Whether another item of its crate has its name, or is the impl that it is.
    pub(super) fn double(&self, of: &Stand) -> Option<String> {
        let subjects = self.subjects(of).ok()?;
        let is_same = |other: &Stand| {
            self.name(other) == self.name(of) && self.subjects(other).as_ref() == Ok(&subjects)
        };
        (self.of(&of.unit).filter(is_same).count() > 1).then(|| TWICE.to_owned())
    }

    /// The types and the trait that an impl is for; nothing for other items.
    fn subjects(&self, of: &Stand) -> Result<Vec<Stand>, String> {
        let Some(header) = self.name(of).strip_prefix("impl ") else { return Ok(Vec::new()) };
        let header = header.split('{').next().unwrap_or_default();
        let words = header.split(|letter: char| !letter.is_alphanumeric());
        let says = &self.definitions[&of.mark].says;
        let named = words.filter(|word| says.iter().any(|says| says.name == *word));
        named.map(|name| self.meaning(of, name)).collect()
    }

    /// Why rustc would refuse an impl for where it stands.
    pub(super) fn orphan(&self, of: &Stand) -> Result<(), String> {
        let subjects = self.subjects(of)?;
        let each = &self.all[&of.unit];
        let is_free = each.extensions.contains(&(of.place.clone(), of.mark));
        if subjects.is_empty() || is_free || subjects.iter().any(|one| one.unit == of.unit) {
            return Ok(());
        }
        Err(format!("{of:?} is for nothing of its crate:\n{}", each.text))
    }

    /// What an item is, whole, as the crates say it.
    pub(super) fn shape(&self, of: &Stand) -> Result<String, String> {
        self.shape_within(of, &mut Vec::new())
    }

    fn shape_within(&self, of: &Stand, open: &mut Vec<Stand>) -> Result<String, String> {
        if open.contains(of) {
            return Ok(format!("^{}", of.mark));
        }
        open.push(of.clone());
        let mut parts = BTreeSet::new();
        let is_made_of_names = self.definitions[&of.mark].is_made_of_names();
        for (_, _, meant) in self.says(of)? {
            if is_made_of_names && self.definitions[&meant.mark].decides_types {
                parts.insert(self.shape_within(&meant, open)?);
            }
        }
        open.pop();
        Ok(format!("{}({})", of.mark, parts.into_iter().collect::<Vec<_>>().join(" ")))
    }

    /// What every name means that an item says, and that those which it means say.
    pub(super) fn whole(&self, of: &Stand) -> Result<BTreeSet<(Mark, String, Mark)>, String> {
        let mut whole = BTreeSet::new();
        let mut seen = BTreeSet::from([of.clone()]);
        let mut open = vec![of.clone()];
        while let Some(next) = open.pop() {
            let definition = self.definitions[&next.mark];
            // What a macro names, it names where it is used; what a static began with is begun.
            if definition.name.ends_with('!') || !definition.is_made_of_names() {
                continue;
            }
            for (name, _, meant) in self.says(&next)? {
                whole.insert((next.mark, name, meant.mark));
                if seen.insert(meant.clone()) {
                    open.push(meant);
                }
            }
        }
        Ok(whole)
    }

    /// What is there twice: names that a crate would define or import, impls anywhere.
    pub(super) fn doubles(&self) -> Option<String> {
        let mut impls: BTreeSet<(String, Vec<Stand>)> = BTreeSet::new();
        for (unit, each) in &self.all {
            let mut seen: BTreeSet<&str> = BTreeSet::new();
            for item in self.of(unit) {
                let name = &self.definitions[&item.mark].name;
                let is_new = match self.subjects(&item) {
                    Ok(subjects) if name.starts_with("impl ") => {
                        impls.insert((name.clone(), subjects))
                    }
                    _ => seen.insert(name),
                };
                if !is_new {
                    return Some(format!("{name} stands twice, in {unit}:\n{}", each.text));
                }
            }
            for (place, other, name) in &each.uses {
                for name in [name.clone(), format!("{name}!")] {
                    let given = !self.public(other, &name).is_empty();
                    let own =
                        self.of(unit).any(|item| item.place == *place && self.name(&item) == name);
                    if given && own {
                        return Some(format!("{name} is imported and defined in {unit}"));
                    }
                }
            }
        }
        None
    }
}
