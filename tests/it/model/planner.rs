//! Random sessions through the planner, without a compiler: whatever is defined, redefined, run
//! again or taken back, each name means what the model says, and a type is never another one under
//! the same path.

use std::collections::{BTreeMap, BTreeSet};

use prust_kernel::cell::items::{Advance, Broken, ItemId, Items, advance};
use prust_kernel::cell::plan::leaf::LeafSlots;
use prust_kernel::cell::plan::shape::Shape;
use prust_kernel::cell::plan::{leaf, unit};
use prust_kernel::cell::{Import, Namespace, Split};

use super::cells::{Author, Cell};
use super::source::{Crate, Crates, Stand, TWICE, mark_of};
use super::world::{Mark, World, bare};

/// `PRUST_SEQUENCES` sets another number.
const SEQUENCES: u64 = 1000;
const CELLS: usize = 20;
/// As many as the compiler tries.
const ROUNDS_MAX: usize = 12;
/// How far `%undo` may go back in one session.
const UNDO_MAX: usize = 3;

/// Crate and name.
type Path = (String, String);

#[derive(Clone, Default)]
struct Session {
    namespace: Namespace,
    world: World,
    /// Types of variables: what stands there, and what it is.
    held: BTreeMap<Path, (Mark, String)>,
}

/// A session with all that ever was in it.
struct Run {
    author: Author,
    now: Session,
    before: Vec<Session>,
    /// What each path was the first time, undone or not.
    ever: BTreeMap<Path, String>,
    /// All cells so far, to be read when something is wrong.
    story: String,
}

fn mark(items: &Items, id: ItemId) -> Mark {
    let item = &items.all[&id];
    let text = &items.sheets[&item.sheet].text[item.piece.range.clone()];
    mark_of(text).expect("every item has its mark")
}

/// The generated crates of these items.
fn crates<'a>(items: &Items, world: &'a World) -> Crates<'a> {
    let definitions = world.definitions.iter().map(|(mark, each)| (*mark, each)).collect();
    let all = items.units.iter().map(|each| {
        let plan = unit::unit(items, each, None);
        (each.name.clone(), Crate::read(&plan.krate.source.text))
    });
    Crates { all: all.collect(), definitions }
}

impl Run {
    fn new(seed: u64) -> Self {
        Self {
            author: Author::new(seed),
            now: Session::default(),
            before: Vec::new(),
            ever: BTreeMap::new(),
            story: String::new(),
        }
    }

    fn step(&mut self) -> Result<(), String> {
        if self.author.dice().once_in(12)
            && let Some(before) = self.before.pop()
        {
            self.now = before;
            self.story.push_str("// undo\n");
            return Ok(());
        }
        let cell = self.author.cell(&self.now.world);
        self.story.push_str(&format!("//--- {}\n{}", cell.key, cell.text));
        let mut next = self.now.clone();
        let broken = next.world.run(&cell.key, &cell.definitions);
        next.world.imports.extend(cell.imports.iter().cloned());
        let advance = self.planned(&cell, &next.world, &broken)?;
        next.namespace.items = advance.items;
        let imports: Vec<Import> =
            Split::read(&cell.text).imports.into_iter().flat_map(|(_, imports)| imports).collect();
        let delta = prust_kernel::cell::Delta { imports, ..Default::default() };
        next.namespace.apply(&delta);
        self.check(&next)?;
        self.hold(&mut next);
        let before = std::mem::replace(&mut self.now, next);
        self.before.push(before);
        if self.before.len() > UNDO_MAX {
            self.before.remove(0);
        }
        Ok(())
    }

    /// Plays the compiler: puts the items in order until all of them would compile.
    fn planned(
        &self,
        cell: &Cell,
        world: &World,
        expected: &BTreeSet<Mark>,
    ) -> Result<Advance, String> {
        let old = &self.now.namespace.items;
        let split = Split::read(&cell.text);
        let new = unit::new_cell(&self.now.namespace, &cell.key, "In[1]", &cell.text, &split);
        let held: BTreeSet<Path> = self.now.held.keys().cloned().collect();
        let mut broken: BTreeMap<ItemId, Broken> = BTreeMap::new();
        for _ in 0..ROUNDS_MAX {
            let plan = || advance(old, &new, &held, &broken, &BTreeSet::new());
            let (Some(next), Some(again)) = (plan(), plan()) else {
                return Err("no place".to_owned());
            };
            if next.items != again.items || next.touched != again.touched {
                return Err("not the same twice".to_owned());
            }
            let faults = faults(&next.items, world, &cell.text)?;
            if faults.is_empty() {
                let marks: BTreeSet<Mark> = broken.keys().map(|id| mark(old, *id)).collect();
                // What keeps old definitions may be tried in vain.
                let more = || marks.difference(expected).all(|mark| world.keeps_old(*mark));
                if !expected.is_subset(&marks) || !more() {
                    return Err(format!("{marks:?} broke, not {expected:?}"));
                }
                return Ok(next);
            }
            for (mark_broken, why) in faults {
                let is_it = |id: &&ItemId| !old.all[*id].retired && mark(old, **id) == mark_broken;
                let id = old.all.keys().find(is_it);
                let Some(id) = id.filter(|id| !broken.contains_key(id)) else {
                    return Err(format!("{mark_broken} does not compile: {why}"));
                };
                broken.insert(*id, Broken::Pinned);
            }
        }
        Err("no end of faults".to_owned())
    }

    fn check(&mut self, next: &Session) -> Result<(), String> {
        let (items, world) = (&next.namespace.items, &next.world);
        check_order(items)?;
        let crates = crates(items, world);
        if let Some(double) = crates.doubles() {
            return Err(double);
        }
        crates.stands().try_for_each(|stand| crates.orphan(&stand))?;
        check_in_force(items, world)?;
        check_meanings(items, world, &crates)?;
        self.check_old(items, &crates)?;
        check_leaf(next)?;
        for stand in crates.stands() {
            let definition = &world.definitions[&stand.mark];
            if !definition.has_identity {
                continue;
            }
            let path = (stand.unit.clone(), definition.name.clone());
            let shape = crates.shape(&stand)?;
            if let Some((mark, was)) = self.now.held.get(&path)
                && (*mark, was) != (stand.mark, &shape)
            {
                return Err(format!("{path:?} is held as {was}, and is {shape}"));
            }
            let first = self.ever.entry(path.clone()).or_insert_with(|| shape.clone());
            if *first != shape {
                return Err(format!("{path:?} was {first} and is {shape}"));
            }
        }
        for (path, (mark, _)) in &self.now.held {
            if !crates.stands().any(|stand| stand.unit == path.0 && stand.mark == *mark) {
                return Err(format!("{path:?} is held, and gone"));
            }
        }
        if self.author.ties { Ok(()) } else { self.check_kept(next) }
    }

    /// What is as it was stays where it was.
    fn check_kept(&self, next: &Session) -> Result<(), String> {
        for (name, mark) in &next.world.in_force {
            if !next.world.definitions[mark].has_identity
                || self.now.world.in_force.get(name) != Some(mark)
            {
                continue;
            }
            let (before, after) = (self.now.world.shape(*mark), next.world.shape(*mark));
            let unit = |session: &Session| {
                let items = &session.namespace.items;
                let id = items.current(name).first().copied();
                id.map(|id| items.all[&id].unit.clone())
            };
            let begins_so = self.now.world.begun_with(*mark) == next.world.begun_with(*mark);
            if before.is_some() && before == after && begins_so && unit(&self.now) != unit(next) {
                return Err(format!("{name} moved, although it is as it was: {after:?}"));
            }
        }
        Ok(())
    }

    /// What is not in force any more goes on as it was, with all that it names.
    fn check_old(&self, items: &Items, now: &Crates<'_>) -> Result<(), String> {
        let before = &self.now.namespace.items;
        let crates = crates(before, &self.now.world);
        for (id, item) in items.all.iter().filter(|(_, item)| item.retired) {
            let Some(was) = before.all.get(id) else { continue };
            let mark = mark(items, *id);
            let whole =
                |crates: &Crates<'_>, unit: &str| crates.whole(&crates.stand(unit, *id, mark));
            let (was, is) = (whole(&crates, &was.unit)?, whole(now, &item.unit)?);
            if was != is {
                return Err(format!("the old {mark} was {was:?} and is {is:?}"));
            }
        }
        Ok(())
    }

    /// Lets a variable be of a type in force, and another one go.
    fn hold(&mut self, next: &mut Session) {
        let items = &next.namespace.items;
        let crates = crates(items, &next.world);
        let types = next.world.in_force.iter().filter(|(name, _)| name.starts_with('T'));
        let types: Vec<(String, Mark)> = types.map(|(name, mark)| (name.clone(), *mark)).collect();
        if let Some((name, mark)) = self.author.dice().pick(&types).cloned() {
            let id = items.current(&name)[0];
            let unit = items.all[&id].unit.clone();
            let stand = crates.stand(&unit, id, mark);
            let shape = crates.shape(&stand).expect("it was checked");
            next.held.insert((unit, name), (mark, shape));
        }
        if next.held.len() > 3 {
            let paths: Vec<Path> = next.held.keys().cloned().collect();
            next.held.remove(self.author.dice().pick(&paths).expect("there are some"));
        }
    }
}

/// Earlier items that would not compile, by mark.
fn faults(items: &Items, world: &World, cell: &str) -> Result<Vec<(Mark, String)>, String> {
    let crates = crates(items, world);
    let mut faults = Vec::new();
    for stand in crates.stands() {
        let Some(why) = crates.fault(&stand).or_else(|| crates.double(&stand)) else { continue };
        let id = items.all.iter().find(|(id, item)| {
            let mark = mark(items, **id);
            mark == stand.mark
                && item.unit == stand.unit
                && crates.stand(&item.unit, **id, mark) == stand
        });
        let (_, item) = id.expect("it was written");
        let is_new = cell.contains(&stand.mark.to_string());
        if item.retired && why == TWICE {
            continue;
        }
        if item.retired || is_new {
            let kind = if is_new { "new" } else { "retired" };
            return Err(format!("{kind} {} does not compile: {why}", stand.mark));
        }
        faults.push((stand.mark, why));
    }
    Ok(faults)
}

/// Units stand after those they need, and need all that those need.
fn check_order(items: &Items) -> Result<(), String> {
    let mut before: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for each in &items.units {
        let needs: BTreeSet<&str> = each.needs.iter().map(String::as_str).collect();
        let written = unit::unit(items, each, None).krate.units;
        let mut closure: BTreeSet<&str> = BTreeSet::new();
        for need in &needs {
            let Some(of_need) = before.get(need) else {
                return Err(format!("{} needs {need}, which comes later", each.name));
            };
            closure.extend(of_need);
        }
        if let Some(missing) = closure.iter().find(|need| !needs.contains(*need)) {
            return Err(format!("{} does not list {missing}", each.name));
        }
        if let Some(missing) = written.iter().find(|need| !needs.contains(need.as_str())) {
            return Err(format!("{} says {missing}, and does not need it", each.name));
        }
        before.insert(&each.name, needs);
    }
    Ok(())
}

/// One item for each name in force, and no other.
fn check_in_force(items: &Items, world: &World) -> Result<(), String> {
    let current = items.all.iter().filter(|(_, item)| item.is_current());
    let mut marks: Vec<Mark> = current.map(|(id, _)| mark(items, *id)).collect();
    marks.sort_unstable();
    let mut expected: Vec<Mark> = world.in_force.values().copied().collect();
    expected.sort_unstable();
    if marks != expected {
        return Err(format!("{marks:?} are in force, not {expected:?}"));
    }
    Ok(())
}

/// Each name that a definition in force says means what the model says, at the same place for all.
fn check_meanings(items: &Items, world: &World, crates: &Crates<'_>) -> Result<(), String> {
    for (id, item) in items.all.iter().filter(|(_, item)| item.is_current()) {
        let own = mark(items, *id);
        let stand = crates.stand(&item.unit, *id, own);
        if world.definitions[&own].name.ends_with('!') {
            continue;
        }
        for (name, _, Stand { unit, mark: meant, .. }) in crates.says(&stand)? {
            let expected = world.meaning(own, &name);
            if expected != Some(meant) {
                return Err(format!("to {own}, {name} is {meant} and not {expected:?}"));
            }
            let in_force =
                items.current(bare(&name)).into_iter().find(|id| mark(items, *id) == meant);
            // What a static began with may be another one of the same text.
            let follows = !world.keeps_old(own) && world.definitions[&own].is_made_of_names();
            if let Some(id) = in_force.filter(|_| follows)
                && items.all[&id].unit != unit
            {
                let right = &items.all[&id].unit;
                return Err(format!("to {own}, {name} is in {unit} and not in {right}"));
            }
        }
        if world.keeps_old(own) {
            continue;
        }
        let (shape, expected) = (crates.shape(&stand), world.shape(own));
        if let Some(expected) = expected.filter(|_| world.definitions[&own].has_identity)
            && shape.as_ref() != Ok(&expected)
        {
            return Err(format!("{own} is {shape:?} and not {expected}"));
        }
    }
    Ok(())
}

/// A cell's statements see the latest definition of every name.
fn check_leaf(session: &Session) -> Result<(), String> {
    let (items, world) = (&session.namespace.items, &session.world);
    let named = world.in_force.keys().filter(|name| !name.starts_with("impl"));
    let text: String = named.clone().map(|name| format!("{}; ", bare(name))).collect();
    let split = Split::read(&text);
    let slots = LeafSlots::of(&session.namespace, &text, &split);
    let plan = leaf::leaf(&session.namespace, &text, &split, &slots, &Shape::default());
    for name in named {
        let is_it = |id: &ItemId| mark(items, *id) == world.in_force[name];
        let id = items.current(bare(name)).into_iter().find(is_it).expect("it was checked");
        let line = format!("use ::{}::{};", items.all[&id].unit, bare(name));
        if !plan.source.text.contains(&line) {
            return Err(format!("a leaf does not say {line}"));
        }
    }
    Ok(())
}

/// What is wrong in a session, if anything, after how many cells.
fn session(seed: u64) -> Option<(u64, String)> {
    let mut run = Run::new(seed);
    (0..CELLS).find_map(|n_cells| {
        let step = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run.step()));
        let why = match step {
            Ok(result) => result.err()?,
            Err(_) => "the planner panicked".to_owned(),
        };
        Some((seed, format!("seed {seed}, cell {n_cells}: {why}\n{}", run.story)))
    })
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("the variable is a number"))
}

#[test]
fn random_sessions_mean_what_the_model_says() {
    let all = 0..number("PRUST_SEQUENCES").unwrap_or(SEQUENCES);
    let seeds: Vec<u64> = number("PRUST_SEED").map_or(all.collect(), |seed| vec![seed]);
    let n_threads = std::thread::available_parallelism().map_or(2, usize::from);
    let faults: BTreeMap<u64, String> = std::thread::scope(|scope| {
        let shares = seeds.chunks(seeds.len().div_ceil(n_threads));
        let threads: Vec<_> = shares
            .map(|share| {
                scope.spawn(|| share.iter().filter_map(|seed| session(*seed)).collect::<Vec<_>>())
            })
            .collect();
        threads.into_iter().flat_map(|each| each.join().expect("it does not panic")).collect()
    });
    let wrong: Vec<u64> = faults.keys().copied().collect();
    let first: Vec<&String> = faults.values().take(3).collect();
    assert!(
        faults.is_empty(),
        "PRUST_SEED=<seed> cargo test --test it random_sessions runs one of these again: \
         {wrong:?}\n{first:#?}"
    );
}
