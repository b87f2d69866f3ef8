//! What cargo has resolved: packages with their features, and which of them would be built anew.
//! Reads the words of `cargo tree`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{manifest, store};

/// How `cargo tree` is to print a package.
pub(super) const FORMAT: &str = "|{p}|{f}";

/// A package in one of its forms: the same one with other features is another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Form {
    package: String,
    features: String,
}

/// The packages of a build, with a hash over the features of each and of all that it is built from.
/// Equal hashes mean the same compiled crate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Graph {
    pub(super) packages: BTreeMap<String, BTreeSet<String>>,
    /// Folders of packages on this disk.
    pub(super) paths: BTreeSet<PathBuf>,
}

impl Graph {
    /// Reads `cargo tree --prefix depth --format FORMAT`.
    pub(super) fn read(text: &str) -> Self {
        let mut children: BTreeMap<Form, BTreeSet<Form>> = BTreeMap::new();
        let mut stack: Vec<Form> = Vec::new();
        for line in text.lines() {
            let mut parts = line.splitn(3, '|');
            let (Some(depth), Some(package), Some(features)) =
                (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            let Ok(depth) = depth.trim().parse::<usize>() else { continue };
            let features = features.trim_end_matches(" (*)").trim().to_owned();
            let form = Form { package: package.trim_end_matches(" (*)").to_owned(), features };
            stack.truncate(depth);
            if let Some(parent) = stack.last() {
                children.entry(parent.clone()).or_default().insert(form.clone());
            }
            children.entry(form.clone()).or_default();
            stack.push(form);
        }
        let mut graph = Self::default();
        let mut hashes = BTreeMap::new();
        let users = |form: &&Form| !manifest::is_generated(&form.package);
        for form in children.keys().filter(users) {
            let hash = hash(form, &children, &mut hashes);
            graph.packages.entry(form.package.clone()).or_default().insert(hash);
            graph.paths.extend(path_of(&form.package));
        }
        graph
    }

    /// Names of packages that are here and, with the same version, differ in `newer` or are not
    /// there in this version.
    pub(super) fn changed_in(&self, newer: &Self) -> BTreeSet<String> {
        let changed = self.packages.iter().filter(|(package, forms)| {
            !newer.packages.get(*package).is_some_and(|newer| forms.is_subset(newer))
        });
        changed.map(|(package, _)| name_of(package).to_owned()).collect()
    }

    /// How many packages `newer` has that are not here in the same form.
    pub(super) fn n_new_in(&self, newer: &Self) -> usize {
        let known = |package: &String, forms: &BTreeSet<String>| {
            self.packages.get(package).is_some_and(|known| forms.is_subset(known))
        };
        newer.packages.iter().filter(|(package, forms)| !known(package, forms)).count()
    }

    /// Whether there are several versions of the package that makes this crate.
    pub(super) fn has_several(&self, name: &str) -> bool {
        let names = self.packages.keys().map(|package| name_of(package).replace('-', "_"));
        names.filter(|package| package == name).count() > 1
    }

    pub(super) fn has(&self, name: &str, version: &str) -> bool {
        let start = format!("{name} v{version}.");
        self.packages.keys().any(|package| package.starts_with(&start))
    }
}

/// The graph has no cycles: cargo refuses them.
fn hash(
    form: &Form,
    children: &BTreeMap<Form, BTreeSet<Form>>,
    known: &mut BTreeMap<Form, String>,
) -> String {
    if let Some(hash) = known.get(form) {
        return hash.clone();
    }
    let below: Vec<String> =
        children[form].iter().map(|child| hash(child, children, known)).collect();
    let own = [form.package.as_str(), form.features.as_str()];
    let hash = store::hash(own.into_iter().chain(below.iter().map(String::as_str)));
    known.insert(form.clone(), hash.clone());
    hash
}

pub(super) fn name_of(package: &str) -> &str {
    package.split(' ').next().unwrap_or(package)
}

/// `foo v0.1.0 (/home/me/foo)` lies there.
fn path_of(package: &str) -> Option<PathBuf> {
    let (_, inside) = package.rsplit_once('(')?;
    let path = inside.strip_suffix(')')?;
    path.starts_with('/').then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str =
        "0|prust-notebook v0.0.0 (/n)|\n1|rand v0.9.5|std\n2|libc v0.2.1|\n1|log v0.4.1|";
    const NEW: &str = "0|prust-notebook v0.0.0 (/n)|\n1|rand v0.9.5|std\n2|libc v0.2.1|std\n\
        1|log v0.4.1|\n1|mio v1.0.0|\n2|libc v0.2.1|std (*)";

    #[test]
    fn a_package_changes_with_what_it_is_built_from() {
        let (old, new) = (Graph::read(OLD), Graph::read(NEW));
        let changed = old.changed_in(&new);
        assert_eq!(changed.iter().map(String::as_str).collect::<Vec<_>>(), ["libc", "rand"]);
        assert!(new.has("libc", "0") && !new.has("libc", "1"));
        assert_eq!(old.n_new_in(&new), 3);
        let local = Graph::read("0|prust-notebook v0.0.0 (/n)|\n1|foo v0.1.0 (proc-macro) (/f)|");
        assert_eq!(local.paths.iter().collect::<Vec<_>>(), [&PathBuf::from("/f")]);
    }
}
