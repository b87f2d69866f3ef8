//! What a session's names mean, kept by the one who wrote the cells: a map from name to definition,
//! and what a definition goes on meaning when it could not follow a change.

use std::collections::{BTreeMap, BTreeSet};

/// As it is written; a macro's ends in `!`, and an impl's is its header.
pub(super) type Name = String;
/// A number that stands in the text of one definition and nowhere else.
pub(super) type Mark = u64;

/// A name that a definition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Says {
    pub(super) name: Name,
    /// How many arguments it gives, where it calls a function.
    pub(super) arguments: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Definition {
    pub(super) mark: Mark,
    pub(super) name: Name,
    pub(super) text: String,
    pub(super) says: Vec<Says>,
    /// How many arguments it takes, if it is a function.
    pub(super) takes: usize,
    /// Whether values or places of its own exist: a type, a trait, a static, a module.
    pub(super) has_identity: bool,
    /// Whether it decides what the types are that say it: all but plain functions and impls.
    pub(super) decides_types: bool,
}

impl Definition {
    /// Whether the names that it says are part of what it is: a static's are only what it begins
    /// with.
    pub(super) fn is_made_of_names(&self) -> bool {
        !self.text.starts_with("static ")
    }
}

/// The names in force, and what is known of each definition.
#[derive(Clone, Debug, Default)]
pub(super) struct World {
    pub(super) in_force: BTreeMap<Name, Mark>,
    pub(super) definitions: BTreeMap<Mark, Definition>,
    /// Which cell, by its key, last said a definition.
    keys: BTreeMap<Mark, String>,
    /// What names mean to a definition that does not go with the newer ones.
    kept: BTreeMap<Mark, BTreeMap<Name, Mark>>,
    /// What names meant to a static when it was made: its value has begun with that.
    begun: BTreeMap<Mark, BTreeMap<Name, Mark>>,
    /// And what each of these was, whole.
    begun_with: BTreeMap<Mark, Vec<Option<String>>>,
    /// Names given by `use`: in which module they are.
    pub(super) imports: BTreeMap<Name, Name>,
}

/// What an impl is for.
fn subjects(text: &str) -> impl Iterator<Item = &str> {
    let header = text.strip_prefix("impl ").and_then(|rest| rest.split('{').next());
    let words = header.unwrap_or_default().split(|letter: char| !letter.is_alphanumeric());
    words.filter(|word| !word.is_empty())
}

pub(super) fn bare(name: &str) -> &str {
    name.trim_end_matches('!')
}

impl World {
    pub(super) fn definition(&self, name: &str) -> Option<&Definition> {
        self.in_force.get(name).map(|mark| &self.definitions[mark])
    }

    /// What a name means to a definition.
    pub(super) fn meaning(&self, of: Mark, name: &str) -> Option<Mark> {
        let known =
            |names: &BTreeMap<Mark, BTreeMap<Name, Mark>>| names.get(&of)?.get(name).copied();
        let kept = known(&self.kept).or_else(|| known(&self.begun));
        kept.or_else(|| self.in_force.get(name).copied())
    }

    pub(super) fn keeps_old(&self, mark: Mark) -> bool {
        self.kept.contains_key(&mark)
    }

    /// What a definition says, with what the macros among it make it say.
    pub(super) fn says(&self, mark: Mark) -> Vec<Says> {
        let mut all: Vec<Says> = Vec::new();
        let mut open = self.definitions[&mark].says.clone();
        while let Some(says) = open.pop() {
            if all.contains(&says) {
                continue;
            }
            if says.name.ends_with('!')
                && let Some(of_macro) = self.meaning(mark, &says.name)
            {
                open.extend(self.definitions[&of_macro].says.iter().cloned());
            }
            all.push(says);
        }
        all
    }

    /// Why a definition would not compile, if so.
    pub(super) fn fault(&self, mark: Mark) -> Option<String> {
        self.says(mark).iter().find_map(|says| {
            let Some(meant) = self.meaning(mark, &says.name) else {
                return Some(format!("{} is not defined", says.name));
            };
            let takes = self.definitions[&meant].takes;
            let given = says.arguments.filter(|given| *given != takes)?;
            Some(format!("{} takes {takes} arguments, not {given}", says.name))
        })
    }

    /// Takes a cell in; gives the earlier definitions that do not compile with it, which go on
    /// with what they knew.
    pub(super) fn run(&mut self, key: &str, cell: &[Definition]) -> BTreeSet<Mark> {
        let before = self.clone();
        let names: BTreeSet<&str> = cell.iter().map(|each| bare(&each.name)).collect();
        let again: Vec<Name> = self
            .in_force
            .iter()
            .filter(|(_, mark)| !key.is_empty() && self.keys.get(mark).is_some_and(|k| k == key))
            .map(|(name, _)| name.clone())
            .collect();
        again.iter().for_each(|name| {
            self.in_force.remove(name);
        });
        // Where one name changes, all that a definition says may fit together again.
        let is_tried =
            |mark: &Mark| before.says(*mark).iter().any(|says| names.contains(bare(&says.name)));
        // So it may where a type that it keeps an old one of, or what is made of it, gets an impl.
        let touched: BTreeSet<&str> = cell.iter().flat_map(|each| subjects(&each.text)).collect();
        let is_touched = |name: &Name, meant: &Mark| {
            let of = &before.definitions[meant];
            let is_made_of = || of.says.iter().any(|says| touched.contains(bare(&says.name)));
            touched.contains(bare(name)) || (of.has_identity && is_made_of())
        };
        self.kept.retain(|mark, kept| {
            !is_tried(mark) && !kept.iter().any(|(name, meant)| is_touched(name, meant))
        });
        for definition in cell {
            self.in_force.insert(definition.name.clone(), definition.mark);
            self.keys.insert(definition.mark, key.to_owned());
            self.kept.remove(&definition.mark);
            self.definitions.insert(definition.mark, definition.clone());
        }
        self.begin_statics(cell);
        self.keep_what_is_gone(&before, cell);
        let mut broken = BTreeSet::new();
        for mark in self.in_force.values().copied().collect::<Vec<_>>() {
            let is_new = cell.iter().any(|each| each.mark == mark);
            if is_new || self.fault(mark).is_none() {
                continue;
            }
            broken.insert(mark);
            let kept = before.says(mark).into_iter().filter_map(|says| {
                let meant = before.meaning(mark, &says.name)?;
                (self.in_force.get(&says.name) != Some(&meant)).then_some((says.name, meant))
            });
            let kept: BTreeMap<Name, Mark> = kept.collect();
            self.kept.insert(mark, kept);
        }
        self.kept.retain(|mark, kept| {
            kept.retain(|name, meant| self.in_force.get(name) != Some(meant));
            !kept.is_empty() && self.in_force.values().any(|each| each == mark)
        });
        for definition in cell.iter().filter(|each| !each.is_made_of_names()) {
            let meant = self.begun[&definition.mark].values();
            let with = meant.map(|meant| self.shape(*meant)).collect();
            self.begun_with.insert(definition.mark, with);
        }
        broken
    }

    /// A static that is written again begins with what its names mean by now.
    fn begin_statics(&mut self, cell: &[Definition]) {
        let in_force: BTreeSet<Mark> = self.in_force.values().copied().collect();
        self.begun.retain(|mark, _| in_force.contains(mark));
        for definition in cell.iter().filter(|each| !each.is_made_of_names()) {
            self.begun.remove(&definition.mark);
            let says = self.says(definition.mark).into_iter();
            let meant = says
                .filter_map(|says| Some((self.meaning(definition.mark, &says.name)?, says.name)));
            let meant = meant.map(|(mark, name)| (name, mark)).collect();
            self.begun.insert(definition.mark, meant);
        }
    }

    /// Who says a name that nothing has any more goes on with what had it.
    fn keep_what_is_gone(&mut self, before: &Self, cell: &[Definition]) {
        let is_new = |mark: &Mark| cell.iter().any(|each| each.mark == *mark);
        let all: Vec<Mark> = self.in_force.values().copied().collect();
        for mark in all.into_iter().filter(|mark| !is_new(mark)) {
            // A macro that is kept says names, too.
            let missing = |world: &Self| {
                let mut says = world.says(mark).into_iter();
                says.find_map(|says| match world.meaning(mark, &says.name) {
                    Some(_) => None,
                    None => before.meaning(mark, &says.name).map(|meant| (says.name, meant)),
                })
            };
            while let Some((name, meant)) = missing(self) {
                self.kept.entry(mark).or_default().insert(name, meant);
            }
        }
    }

    /// What the names of a static were when it was made.
    pub(super) fn begun_with(&self, mark: Mark) -> Option<&Vec<Option<String>>> {
        self.begun_with.get(&mark)
    }

    /// What a definition in force is, whole: its text, and that of everything that decides it.
    /// `None` where something in it goes on with an older definition.
    pub(super) fn shape(&self, mark: Mark) -> Option<String> {
        self.shape_within(mark, &mut Vec::new())
    }

    fn shape_within(&self, mark: Mark, open: &mut Vec<Mark>) -> Option<String> {
        if self.keeps_old(mark) {
            return None;
        }
        if open.contains(&mark) {
            return Some(format!("^{mark}"));
        }
        open.push(mark);
        let mut parts = BTreeSet::new();
        let is_made_of_names = self.definitions[&mark].is_made_of_names();
        for says in self.says(mark).iter().filter(|_| is_made_of_names) {
            let meant = self.meaning(mark, &says.name)?;
            if self.definitions[&meant].decides_types {
                parts.insert(self.shape_within(meant, open)?);
            }
        }
        open.pop();
        Some(format!("{mark}({})", parts.into_iter().collect::<Vec<_>>().join(" ")))
    }

    /// Whether a definition leads to a name, by what decides types.
    pub(super) fn leads_to(&self, from: &str, name: &str) -> bool {
        let mut open = vec![from.to_owned()];
        let mut seen = BTreeSet::new();
        while let Some(next) = open.pop() {
            if next == name {
                return true;
            }
            if seen.insert(next.clone())
                && let Some(definition) = self.definition(&next)
            {
                open.extend(self.says(definition.mark).into_iter().map(|says| says.name));
            }
        }
        false
    }
}
