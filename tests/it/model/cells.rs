//! Writes random cells of items: new names, changed ones, impls for earlier types, cells run again.

use super::Dice;
use super::world::{Definition, Mark, Name, Says, World, bare};

/// A cell as it was run.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    pub(super) key: String,
    pub(super) text: String,
    pub(super) definitions: Vec<Definition>,
    /// Names that its `use` declarations bring in, and their modules.
    pub(super) imports: Vec<(Name, Name)>,
}

/// Writes the cells of one session.
#[derive(Clone, Debug)]
pub(super) struct Author {
    dice: Dice,
    next: Mark,
    ran: Vec<Cell>,
    /// Whether trait impls may tie types in circles, so that values of some are lost.
    pub(super) ties: bool,
}

const MARK_FIRST: Mark = 1_000_000;

impl Author {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let ties = dice.once_in(5);
        Self { dice, next: MARK_FIRST, ran: Vec::new(), ties }
    }

    pub(super) fn dice(&mut self) -> &mut Dice {
        &mut self.dice
    }

    /// The next cell of a session whose names are `world`'s.
    pub(super) fn cell(&mut self, world: &World) -> Cell {
        if self.dice.once_in(8)
            && let Some(cell) = self.dice.pick(&self.ran).cloned()
            && self.is_sound(world, &cell)
        {
            return cell;
        }
        if self.dice.once_in(20) {
            // A cell whose items were deleted.
            let key = format!("k{}", self.dice.below(6));
            let cell = Cell { key, text: String::new(), definitions: vec![], imports: vec![] };
            if self.is_sound(world, &cell) {
                return cell;
            }
        }
        loop {
            let cell = self.write(world);
            if self.is_sound(world, &cell) {
                self.ran.push(cell.clone());
                return cell;
            }
        }
    }

    /// Whether the cell itself compiles, and takes nothing away that a macro says.
    fn is_sound(&self, world: &World, cell: &Cell) -> bool {
        let mut after = world.clone();
        let broken = after.run(&cell.key, &cell.definitions);
        let known = |mark: &Mark| after.definitions[mark].name.ends_with('!');
        let fault = cell.definitions.iter().any(|each| after.fault(each.mark).is_some());
        let own = cell.imports.iter().map(|(_, module)| module);
        let mut modules = own.chain(world.imports.values());
        let circular = cell.definitions.iter().any(|each| {
            let mut says = after.says(each.mark).into_iter();
            each.decides_types && says.any(|says| after.leads_to(&says.name, &each.name))
        });
        let all_there = modules.all(|module| after.in_force.contains_key(module));
        let does_something = !cell.definitions.is_empty() || !cell.key.is_empty();
        !fault && !circular && all_there && !broken.iter().any(known) && does_something
    }

    fn write(&mut self, world: &World) -> Cell {
        let key =
            if self.dice.once_in(2) { String::new() } else { format!("k{}", self.dice.below(6)) };
        let mut definitions: Vec<Definition> = Vec::new();
        let mut scope = world.clone();
        let mut imports = Vec::new();
        for _ in 0..1 + self.dice.below(3) {
            let written = self.definition(&scope);
            let is_twice = definitions.iter().any(|each| bare(&each.name) == bare(&written.name));
            if is_twice {
                continue;
            }
            // Later items of the cell may say this one; a name is not yet known to be sound.
            scope.in_force.insert(written.name.clone(), written.mark);
            scope.definitions.insert(written.mark, written.clone());
            definitions.push(written);
        }
        let mut text: String = definitions.iter().map(|each| format!("{}\n", each.text)).collect();
        if self.dice.once_in(4)
            && let Some(module) = self.some(&scope, &["n"])
        {
            let name = module.replace('n', "k");
            text = format!("use {module}::{name};\n{text}");
            imports.push((name, module));
        }
        Cell { key, text, definitions, imports }
    }

    /// A name in force that begins so.
    fn some(&mut self, world: &World, starts: &[&str]) -> Option<Name> {
        let fits = |name: &&Name| {
            let is_macro = name.ends_with('!');
            starts.iter().any(|start| {
                let digits = name.strip_prefix(start).map(bare);
                let plain = digits.is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
                plain && (is_macro == ["m", "w"].contains(start))
            })
        };
        let names: Vec<Name> = world.in_force.keys().filter(fits).cloned().collect();
        self.dice.pick(&names).cloned()
    }

    fn definition(&mut self, world: &World) -> Definition {
        self.next += 1;
        let mark = self.next;
        let mut draft = Draft { mark, says: Vec::new() };
        let number = self.dice.below(3);
        let (name, text, takes) = match self.dice.below(20) {
            0..=5 => {
                let takes = self.dice.below(2);
                let (name, text) = self.function(world, &mut draft, number, takes);
                (name, text, takes)
            }
            6..=7 => {
                let sum = self.sum(world, &mut draft, &["C", "g"]);
                (format!("C{number}"), format!("const C{number}: usize = {sum};"), 0)
            }
            8 => {
                let sum = self.sum(world, &mut draft, &["C", "g"]);
                (format!("g{number}"), format!("const fn g{number}() -> usize {{ {sum} }}"), 0)
            }
            9 => {
                let fields = self.fields(world, &mut draft);
                (format!("A{number}"), format!("type A{number} = ({fields});"), 0)
            }
            10..=12 => {
                let fields = self.fields(world, &mut draft);
                (format!("T{number}"), format!("struct T{number}({fields});"), 0)
            }
            13 => {
                let fields = self.fields(world, &mut draft);
                (format!("E{number}"), format!("enum E{number} {{ A({fields}), B }}"), 0)
            }
            14 => {
                let fields = self.fields(world, &mut draft);
                let text = format!("trait R{number} {{ fn r{number}(&self) -> ({fields}); }}");
                (format!("R{number}"), text, 0)
            }
            15 => {
                let (name, text) = self.a_macro(world, &mut draft, number);
                (name, text, 0)
            }
            16 => {
                let sum = self.sum(world, &mut draft, &["C", "g"]);
                let text = format!("static S{number}: AtomicUsize = AtomicUsize::new({sum});");
                (format!("S{number}"), text.replace("Atomic", "std::sync::atomic::Atomic"), 0)
            }
            17 => {
                let text = format!("mod n{number} {{ pub fn k{number}() -> i64 {{ {mark} }} }}");
                (format!("n{number}"), text, 0)
            }
            _ => {
                let (name, text) = self.an_impl(world, &mut draft, number);
                (name, text, 0)
            }
        };
        let has_identity = ["T", "E", "R", "S", "n"].iter().any(|start| name.starts_with(start));
        let decides_types = !name.starts_with("impl") && !(is_function(&name));
        let says = draft.says;
        Definition { mark, name, text, says, takes, has_identity, decides_types }
    }

    fn function(
        &mut self,
        world: &World,
        draft: &mut Draft,
        number: usize,
        takes: usize,
    ) -> (Name, String) {
        let sum = self.anything(world, draft);
        let parameters = if takes == 0 { "" } else { "_p: i64" };
        let text = format!("fn f{number}({parameters}) -> i64 {{ {sum} }}");
        (format!("f{number}"), text)
    }

    /// A sum of the mark, and of some names in force that begin so.
    fn sum(&mut self, world: &World, draft: &mut Draft, starts: &[&str]) -> String {
        let mut text = draft.mark.to_string();
        for _ in 0..self.dice.below(3) {
            let Some(name) = self.some(world, starts) else { continue };
            text.push_str(&if name.starts_with('g') {
                format!(" + {name}()")
            } else {
                format!(" + {name}")
            });
            draft.say(&name, None);
        }
        text
    }

    fn fields(&mut self, world: &World, draft: &mut Draft) -> String {
        let mut text = format!("[u8; {}], ", draft.mark);
        for _ in 0..self.dice.below(3) {
            let Some(name) = self.some(world, &["T", "C", "A", "E", "w"]) else { continue };
            text.push_str(&match name.chars().next() {
                Some('C') => format!("[u8; {name}], "),
                Some('w') => format!("{name}(), "),
                _ => format!("Option<{name}>, "),
            });
            draft.say(&name, None);
        }
        text
    }

    /// An expression that may say everything there is.
    fn anything(&mut self, world: &World, draft: &mut Draft) -> String {
        let mut text = draft.mark.to_string();
        for _ in 0..self.dice.below(4) {
            let starts = ["f", "f", "C", "T", "S", "m", "g", "A", "E"];
            let start = starts[self.dice.below(starts.len())];
            if self.dice.once_in(10) {
                let imports: Vec<_> = world.imports.clone().into_iter().collect();
                if let Some((name, module)) = self.dice.pick(&imports) {
                    text.push_str(&format!(" + {name}()"));
                    draft.say(module, None);
                }
                continue;
            }
            let Some(name) = self.some(world, &[start]) else { continue };
            let takes = world.definition(&name).map_or(0, |definition| definition.takes);
            text.push_str(&match start {
                "f" => format!(" + {name}({})", vec!["1"; takes].join(", ")),
                "C" => format!(" + {name} as i64"),
                "T" | "A" | "E" => format!(" + size_of::<{name}>() as i64"),
                "S" => format!(" + {{ let _ = &{name}; 1 }}"),
                "g" => format!(" + {name}() as i64"),
                _ => format!(" + {name}()"),
            });
            draft.say(&name, (start == "f").then_some(takes));
        }
        text
    }

    fn a_macro(&mut self, world: &World, draft: &mut Draft, number: usize) -> (Name, String) {
        if self.dice.once_in(2) {
            let fields = self.sum(world, draft, &["C"]);
            let text = format!("macro_rules! w{number} {{ () => {{ [u8; {fields}] }} }}");
            return (format!("w{number}!"), text);
        }
        let mut text = draft.mark.to_string();
        for _ in 0..self.dice.below(3) {
            if let Some(name) = self.some(world, &["f", "C", "T"]) {
                let starts_with_t = name.starts_with('T');
                text.push_str(&if starts_with_t {
                    format!(" + size_of::<{name}>() as i64")
                } else {
                    format!(" + {{ let _ = {name}; 1 }}")
                });
                draft.say(&name, None);
            }
        }
        (format!("m{number}!"), format!("macro_rules! m{number} {{ () => {{ {text} }} }}"))
    }

    fn an_impl(&mut self, world: &World, draft: &mut Draft, number: usize) -> (Name, String) {
        let Some(of) = self.some(world, &["T", "E"]) else {
            return self.function(world, draft, number, 0);
        };
        draft.say(&of, None);
        let mark = draft.mark;
        let header = match self.dice.below(4) {
            0 => format!("impl Clone for {of}"),
            1 if let Some(of_trait) = self.some(world, &["R"]) => {
                draft.say(&of_trait, None);
                format!("impl {of_trait} for {of}")
            }
            2 if let Some(from) = self.some(world, &["T", "E"]).filter(|from| *from != of) => {
                draft.say(&from, None);
                format!("impl From<{from}> for {of}")
            }
            _ => {
                let sum = self.anything(world, draft);
                let result = self.some(world, &["T", "E"]).unwrap_or_else(|| of.clone());
                draft.say(&result, None);
                let name = format!("impl {of} {{ h{number} }}");
                let body = format!("let _ = {sum}; None");
                let method = format!("fn h{number}(&self) -> Option<{result}> {{ {body} }}");
                return (name, format!("impl {of} {{ {method} }}"));
            }
        };
        let sum = if self.ties { self.anything(world, draft) } else { mark.to_string() };
        (header.clone(), format!("{header} {{ fn q(&self) {{ let _ = {sum}; loop {{}} }} }}"))
    }
}

fn is_function(name: &str) -> bool {
    name.starts_with('f') && !name.ends_with('!')
}

/// A definition that is being written.
struct Draft {
    mark: Mark,
    says: Vec<Says>,
}

impl Draft {
    fn say(&mut self, name: &str, arguments: Option<usize>) {
        self.says.push(Says { name: name.to_owned(), arguments });
    }
}
