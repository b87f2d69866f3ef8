//! Dependency sets: what `:dep` lines ask for, built by cargo in one graph with what the `prust`
//! crate uses, and put into shared libraries upon those of the set before. What has been built once
//! is known by the set before and the text.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use toml::Table;

use super::CompileError;
use super::cargo;
use super::cell::{Compiler, Failed};
use super::graph::Graph;
use super::layers::{self, Crate, Layer, Maker};
use super::local::{self, Local};
use super::refusal::{self, DependencyError};
use super::store::{self, Store};
use super::{base, manifest, wanted};
use crate::cell::{CrateSet, Delta, Diagnostic, Namespace};

/// Records remembered; they can be read again.
const SETS_MAX: usize = 64;

/// A built set.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct DependencySet {
    /// A `[dependencies]` table: what was asked for, in all.
    pub(super) wanted: String,
    /// Name and file of every crate that a cell may name.
    pub(super) externs: Vec<(String, PathBuf)>,
    /// The `prust` crate in force and the crates it is built over.
    pub(super) api: Vec<(String, PathBuf)>,
    /// Oldest first.
    pub(super) layers: Vec<Layer>,
    pub(super) crates: Vec<Crate>,
    pub(super) graph: Graph,
    /// Where the lock file is.
    pub(super) project: PathBuf,
    /// Folders with libraries in other languages.
    pub(super) native: Vec<PathBuf>,
    pub(super) local: Vec<Local>,
}

/// What a build says before it has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A line of cargo's, such as `Compiling serde v1.0.0`.
    Line(String),
    /// These crates will be other ones than before, and their values no longer be usable.
    Changes(BTreeSet<String>),
    /// So many packages are to be compiled.
    Packages(usize),
}

/// A set that can be used.
#[derive(Clone, Debug)]
pub struct Added {
    pub set: CrateSet,
    /// What the user should know.
    pub remarks: Vec<String>,
}

/// What a set changes in a namespace.
#[derive(Clone, Debug)]
pub struct Renewal {
    pub delta: Delta,
    /// Crates that are other ones than before.
    pub lost: BTreeSet<String>,
    /// About items that could not follow.
    pub warnings: Vec<Diagnostic>,
}

/// Is told how a build goes on.
pub type Tell = Arc<dyn Fn(Progress) + Send + Sync>;

impl DependencySet {
    fn crate_set(&self, key: &str) -> CrateSet {
        let names = |externs: &[(String, PathBuf)]| {
            externs.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>()
        };
        let is_renamed = |(name, file): &&(String, PathBuf)| {
            self.crates.iter().any(|one| one.file == *file && one.name != *name && !one.proc_macro)
        };
        let renamed: Vec<_> = self.externs.iter().filter(is_renamed).cloned().collect();
        let libraries = self.layers.iter().map(|layer| layer.name.clone());
        let is_needed = |name: &String| name != "prust" || self.asks_for_what_the_base_holds();
        CrateSet {
            key: key.to_owned(),
            libraries: libraries.filter(is_needed).collect(),
            crates: names(&self.externs).into_iter().filter(|name| name != "prust").collect(),
            renamed: names(&renamed),
            inner: self.inner().map(|(name, _)| name).collect(),
        }
    }

    /// Name and file of each crate that those which cells may name are built from. Of two crates of
    /// one name it is the one that was there first; none, where they came together.
    pub(super) fn inner(&self) -> impl Iterator<Item = (String, PathBuf)> {
        let mut inner: BTreeMap<&str, Option<&PathBuf>> =
            self.externs.iter().map(|(name, _)| (name.as_str(), None)).collect();
        for layer in &self.layers {
            let mut here: BTreeMap<&str, Option<&PathBuf>> = BTreeMap::new();
            let held = |one: &&Crate| !one.proc_macro && layer.holds.contains(&one.identity());
            for Crate { name, file, .. } in self.crates.iter().filter(held) {
                let one = here.entry(name).or_insert(Some(file));
                *one = one.filter(|known| *known == file);
            }
            for (name, file) in here {
                inner.entry(name).or_insert(file);
            }
        }
        let named = inner.into_iter().filter_map(|(name, file)| Some((name.into(), file?.clone())));
        named.collect::<Vec<(String, PathBuf)>>().into_iter()
    }

    /// Whether a crate that the user has asked for is in the library of the `prust` crate.
    fn asks_for_what_the_base_holds(&self) -> bool {
        let Some(base) = self.layers.iter().find(|layer| layer.name == "prust") else {
            return false;
        };
        let wanted: Table = self.wanted.parse().expect("it was written by us");
        let asked = |name: &str| wanted.keys().any(|asked| asked.replace('-', "_") == name);
        let mut files = self.externs.iter().filter(|(name, _)| asked(name)).map(|(_, file)| file);
        files.any(|file| {
            let mut crates = self.crates.iter().filter(|one| one.file == *file);
            crates.any(|one| base.holds.contains(&one.identity()))
        })
    }

    /// Names, as types have them, of crates that are not the same in `newer`.
    fn lost_in(&self, newer: &Self) -> BTreeSet<String> {
        let identities: BTreeSet<String> = newer.crates.iter().map(Crate::identity).collect();
        let is_lost = |one: &&Crate| !one.proc_macro && !identities.contains(&one.identity());
        let lost: Vec<&Crate> = self.crates.iter().filter(is_lost).collect();
        let survives =
            |name: &str| self.crates.iter().any(|one| one.name == name && !lost.contains(&one));
        let named =
            self.externs.iter().filter(|(_, file)| lost.iter().any(|one| one.file == *file));
        let mut names: BTreeSet<String> = named.map(|(name, _)| name.clone()).collect();
        names.extend(lost.iter().map(|one| &one.name).filter(|name| !survives(name)).cloned());
        if self.api != newer.api {
            names.insert("prust".to_owned());
        }
        let known: BTreeMap<_, _> = newer.externs.iter().cloned().chain(newer.inner()).collect();
        let is_linked = |(_, file): &&(String, PathBuf)| {
            self.crates.iter().any(|one| one.file == *file && !one.proc_macro)
        };
        let meant = self.externs.iter().filter(is_linked).cloned().chain(self.inner());
        let is_other = |(name, file): &(String, PathBuf)| {
            known.get(name).and_then(|known| known.file_name()) != file.file_name()
        };
        let others = meant.filter(is_other);
        names.extend(others.map(|(name, _)| name));
        names
    }

    /// Names of crates that will be other ones with `newer`, as far as cargo's choice says it.
    fn changes(&self, wanted: &Table, newer: &Graph) -> Option<Progress> {
        let changed = self.graph.changed_in(newer);
        let mut names: BTreeSet<String> =
            changed.iter().map(|name| name.replace('-', "_")).collect();
        if names.contains("serde") || names.contains("serde_json") {
            names.insert("prust".to_owned());
        }
        // The name that types of variables have is the other version's then.
        let asked: BTreeSet<String> = wanted.keys().map(|name| name.replace('-', "_")).collect();
        let inner = self.inner().map(|(name, _)| name).filter(|name| asked.contains(name));
        names.extend(inner.filter(|name| newer.has_several(name)));
        (!names.is_empty()).then_some(Progress::Changes(names))
    }

    fn is_edited(&self) -> bool {
        self.local.iter().any(Local::is_edited)
    }
}

fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T, CompileError> {
    let cache = |source| CompileError::Cache { path: path.to_owned(), source };
    let text = fs::read(path).map_err(cache)?;
    serde_json::from_slice(&text).map_err(|error| cache(std::io::Error::other(error)))
}

fn write(path: &Path, value: &impl Serialize) -> Result<(), CompileError> {
    let cache = |source| CompileError::Cache { path: path.to_owned(), source };
    fs::create_dir_all(path.parent().expect("it is below the store")).map_err(cache)?;
    let text = serde_json::to_vec(value).expect("texts always serialise");
    store::write(path, &text).map_err(cache)
}

/// Loads the record of a set that was built before.
pub(super) fn load(store: &Store, key: &str) -> Result<DependencySet, CompileError> {
    read(&store.root.join("sets").join(format!("{key}.json")))
}

/// A build under way.
struct Build<'a> {
    compiler: &'a Compiler,
    old: &'a DependencySet,
    /// All that is asked for by now.
    wanted: &'a Table,
    project: PathBuf,
    tell: Tell,
    remarks: Vec<String>,
}

impl Compiler {
    /// The `[dependencies]` of a set, in the words of a manifest; empty for the base set.
    ///
    /// # Errors
    /// [`CompileError`]: the set is gone from the cache.
    pub fn dependencies(&self, set: Option<&CrateSet>) -> Result<String, CompileError> {
        Ok(self.set_of(set)?.map(|set| set.wanted.clone()).unwrap_or_default())
    }

    /// The set with the crates of `set` and those of `text`: `:dep` lines, a `[dependencies]` table
    /// or a cargo-script front matter. Builds what is not there. Without text it is `set` again,
    /// with packages of this disk as they are now.
    ///
    /// # Errors
    /// [`DependencyError`]; the old set stays in force. Dropping the call ends cargo.
    pub async fn add_dependencies(
        &self,
        set: Option<&CrateSet>,
        text: &str,
        tell: Tell,
    ) -> Result<Added, DependencyError> {
        let shared = &self.shared;
        let store = &shared.store;
        let old = self.set_of(set)?;
        let old = old.as_deref().unwrap_or(&shared.base.set);
        let (new, remarks) = wanted::read(text, &shared.cwd).map_err(refusal::syntax)?;
        let mut all: Table = old.wanted.parse().expect("it was written by us");
        all.extend(new);
        let all_text = toml::to_string(&all).expect("what was read can be written");
        let old_key = set.map(|set| set.key.as_str()).unwrap_or_default();
        let request = store::hash([old_key, &all_text, &manifest::widest()]);
        let record = store.root.join("requests").join(format!("{request}.json"));
        let known = || {
            let key: String = read(&record).ok()?;
            let known = load(store, &key).ok().filter(|known| !known.is_edited())?;
            known.layers.iter().all(|layer| layer.file.is_file()).then_some((key, known))
        };
        let found = |key: &str, new: &DependencySet| {
            if let Some(changes) = old.changes(&all, &new.graph) {
                tell(changes);
            }
            new.crate_set(key)
        };
        if let Some((key, new)) = known() {
            return Ok(Added { set: found(&key, &new), remarks });
        }
        let _lock = self.lock_store().await?;
        // Another notebook may have built it meanwhile.
        if let Some((key, new)) = known() {
            return Ok(Added { set: found(&key, &new), remarks });
        }
        let project = store.root.join("projects").join(&request);
        let wanted = &all;
        let tell = tell.clone();
        let mut build = Build { compiler: self, old, wanted, project, tell, remarks };
        let new = DependencySet { wanted: all_text.clone(), ..build.run().await? };
        let layers = new.layers.iter().map(|layer| layer.file.to_str().unwrap_or_default());
        let externs =
            new.externs.iter().flat_map(|(name, file)| [name, file.to_str().unwrap_or("")]);
        let fingerprints = new.local.iter().map(|local| local.fingerprint.as_str());
        let parts = [all_text.as_str()].into_iter().chain(layers).chain(externs);
        let key = store::hash(parts.chain(fingerprints));
        write(&store.root.join("sets").join(format!("{key}.json")), &new)?;
        write(&record, &key)?;
        Ok(Added { set: new.crate_set(&key), remarks: build.remarks })
    }

    /// Whether a package of this disk that the set uses has been edited since it was built.
    pub fn is_edited(&self, set: Option<&CrateSet>) -> bool {
        set.is_some() && self.set_of(set).is_ok_and(|set| set.is_some_and(|set| set.is_edited()))
    }

    /// What another set changes in a namespace: variables of crates that are other ones now are
    /// lost, items that name them are made anew.
    ///
    /// # Errors
    /// [`Failed`]: not even the older items compile.
    pub async fn renewal(&self, namespace: &Namespace, set: &CrateSet) -> Result<Renewal, Failed> {
        let lost = self.lost(namespace.set.as_ref(), set)?;
        let mut scope = namespace.clone();
        let unkept = namespace.variables_of(&lost);
        let set = Some(set.clone());
        scope.apply(&Delta { set: set.clone(), unkept: unkept.clone(), ..Delta::default() });
        let renewed = self.renewed_items(&scope, &lost).await?;
        let (items, warnings) = match renewed {
            Some(units) => (Some(Box::new(units.items)), units.warnings),
            None => (None, Vec::new()),
        };
        let delta = Delta { set, unkept, items, ..Delta::default() };
        Ok(Renewal { delta, lost, warnings })
    }

    /// Crates that are other ones in `new` than in `old`.
    pub(super) fn lost(
        &self,
        old: Option<&CrateSet>,
        new: &CrateSet,
    ) -> Result<BTreeSet<String>, CompileError> {
        let (known, new) = (self.set_of(old)?, self.set_of(Some(new))?);
        let old = known.as_deref().unwrap_or(&self.shared.base.set);
        Ok(new.map(|new| old.lost_in(&new)).unwrap_or_default())
    }

    /// The record of a set.
    pub(super) fn set_of(
        &self,
        set: Option<&CrateSet>,
    ) -> Result<Option<Arc<DependencySet>>, CompileError> {
        let Some(set) = set else { return Ok(None) };
        let mut sets = self.shared.sets.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(known) = sets.get(&set.key) {
            return Ok(Some(known.clone()));
        }
        let loaded = Arc::new(load(&self.shared.store, &set.key)?);
        if sets.len() >= SETS_MAX {
            sets.clear();
        }
        sets.insert(set.key.clone(), loaded.clone());
        Ok(Some(loaded))
    }

    async fn lock_store(&self) -> Result<fs::File, CompileError> {
        let store = self.shared.store.clone();
        let lock = tokio::task::spawn_blocking(move || store.lock("cargo"));
        lock.await.expect("locking neither panics nor is cancelled")
    }
}

impl Build<'_> {
    async fn run(&mut self) -> Result<DependencySet, DependencyError> {
        let shared = &self.compiler.shared;
        let store = &shared.store;
        let tell = self.tell.clone();
        let project = self.project.clone();
        let mut call = cargo::Call {
            toolchain: &shared.toolchain,
            project: &project,
            target: base::target(store),
            offline: false,
            wrapper: None,
            tell: Arc::new(move |line: &str| tell(Progress::Line(line.to_owned()))),
        };
        let graph = self.resolve(&mut call).await?;
        if let Some(changes) = self.old.changes(self.wanted, &graph) {
            (self.tell)(changes);
        }
        (self.tell)(Progress::Packages(self.old.graph.n_new_in(&graph)));
        let local: Vec<Local> = graph.paths.iter().map(|folder| Local::look(folder)).collect();
        call.wrapper = local::wrapper(store, &local)?;
        let (artifacts, ended) = call.build().await?;
        if !ended.success {
            return Err(refusal::build(&ended.stderr, &artifacts.errors, &project));
        }
        let crates = layers::keep(store, &call.target.join(&shared.toolchain.host), &artifacts)?;
        let direct = call.direct().await?;
        let named = layers::named(&direct.base, &crates);
        let native: BTreeSet<PathBuf> = artifacts.native.into_iter().collect();
        let native: Vec<PathBuf> = native.into_iter().collect();
        let maker = Maker {
            store,
            toolchain: &shared.toolchain,
            runtime: &shared.base.runtime,
            native: &native,
            foreign: artifacts.foreign,
        };
        let (layers, api) = self.layers(&maker, &crates, &named).await?;
        let mut externs = layers::named(&direct.notebook, &crates);
        let libraries = layers.iter().map(|layer| (layer.name.clone(), layer.file.clone()));
        for (name, file) in api.iter().cloned().chain(libraries) {
            // The user may have asked for another serde.
            if externs.iter().all(|(taken, _)| *taken != name) {
                externs.push((name, file));
            }
        }
        let wanted = String::new();
        Ok(DependencySet { wanted, externs, api, layers, crates, graph, project, native, local })
    }

    /// Has cargo choose the versions and features.
    async fn resolve(&mut self, call: &mut cargo::Call<'_>) -> Result<Graph, DependencyError> {
        let mut widened = manifest::to_widen(&self.old.graph);
        self.write(&widened, true)?;
        let mut ended = call.tree().await?;
        if !ended.success && !refusal::is_users(&ended.stderr) {
            let online = ended;
            call.offline = true;
            ended = call.tree().await?;
            if !ended.success {
                return Err(refusal::build(&online.stderr, "", &self.project));
            }
            self.remarks.push(
                "the network cannot be reached: crates are taken from cargo's own cache".to_owned(),
            );
        }
        if !ended.success {
            return Err(refusal::build(&ended.stderr, "", &self.project));
        }
        let graph = Graph::read(&ended.stdout);
        let n_widened = widened.len();
        widened = manifest::to_widen(&graph);
        if widened.len() == n_widened {
            return Ok(graph);
        }
        self.write(&widened, false)?;
        let ended = call.tree().await?;
        if !ended.success {
            return Err(refusal::build(&ended.stderr, "", &self.project));
        }
        Ok(Graph::read(&ended.stdout))
    }

    fn write(&self, widened: &[&manifest::Wide], fresh: bool) -> Result<(), CompileError> {
        base::write_project(&self.project, self.wanted, widened)?;
        let (old, new) = (self.old.project.join("Cargo.lock"), self.project.join("Cargo.lock"));
        if fresh && old.is_file() && old != new {
            // What was chosen before stays, as far as it can.
            store::copy(&old, &new).map_err(|source| CompileError::Cache { path: new, source })?;
        }
        Ok(())
    }

    /// The libraries; with a `prust` crate of their own if serde is another one now.
    async fn layers(
        &self,
        maker: &Maker<'_>,
        crates: &[Crate],
        named: &[(String, PathBuf)],
    ) -> Result<(Vec<Layer>, Vec<(String, PathBuf)>), DependencyError> {
        let built = maker.layers(&self.old.layers, crates).await?;
        let mut layers = built.map_err(|output| refusal::link(&output))?;
        let serde = |of: &[(String, PathBuf)]| of[1..].to_vec();
        let api = base::externs(named, &Layer::default());
        if serde(&api) == serde(&self.old.api) {
            return Ok((layers, self.old.api.clone()));
        }
        let beneath: Vec<Layer> = layers.iter().filter(|layer| !layer.local).cloned().collect();
        let layer = base::api(maker, named, &beneath).await?;
        let api = base::externs(named, &layer);
        layers.push(layer);
        Ok((layers, api))
    }
}

#[cfg(test)]
#[path = "dependencies_tests.rs"]
mod tests;
