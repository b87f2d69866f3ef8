//! Reads generated crates as rustc would, by their lines: what stands where, what is imported, and
//! so what each name means where it is said.

use std::collections::{BTreeMap, BTreeSet};

use super::world::{Definition, Mark, bare};

/// The root of a crate, or the module that one item stands in alone.
type Place = Option<String>;

#[derive(Debug, Default)]
pub(super) struct Crate {
    items: Vec<(Place, Mark)>,
    /// Place, crate, name.
    uses: Vec<(Place, String, String)>,
    /// Modules whose item the root has, too.
    raised: BTreeSet<(String, String)>,
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
pub(super) type Stand = (String, Mark);

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
            if line.starts_with("#![") || line.starts_with("#[allow(async") {
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
                place = rest.strip_suffix(" {").map(|number| format!("__prust_{number}"));
            } else if let Some(rest) = word("pub use ") {
                let (module, name) = rest.trim_end_matches(';').split_once("::").expect("a path");
                read.raised.insert((module.to_owned(), name.to_owned()));
            } else if let Some(rest) = word("use ::") {
                let (unit, name) = rest.trim_end_matches(';').split_once("::").expect("a path");
                read.uses.push((place.clone(), unit.to_owned(), name.to_owned()));
            } else if let Some(mark) = mark_of(line).filter(|_| !line.starts_with("use ")) {
                read.items.push((place.clone(), mark));
            }
        }
        read
    }
}

impl Crates<'_> {
    /// Everything that stands somewhere.
    pub(super) fn stands(&self) -> impl Iterator<Item = Stand> + '_ {
        self.all
            .iter()
            .flat_map(|(unit, each)| each.items.iter().map(move |(_, mark)| (unit.clone(), *mark)))
    }

    /// What `unit::name` is, for others.
    fn public(&self, unit: &str, name: &str) -> Vec<Mark> {
        let Some(each) = self.all.get(unit) else { return Vec::new() };
        let items = each.items.iter().filter(|(place, mark)| {
            let own = self.definitions[mark].name == name;
            let raised = |module: &String| {
                let path = (module.clone(), bare(name).to_owned());
                // A macro stands at the root, wherever it is written.
                each.raised.contains(&path) || name.ends_with('!')
            };
            own && place.as_ref().is_none_or(raised)
        });
        items.map(|(_, mark)| *mark).collect()
    }

    /// What a name is at a place of a crate.
    fn at(&self, unit: &str, place: &Place, name: &str) -> BTreeSet<Stand> {
        let each = &self.all[unit];
        let named =
            |(at, mark): &&(Place, Mark)| at == place && self.definitions[mark].name == name;
        let own = each.items.iter().filter(named).map(|(_, mark)| (unit.to_owned(), *mark));
        let imported =
            each.uses.iter().filter(|(at, _, used)| at == place && used == bare(name)).flat_map(
                |(_, other, _)| {
                    self.public(other, name).into_iter().map(move |mark| (other.clone(), mark))
                },
            );
        own.chain(imported).collect()
    }

    /// What an item's name means; an error when it means nothing, or two things.
    pub(super) fn meaning(&self, of: &Stand, name: &str) -> Result<Stand, String> {
        let (unit, mark) = of;
        let places = self.all[unit].items.iter().filter(|(_, each)| each == mark);
        let place = places.map(|(place, _)| place).next().expect("it stands there");
        let mut found = BTreeSet::new();
        if place.is_some() {
            found = self.at(unit, place, name);
        }
        if found.is_empty() {
            found = self.at(unit, &None, name);
            found.extend(self.public(unit, name).into_iter().map(|mark| (unit.clone(), mark)));
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
        let mut open = self.definitions[&of.1].says.clone();
        while let Some(says) = open.pop() {
            let meant = self.meaning(of, &says.name)?;
            if says.name.ends_with('!') && seen.insert(says.name.clone()) {
                open.extend(self.definitions[&meant.1].says.iter().cloned());
            }
            found.push((says.name, says.arguments, meant));
        }
        Ok(found)
    }

    /// Why an item does not compile, if so. Macros are looked into where they are used.
    pub(super) fn fault(&self, of: &Stand) -> Option<String> {
        if self.definitions[&of.1].name.ends_with('!') {
            return None;
        }
        let says = match self.says(of) {
            Ok(says) => says,
            Err(why) => return Some(why),
        };
        says.into_iter().find_map(|(name, arguments, meant)| {
            let takes = self.definitions[&meant.1].takes;
            let given = arguments.filter(|given| *given != takes)?;
            Some(format!("{name} takes {takes} arguments, not {given}"))
        })
    }

    /// Whether another item of its crate has its name.
    pub(super) fn double(&self, of: &Stand) -> Option<String> {
        let name = &self.definitions[&of.1].name;
        let items = self.all[&of.0].items.iter();
        let n_named = items.filter(|(_, mark)| self.definitions[mark].name == *name).count();
        (n_named > 1).then(|| TWICE.to_owned())
    }

    /// What an item is, whole, as the crates say it.
    pub(super) fn shape(&self, of: &Stand) -> Result<String, String> {
        self.shape_within(of, &mut Vec::new())
    }

    fn shape_within(&self, of: &Stand, open: &mut Vec<Stand>) -> Result<String, String> {
        if open.contains(of) {
            return Ok(format!("^{}", of.1));
        }
        open.push(of.clone());
        let mut parts = BTreeSet::new();
        for (_, _, meant) in self.says(of)? {
            if self.definitions[&meant.1].decides_types {
                parts.insert(self.shape_within(&meant, open)?);
            }
        }
        open.pop();
        Ok(format!("{}({})", of.1, parts.into_iter().collect::<Vec<_>>().join(" ")))
    }

    /// Names that a crate would define or import twice.
    pub(super) fn doubles(&self) -> Option<String> {
        for (unit, each) in &self.all {
            let mut seen: BTreeSet<&str> = BTreeSet::new();
            for (_, mark) in &each.items {
                let name = self.definitions[mark].name.as_str();
                if !seen.insert(name) {
                    return Some(format!("{name} stands twice in {unit}:\n{}", each.text));
                }
            }
            for (place, other, name) in &each.uses {
                for name in [name.clone(), format!("{name}!")] {
                    let given = !self.public(other, &name).is_empty();
                    let own = each
                        .items
                        .iter()
                        .any(|(at, mark)| at == place && self.definitions[mark].name == name);
                    if given && own {
                        return Some(format!("{name} is imported and defined in {unit}"));
                    }
                }
            }
        }
        None
    }
}
