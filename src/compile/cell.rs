//! A cell to its libraries: unit, then leaf; again without a variable where rustc says it was
//! moved. The straight path of every cell, local or for the engines.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::base::{self, Base};
use super::books::Books;
use super::dependencies::DependencySet;
use super::imports;
use super::refused;
use super::rustc::{Call, CrateType, Ended, Loading};
use super::store::{self, Store};
use super::toolchain::Toolchain;
use super::units::mixed;
use super::{CompileError, Settings};
use crate::cell::diagnostic::Diagnostic;
use crate::cell::expand::expand;
use crate::cell::included::{Kept, stands_alone};
use crate::cell::mir::{self, Types};
use crate::cell::place::COPY;
use crate::cell::plan::leaf::LeafSlots;
use crate::cell::plan::shape::Shape;
use crate::cell::plan::{self, CratePlan};
use crate::cell::{CrateSet, Delta, Namespace, Split};

/// Optimisation of units, before the user chooses.
pub(super) const OPT_LEVEL_UNIT: u8 = 2;
/// Of leaves with a loop or a closure, and of those without: level 1 makes generic code several
/// times slower to compile, and code that runs once gains nothing from it.
pub(super) const OPT_LEVEL_HOT: u8 = 1;
const OPT_LEVEL_ONCE: u8 = 0;

/// Parts of a package's version, for procedural macros.
const ZERO: [&str; 3] =
    ["CARGO_PKG_VERSION_MAJOR", "CARGO_PKG_VERSION_MINOR", "CARGO_PKG_VERSION_PATCH"];

/// What a package may leave out.
const EMPTY: [&str; 9] = [
    "CARGO_PKG_VERSION_PRE",
    "CARGO_PKG_AUTHORS",
    "CARGO_PKG_DESCRIPTION",
    "CARGO_PKG_HOMEPAGE",
    "CARGO_PKG_REPOSITORY",
    "CARGO_PKG_LICENSE",
    "CARGO_PKG_LICENSE_FILE",
    "CARGO_PKG_README",
    "CARGO_PKG_RUST_VERSION",
];

/// The text of a cell and how to call it in messages.
#[derive(Clone, Copy, Debug)]
pub struct Cell<'a> {
    pub text: &'a str,
    /// `In[5]`
    pub label: &'a str,
    /// The frontend's id of the cell, so that another run of it replaces what it defined; empty
    /// when there is none.
    pub key: &'a str,
}

/// A cell ready to run.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The leaf; `None` when the cell only defines items or imports.
    pub library: Option<PathBuf>,
    /// Libraries to load before it, oldest first.
    pub needs: Vec<PathBuf>,
    /// What changes in the namespace once it has run.
    pub delta: Delta,
    pub warnings: Vec<Diagnostic>,
}

/// Why a cell is not compiled.
#[derive(Debug)]
pub enum Failed {
    /// The user's code has errors.
    Errors(Vec<Diagnostic>),
    /// Something else: the toolchain, the disk.
    World(CompileError),
}

impl From<CompileError> for Failed {
    fn from(error: CompileError) -> Self {
        Self::World(error)
    }
}

/// The compiler of one process. Clones share everything.
#[derive(Clone, Debug)]
pub struct Compiler {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) toolchain: Toolchain,
    pub(super) store: Store,
    pub(super) base: Base,
    pub(super) books: Books,
    pub(super) cwd: PathBuf,
    /// The optimisation that the user chose for everything.
    opt_level: Mutex<Option<u8>>,
    /// Types that later cells can name, by dependency set and text.
    pub(super) nameable: Mutex<BTreeSet<String>>,
    /// Libraries for which all that they need is here.
    pub(super) whole: Mutex<HashSet<String>>,
    /// Units and leaves asked for.
    pub(super) n_built: AtomicU64,
    /// Dependency sets in use, by key.
    pub(super) sets: Mutex<HashMap<String, Arc<DependencySet>>>,
}

/// What is remembered beside a compiled library.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    stderr: String,
    types: Types,
}

impl Compiler {
    /// Finds the toolchain and makes the base ready: tens of milliseconds when it is cached, else
    /// seconds.
    ///
    /// # Errors
    /// [`CompileError`]: no rustc, no shared std, no usable cache directory, a base that does not
    /// build.
    pub async fn open(settings: Settings) -> Result<Self, CompileError> {
        Self::open_telling(settings, |_: &str| ()).await
    }

    /// As [`Compiler::open`]; `tell` is told each step of a build.
    ///
    /// # Errors
    /// As [`Compiler::open`].
    pub async fn open_telling(
        settings: Settings,
        tell: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Self, CompileError> {
        let opened = tokio::task::spawn_blocking(move || {
            let toolchain = Toolchain::find(&settings)?;
            let store = Store::open(&settings.cache, &base::key(&toolchain))?;
            let base = base::ready(&store, &toolchain, Arc::new(tell))?;
            let cwd = settings.cwd;
            let opt_level = Mutex::new(None);
            let (books, sets, n_built) = (Books::default(), Mutex::default(), AtomicU64::new(0));
            let (nameable, whole) = (Mutex::default(), Mutex::new(base.libraries()));
            Ok(Shared {
                toolchain,
                store,
                base,
                books,
                cwd,
                opt_level,
                nameable,
                whole,
                n_built,
                sets,
            })
        });
        let shared = opened.await.expect("opening neither panics nor is cancelled")?;
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Chooses the optimisation of everything that is compiled from now on.
    /// `None`: by what the code is.
    pub fn set_opt_level(&self, level: Option<u8>) {
        *self.shared.opt_level.lock().unwrap_or_else(PoisonError::into_inner) = level;
    }

    /// The user's choice; `None`: by what the code is.
    pub fn opt_level(&self) -> Option<u8> {
        *self.shared.opt_level.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn leaf_opt_level(&self, split: &Split) -> u8 {
        let by_itself = match (&split.around, split.hot) {
            // What is timed is compiled as if it stood in a function.
            (Some(_), _) => OPT_LEVEL_UNIT,
            (None, true) => OPT_LEVEL_HOT,
            (None, false) => OPT_LEVEL_ONCE,
        };
        self.opt_level().unwrap_or(by_itself)
    }

    /// The worker executable that matches the cells.
    pub fn worker(&self) -> &Path {
        &self.shared.base.worker
    }

    /// What the engines that this process starts need not find out: the value of [`TOOLCHAIN`].
    ///
    /// [`TOOLCHAIN`]: super::TOOLCHAIN
    pub fn toolchain(&self) -> Option<String> {
        self.shared.toolchain.tell()
    }

    /// `rustc -vV`.
    pub fn version(&self) -> &str {
        &self.shared.toolchain.version
    }

    /// The store's directory.
    pub fn store(&self) -> &Path {
        &self.shared.store.root
    }

    pub(super) fn source_file(&self, name: &str) -> PathBuf {
        self.shared.store.src().join(format!("{name}.rs"))
    }

    pub(super) fn library_file(&self, name: &str) -> PathBuf {
        self.shared.store.lib().join(format!("lib{name}.so"))
    }

    /// Compiles a cell against a namespace. The namespace is not changed: apply the delta when it
    /// has run.
    ///
    /// # Errors
    /// [`Failed`]; nothing has changed then.
    pub async fn cell(&self, namespace: &Namespace, cell: Cell<'_>) -> Result<Compiled, Failed> {
        let split = self.split(cell);
        self.compile(namespace, cell, split, false).await
    }

    pub(super) fn split(&self, cell: Cell<'_>) -> Split {
        // A thread remembers every text that it has taken tokens of, for their places: nobody has
        // any of an earlier cell.
        proc_macro2::extra::invalidate_current_thread_spans();
        let mut split = Split::read(cell.text);
        let folder = self.shared.cwd.display().to_string();
        split.include_from(cell.text, &folder, |path| self.kept_copy(path));
        split
    }

    /// A copy of a file that a cell includes. `None` when it cannot be read or copied: then rustc
    /// says what is wrong with it.
    fn kept_copy(&self, path: &str) -> Option<Kept> {
        let original = self.shared.cwd.join(path);
        let bytes = fs::read(&original).ok()?;
        let called = original.file_name()?.to_string_lossy().into_owned();
        let name = format!("{COPY}{}_{called}", store::hash_of(&bytes));
        let copy = self.shared.store.src().join(&name);
        self.shared.store.hold(name.rsplit_once('.').map_or(&*name, |(stem, _)| stem)).ok()?;
        if !copy.is_file() {
            store::write(&copy, &bytes).ok()?;
        }
        let stands_alone = std::str::from_utf8(&bytes).is_ok_and(stands_alone);
        Some(Kept { path: copy.display().to_string(), stands_alone })
    }

    /// As [`Compiler::cell`], but always with a leaf: what an engine runs to take over the change,
    /// also for a cell that only defines items. With `set` the notebook's crates are taken over,
    /// too.
    ///
    /// # Errors
    /// [`Failed`]; nothing has changed then.
    pub async fn engine_cell(
        &self,
        namespace: &Namespace,
        set: Option<&CrateSet>,
        cell: Cell<'_>,
    ) -> Result<Compiled, Failed> {
        let Some(set) = set.filter(|set| namespace.set.as_ref() != Some(*set)) else {
            return self.compile(namespace, cell, self.split(cell), true).await;
        };
        let renewal = self.renewal(namespace, set).await?;
        let mut scope = namespace.clone();
        scope.apply(&renewal.delta);
        let mut compiled = self.compile(&scope, cell, self.split(cell), true).await?;
        compiled.delta.set = renewal.delta.set;
        compiled.delta.unkept.extend(renewal.delta.unkept);
        compiled.delta.items = compiled.delta.items.or(renewal.delta.items);
        compiled.warnings.extend(renewal.warnings);
        Ok(compiled)
    }

    pub(super) async fn compile(
        &self,
        namespace: &Namespace,
        cell: Cell<'_>,
        mut split: Split,
        always_leaf: bool,
    ) -> Result<Compiled, Failed> {
        refused::depth(cell)?;
        let made = expand(&namespace.items, cell.text, &mut split);
        refused::features(cell, &split, self.version())?;
        refused::file_modules(cell, &split)?;
        let defined = split.items.iter().flat_map(|item| &item.provides);
        let imports_gone = namespace.imports_gone(cell.key, defined);
        let mut imports_lost = namespace.imports_lost(&split.items);
        imports_lost.retain(|key| !imports_gone.contains(key));
        let mut scope = namespace.clone();
        scope.imports.retain(|import| !imports_gone.contains(&import.key));
        scope.lose(&imports_lost);
        let before = namespace;
        let namespace = &scope.clone();
        let mut warnings = mixed(cell, &made);
        let (mut items, mut hidden) = (None, Vec::new());
        // What an earlier run of this cell defined goes, also where this one defines nothing.
        if !split.items.is_empty() || namespace.items.is_of(cell.key) {
            let with_made = Cell { text: &made.text, ..cell };
            let built = self.units(namespace, with_made, &split).await?;
            warnings.extend(built.warnings);
            scope.lose(&built.imports_lost);
            imports_lost.extend(built.imports_lost);
            scope.items = built.items.clone();
            hidden = split.hidden_by_items(&namespace.variables);
            scope.variables.retain(|name, _| !hidden.contains(name));
            items = Some(Box::new(built.items));
        }
        let no_items = items.is_none();
        let leaf_wanted = always_leaf || split.runs() || (no_items && !split.imports.is_empty());
        let (mut library, mut needs, mut delta) = (None, Vec::new(), None);
        if leaf_wanted {
            let (leaf, units, change, more) = self.leaf(&scope, cell, &split).await?;
            warnings.extend(more);
            library = (always_leaf || split.runs()).then_some(leaf);
            needs = units;
            delta = Some(change);
        }
        let mut delta = delta.unwrap_or_else(|| {
            let nothing = std::collections::BTreeMap::new();
            let (slots, shape) = (LeafSlots::default(), Shape::default());
            plan::leaf::delta(cell.label, &split, &slots, &shape, &nothing, cell.text).0
        });
        delta.items = items;
        delta.unkept.extend(hidden);
        delta.imports_gone = imports_gone;
        delta.imports_lost.extend(imports_lost);
        warnings.extend(imports::told(before, &delta.imports_lost));
        delta.imports.iter_mut().for_each(|import| cell.key.clone_into(&mut import.of));
        Ok(Compiled { library, needs, delta, warnings })
    }

    #[expect(clippy::too_many_arguments, reason = "what one rustc call is made of")]
    pub(super) fn call(
        &self,
        name: &str,
        file: &str,
        crate_type: CrateType,
        plan: &CratePlan,
        set: Option<&DependencySet>,
        namespace: &Namespace,
        opt_level: u8,
    ) -> Call {
        let shared = &self.shared;
        let mut externs = vec![("prust_runtime".to_owned(), shared.base.runtime.clone())];
        let units = namespace.items.with_needs(&plan.units);
        externs.extend(
            units.into_iter().map(|unit| (unit.name.clone(), self.library_file(&unit.file))),
        );
        let set_or_base = set.unwrap_or(&shared.base.set);
        if plan.set {
            externs.extend(set_or_base.externs.iter().cloned());
            if !plan.inner.is_empty() {
                let behind = set_or_base.inner().filter(|(name, _)| plan.inner.contains(name));
                externs.extend(behind);
            }
        } else if plan.api {
            externs.extend(set_or_base.api.iter().cloned());
        }
        let leaf = crate_type == CrateType::Cdylib;
        let output = self.library_file(file);
        Call {
            crate_name: name.to_owned(),
            crate_type,
            source: self.source_file(file),
            mir: leaf.then(|| store::scratch_name(&output.with_extension("mir"))),
            output,
            externs,
            search: vec![shared.store.lib(), shared.store.deps()],
            // Inlined code may call what its crate was linked with.
            native: set.map(|set| set.native.clone()).unwrap_or_default(),
            exports: None,
            loading: self.loading(name, plan, namespace),
            metadata: name.to_owned(),
            environment: self.environment(set),
            opt_level,
            cwd: shared.cwd.clone(),
            linker: shared.toolchain.linker.clone(),
        }
    }

    /// Statics are where they were first: what is built with others of their crate's name needs its
    /// own crates to be searched before those of the first ones.
    fn loading(&self, name: &str, plan: &CratePlan, namespace: &Namespace) -> Loading {
        let items = &namespace.items;
        let own = items.unit(name).and_then(|unit| unit.storage.as_ref());
        let units = items.with_needs(&plan.units);
        let is_split = units.iter().any(|unit| unit.storage.is_some());
        let needs = units.iter().filter(|_| is_split).map(|unit| self.library_file(&unit.file));
        Loading { instead: own.map(|storage| storage.file.clone()), needs: needs.collect() }
    }

    /// What procedural macros expect of cargo: the notebook's folder and a package. `env!` gives it
    /// to cells, too.
    fn environment(&self, set: Option<&DependencySet>) -> Vec<(&'static str, String)> {
        let shared = &self.shared;
        let project = &set.unwrap_or(&shared.base.set).project;
        let text = |path: &Path| path.display().to_string();
        let mut known = vec![
            ("CARGO", text(&shared.toolchain.cargo)),
            ("CARGO_MANIFEST_DIR", text(&shared.cwd)),
            ("CARGO_MANIFEST_PATH", text(&project.join("Cargo.toml"))),
            ("CARGO_CRATE_NAME", "notebook".to_owned()),
            ("CARGO_PKG_NAME", "notebook".to_owned()),
            ("CARGO_PKG_VERSION", "0.0.0".to_owned()),
        ];
        known.extend(ZERO.map(|name| (name, "0".to_owned())));
        known.extend(EMPTY.map(|name| (name, String::new())));
        known
    }

    /// Runs rustc unless the store has the library already.
    pub(super) async fn build(
        &self,
        name: &str,
        call: &Call,
        plan: &CratePlan,
    ) -> Result<(Ended, Types), CompileError> {
        let record_file = self.shared.store.record(name);
        let held = self.shared.store.hold(name);
        held.map_err(|source| CompileError::Cache { path: record_file.clone(), source })?;
        self.sweep_now_and_then();
        let known = || {
            let record: Record = serde_json::from_slice(&fs::read(&record_file).ok()?).ok()?;
            let Record { stderr, types } = record;
            call.output.is_file().then_some((Ended { success: true, stderr }, types))
        };
        if let Some(known) = known() {
            return Ok(known);
        }
        // Engines that are given the same plain cell at once compile it once: the others wait and
        // find it.
        let store = self.shared.store.clone();
        let lock_name = name.to_owned();
        let lock = tokio::task::spawn_blocking(move || store.lock(&lock_name));
        let _lock = lock.await.expect("locking neither panics nor is cancelled")?;
        if let Some(known) = known() {
            return Ok(known);
        }
        let cache = |path: &Path| {
            let path = path.to_owned();
            move |source| CompileError::Cache { path, source }
        };
        store::write(&call.source, plan.source.text.as_bytes()).map_err(cache(&call.source))?;
        // Written elsewhere and renamed: other processes see the library whole or not at all. The
        // file's own name is what SONAME and NEEDED say, so the scratch is a folder, not another
        // name.
        let scratch = store::scratch_name(&call.output);
        fs::create_dir(&scratch).map_err(cache(&scratch))?;
        let built = scratch.join(call.output.file_name().unwrap_or_default());
        let elsewhere = Call { output: built.clone(), ..call.clone() };
        let ended = elsewhere.run(&self.shared.toolchain).await;
        let mut types = Types::default();
        if let Some(file) = &call.mir {
            types = mir::read(&fs::read_to_string(file).unwrap_or_default());
            // Read once; a leftover would only take room.
            let _ = fs::remove_file(file);
        }
        let kept = match &ended {
            Ok(ended) if ended.success => self.keep(&built, call, &record_file, ended, &types),
            _ => Ok(()),
        };
        let _ = fs::remove_dir_all(&scratch);
        kept.map_err(cache(&call.output))?;
        Ok((ended?, types))
    }

    fn keep(
        &self,
        built: &Path,
        call: &Call,
        record_file: &Path,
        ended: &Ended,
        types: &Types,
    ) -> std::io::Result<()> {
        fs::rename(built, &call.output)?;
        let record = Record { stderr: ended.stderr.clone(), types: types.clone() };
        let text = serde_json::to_vec(&record).expect("texts always serialise");
        store::write(record_file, &text)
    }
}
