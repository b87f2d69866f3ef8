"""Writes random cells for a session: new items and changed ones, variables made, changed and moved, mistakes, crashes,
cells run again. What becomes of a cell is the model's to say; the author only knows what is likely to compile."""

from kept import CallObject, CallVariable, Closure, Counter, Object, Pointer, Shelve
from language import (
    BOX,
    CLOSURE,
    COUNTER,
    I64,
    PLAIN,
    POINTER,
    SHARED,
    STRING,
    Bump,
    Call,
    Clone,
    Constant,
    DoesNotCompile,
    Hole,
    Items,
    Local,
    Macro,
    Number,
    OwnMethod,
    Scope,
    Sum,
    Text,
    Unsure,
    Variable,
)
from session import (
    AsNew,
    Cell,
    Change,
    Let,
    Move,
    Print,
    SetField,
    Show,
    Stop,
    Swap,
    Wrong,
    can_be_shown,
)
from world import Definition, World
from writer import NothingFits, Writer

N_TRIES = 300
N_VARIABLES = 8

PANICS = [
    'panic!("stop");',
    "let _n = Vec::<i64>::new()[3];",
    "let _n = Some(1).filter(|n| *n > 1).unwrap();",
    "assert_eq!(1, 2);",
    'let _n = "x1".parse::<i64>()?;',
    "let _n = Some(1).filter(|n| *n > 1)?;",
    'let _text = std::fs::read_to_string("/nowhere/at/all")?;',
]
CRASHES = [
    "std::process::abort();",
    "std::process::exit(3);",
    "unsafe { std::ptr::null_mut::<u8>().write_volatile(1) };",
]
MISTAKES = [
    'let _wrong: i64 = "text";',
    "nobody_knows_this();",
    "let = 5;",
    'let _wrong = 1 + "text";',
    "let _wrong = Vec::<i64>::new().nothing();",
]


class ItemWriter:
    """Items: few names, so that most are defined again and again."""

    def __init__(self, dice, world):
        self.dice, self.world = dice, world

    def writer(self, **options):
        return Writer(self.dice, self.world, **options)

    def item(self):
        forms = [self.function] * 8 + [self.struct] * 3 + [self.inherent] * 5 + [self.implementation] * 3
        forms += [self.constant] * 2 + [self.macro] * 2 + [self.trait] * 2
        forms += [self.length, self.enum, self.alias] + [self.static] * 3
        return self.dice.choice(forms)()

    def used_name(self):
        """A name in force, rather one that others use."""
        world, names = self.world, list(self.world.in_force)
        used = set().union(*(world.says(found) for found in world.in_force.values())) & set(names)
        return self.dice.choice(sorted(used) if used and self.dice.randrange(4) else names)

    def changed(self, name):
        """Another text for a name in force."""
        forms = {"fn": self.function, "struct": self.struct, "const": self.constant, "macro": self.macro}
        forms |= {"trait": self.trait, "len": self.length, "enum": self.enum, "alias": self.alias, "static": self.static}
        kind = self.world.definitions[self.world.in_force[name]].kind
        for _ in range(40):
            definition = forms.get(kind, self.inherent)()
            if definition.name == name:
                return definition
        raise NothingFits

    def function(self):
        kinds = [[], [], [("p", I64)], [("p", I64)]]
        structs = self.writer().names("struct")
        kinds += [[("v", f"&{name}")] for name in structs] * 2
        parameters = self.dice.choice(kinds)
        result = self.dice.choice([I64] * 7 + [STRING] + structs)
        local = [name for name, type_ in parameters if type_ == I64]
        given = {name: self.world.in_force[type_[1:]] for name, type_ in parameters if type_ != I64}
        body = self.writer(local=local, structs=given).of_text(result, 2)
        return Definition("fn", f"f{self.dice.randrange(4)}", parameters, result, body)

    def constant(self):
        writer = self.writer()
        names = writer.names("const")
        body = Number(self.dice.randrange(100))
        if names and self.dice.randrange(2):
            body = Sum(body, Constant(self.dice.choice(names)))
        return Definition("const", f"C{self.dice.randrange(2)}", body=body)

    def length(self):
        return Definition("len", "L0", value=self.dice.randrange(1, 4))

    def field_types(self):
        writer = self.writer()
        lengths = [f"[i64; {name}]" for name in writer.names("len")]
        return [*PLAIN[:3], I64, *lengths, *writer.names("struct", "enum", "alias")]

    def struct(self):
        names = ["a", "b", "c"][: self.dice.randrange(1, 4)]
        fields = [(name, self.dice.choice(self.field_types())) for name in names]
        return Definition("struct", f"S{self.dice.randrange(2)}", fields=fields)

    def enum(self):
        payloads = [self.dice.choice([[I64], [I64], [STRING], []]) for _ in range(3)]
        return Definition("enum", "E0", variants=[("A", [I64]), *zip(["B", "C", "D"][: self.dice.randrange(4)], payloads)])

    def alias(self):
        return Definition("alias", "A0", target=self.dice.choice([I64, STRING, *self.writer().names("struct")]))

    def static(self):
        structs = self.writer().names("struct")
        target = self.dice.choice(structs) if structs and self.dice.randrange(3) else ""
        return Definition("static", f"N{self.dice.randrange(2)}", value=self.dice.randrange(1000), target=target)

    def macro(self):
        return Definition("macro", f"m{self.dice.randrange(2)}!", body=Sum(Hole(), self.writer().number(1)))

    def trait(self):
        required = [self.dice.choice(["t", "t", "t", "u"])]
        bodies = {}
        if self.dice.randrange(2):
            bodies = {"w": Sum(OwnMethod(required[0]), self.writer().number(1))}
        return Definition("trait", "T0", required=required, bodies=bodies)

    def of_self(self):
        subject = self.writer().pick(self.writer().names("struct"))
        return subject, self.writer(structs={"self": self.world.in_force[subject]})

    def inherent(self):
        subject, writer = self.of_self()
        name = self.dice.choice(["total", "extra"])
        result = self.dice.choice([I64] * 3 + [STRING])
        body = writer.of_text(result, 2)
        return Definition("impl", f"impl {subject}::{name}", subject=subject, result=result, bodies={name: body})

    def method_of(self, subject, name, result):
        """One of another result."""
        writer = self.writer(structs={"self": self.world.in_force[subject]})
        other = STRING if result == I64 else I64
        bodies = {name: writer.of_text(other, 1)}
        return Definition("impl", f"impl {subject}::{name}", subject=subject, result=other, bodies=bodies)

    def called_methods(self):
        """The types' own methods that functions call: of what, which, with which result."""
        said = set().union(*(self.world.says(self.world.in_force[name]) for name in self.writer().names("fn")))
        impls = [self.world.definitions[self.world.in_force[name]] for name in self.writer().names("impl")]
        own = [(each.subject, name, each.result) for each in impls if not each.of_trait for name in each.bodies]
        return [each for each in own if f".{each[1]}" in said and each[0] in self.world.in_force]

    def caller(self):
        subject = self.writer().pick(self.writer().names("struct"))
        of = self.world.in_force[subject]
        writer = self.writer(structs={"v": of})
        call = writer.pick(writer.methods_of(of, Local("v")))
        result = call.type(Scope(self.world, None, {"v": ("named", of)}))
        body = Sum(call, writer.number(1)) if result == I64 else Text("said", [call])
        return Definition("fn", f"f{self.dice.randrange(4)}", [("v", f"&{subject}")], result, body)

    def implementation(self):
        subject, writer = self.of_self()
        of_trait = writer.pick(writer.names("trait"))
        definition = writer.definition(of_trait)
        names = definition.required + [name for name in definition.bodies if self.dice.randrange(3) == 0]
        bodies = {name: writer.number(1) for name in names}
        return Definition("impl", f"impl {of_trait} for {subject}", subject=subject, of_trait=of_trait, bodies=bodies)

    def items(self, n):
        """Several items that may use one another."""
        found = []
        for _ in range(n):
            try:
                is_change = self.world.in_force and self.dice.randrange(2)
                definition = self.changed(self.used_name()) if is_change else self.item()
            except NothingFits:
                continue
            if any(each.name == definition.name for each in found):
                continue
            found.append(definition)
            scratch = World(self.world)
            scratch.in_force[definition.name] = scratch.add(definition)
            scratch.find_impls()
            self.world = scratch
        return found


def compiles(expression, world):
    try:
        expression.type(Scope(world))
    except (DoesNotCompile, Unsure):
        return False
    return True


class Author:
    """Writes the cells of one session, one after another."""

    def __init__(self, dice, session):
        self.dice, self.session = dice, session
        self.ran, self.n_keys = [], 0

    def next(self):
        """A cell, and what the model says of it; the session goes on behind it."""
        if not self.ran:
            return self.first_of("ok", self.opening)
        wanted, form = self.dice.choices(
            [
                ("ok", self.items),
                ("ok", self.statements),
                ("error", self.mistake),
                ("error", self.panic),
                ("error", self.crash),
                (None, self.undo),
                (None, self.again),
                ("ok", self.edit),
                ("ok", self.method),
            ],
            [32, 26, 6, 12, 6, 5, 9, 6, 20],
        )[0]
        return self.first_of(wanted, form) or self.next()

    def first_of(self, wanted, form):
        """The first cell of a form that the model is sure of, with the wanted end."""
        for _ in range(N_TRIES):
            try:
                cell = form()
                after, outcome = self.session.trial(cell)
            except (NothingFits, Unsure, DoesNotCompile):
                continue
            if wanted in (None, outcome.status) and cell.text:
                self.session = after
                if not cell.command:
                    self.ran.append(cell)
                return cell, outcome
        return None

    def key(self):
        self.n_keys += 1
        return self.dice.choice(["", f"cell-{self.n_keys}"])

    # Whole cells.

    def opening(self):
        definitions = ItemWriter(self.dice, self.session.world).items(9)
        world, _ = self.session.world.after(definitions, "")
        return Cell(definitions, [each for _ in range(3) for each in self.some_statements(world)], self.key())

    def items(self):
        definitions = ItemWriter(self.dice, self.session.world).items(self.dice.choice([1, 1, 1, 2, 3]))
        statements = []
        if self.dice.randrange(3) == 0:
            world, _ = self.session.world.after(definitions, "")
            statements = self.some_statements(world)
        return Cell(definitions, statements, self.key(), self.dice.randrange(3) == 0)

    def statements(self):
        return Cell([], self.some_statements(self.session.world), self.key())

    def mistake(self):
        cell = self.dice.choice([self.items, self.statements])()
        wrong = [Wrong(text) for text in MISTAKES]
        for name, held in self.session.variables.items():
            # The reference would outlive its cell.
            wrong.append(Wrong(f"let kept = &{name};"))
            if held.type == I64 and not held.mutable:
                wrong.append(Change("add", name, Number(1)))
            if self.session.is_old(name, self.session.world) and held.type[0] == "named":
                wrong += [AsNew(name, self.session.world.definitions[held.type[1]].name)] * 8
        cell.statements.insert(self.dice.randrange(len(cell.statements) + 1), self.dice.choice(wrong))
        return cell

    def panic(self):
        cell = self.dice.choice([self.items, self.statements, self.statements])()
        cell.statements.append(Stop(self.dice.choice(PANICS), crash=False))
        return cell

    def crash(self):
        cell = self.dice.choice([self.items, self.statements, self.statements])()
        cell.statements.append(Stop(self.dice.choice(CRASHES), crash=True))
        return cell

    def undo(self):
        return Cell(command="%undo")

    def again(self):
        if not self.ran:
            raise NothingFits
        return self.dice.choice(self.ran)

    def edit(self):
        """Another text in a cell that has run before: all that it defined goes."""
        keys = [cell.key for cell in self.ran if cell.key and cell.definitions]
        if not keys:
            raise NothingFits
        cell = self.items()
        cell.key = self.dice.choice(keys)
        return cell

    def method(self):
        """A function that calls a method; or, where there is one, the method with another result."""
        writer = ItemWriter(self.dice, self.session.world)
        called = writer.called_methods()
        if called and self.dice.randrange(3):
            return Cell([writer.method_of(*self.dice.choice(called))], [], self.key())
        return Cell([writer.caller()], [], self.key())

    # Statements.

    def some_statements(self, world):
        """Each is written for the variables as they are before the cell, and may be refused by the model."""
        found = []
        for _ in range(self.dice.choice([1, 1, 2, 2, 3])):
            forms = [self.let] * 5 + [self.change] * 4 + [self.move, self.drop, self.set_field, self.swap, self.print]
            try:
                found.append(self.dice.choice(forms)(world))
            except NothingFits:
                continue
        return found

    def writer(self, world, **options):
        return Writer(self.dice, world, self.session.variables, **options)

    def name(self):
        return f"x{self.dice.randrange(N_VARIABLES)}"

    def let(self, world):
        return Let(self.name(), self.dice.randrange(3) > 0, self.new_value(world))

    def new_value(self, world):
        writer, dice = self.writer(world), self.dice
        inside = lambda *local: Writer(dice, world, local=local).number(1)
        form = dice.randrange(16)
        if form < 3:
            return writer.of_text(PLAIN[form], 2)
        if form == 3:
            return Items("box", [writer.number(1)])
        if form == 4:
            return Items("shared", [writer.number(1) for _ in range(dice.randrange(1, 3))])
        if form == 5:
            pointers = [each for each in writer.names("fn") if [t for _, t in writer.definition(each).parameters] == [I64]]
            named = [each for each in pointers if writer.definition(each).result == I64]
            return Pointer(dice.choice(named)) if named and dice.randrange(2) else Pointer(body=inside("n"))
        if form == 6:
            return Closure(writer.number(1), Sum(inside("n", "k"), Local("k")))
        if form == 7:
            return Counter(writer.number(1), dice.randrange(1, 9))
        if form == 8:
            return self.an_object(writer)
        if form == 9:
            name = writer.pick(n for n, held in self.session.variables.items() if self.can_be_cloned(held.type, world))
            return Clone(Variable(name, self.session.variables[name].type))
        name = writer.pick(writer.names("struct", "enum"))
        values = [writer.whole(name, 2) for _ in range(dice.randrange(1, 3))]
        return {10: Items("vec", values), 11: Items("some", values[:1])}.get(form, values[0])

    def can_be_cloned(self, type_, world):
        return can_be_shown(type_) and type_ not in (I64, BOX)

    def an_object(self, writer):
        impls = [(of, trait) for of, trait, _ in writer.world.impls if trait in writer.world.in_force.values()]
        of, of_trait = writer.pick(each for each in impls if each[0] in writer.world.in_force.values())
        definitions = writer.world.definitions
        return Object(writer.whole(definitions[of].name, 2), definitions[of_trait].name)

    def change(self, world):
        forms = [
            (form, name)
            for form, (of, _, _) in Change.FORMS.items()
            for name, held in self.session.variables.items()
            if held.type == of and (held.mutable or of == SHARED)
        ]
        if not forms:
            return self.let(world)
        form, name = self.dice.choice(forms)
        writer = self.writer(world, exclusive=form == "share")
        return Change(form, name, writer.string(1) if form == "write" else writer.number(2))

    def variable(self, fits=lambda held: True):
        return self.writer(self.session.world).pick(n for n, held in self.session.variables.items() if fits(held))

    def move(self, world):
        return Move(self.variable(), self.name(), self.dice.randrange(2) == 0)

    def drop(self, world):
        return Move(self.variable())

    def set_field(self, world):
        name = self.variable(lambda held: held.type[0] == "named" and held.mutable)
        of = self.session.variables[name].type[1]
        definition = world.definitions[of]
        if definition.kind != "struct":
            raise NothingFits
        field, type_ = self.dice.choice(definition.fields)
        return SetField(name, definition.name, field, self.writer(world).of_text(type_, 1))

    def swap(self, world):
        one = self.variable(lambda held: held.mutable)
        type_ = self.session.variables[one].type
        return Swap(one, self.variable(lambda held: held.mutable and held.type == type_))

    def print(self, world):
        return Print(self.writer(world).number(2))

    # All that can be seen of a session.

    def look(self):
        """A cell that shows all variables and calls everything that is in force, and what it shows."""
        for _ in range(N_TRIES):
            cell = Cell(statements=self.everything())
            try:
                after, outcome = self.session.trial(cell)
            except Unsure:
                continue
            assert outcome.status == "ok", f"the model refuses what it wrote:\n{cell.text}"
            self.session = after
            return cell, outcome
        raise AssertionError("nothing can be shown")

    def everything(self):
        session, world = self.session, self.session.world
        writer = Writer(self.dice, world)
        found = [Show(name) for name, held in session.variables.items() if can_be_shown(held.type)]
        for name, held in session.variables.items():
            if held.type in (CLOSURE, POINTER, COUNTER) and (held.type != COUNTER or held.mutable):
                found.append(Print(CallVariable(name, held.type, None if held.type == COUNTER else Number(3))))
            elif held.type[0] == "dyn" and held.type[1] in world.in_force.values():
                of_trait = world.definitions[held.type[1]]
                found += [Print(CallObject(name, of_trait.name, method)) for method in of_trait.methods()]
            elif held.type[0] == "named" and held.type[1] in world.in_force.values():
                found += [Print(each) for each in writer.methods_of(held.type[1], Variable(name, held.type))]
        for name in writer.names("fn"):
            found += [Print(each) for each in self.calls_of(name, writer)]
        # What a macro says is looked at where it is used: there, it may not compile.
        macros = [Macro(name[:-1], Number(2)) for name in writer.names("macro")]
        found += [Print(each) for each in macros if compiles(each, world)]
        found += [Print(Constant(name)) for name in writer.names("const")]
        for name in writer.names("static"):
            shelf = writer.definition(name).target
            try:
                value = Shelve(name, writer.whole(shelf, 0)) if shelf else Bump(name, 1)
            except NothingFits:
                continue
            found += [Print(value)] if compiles(value, world) else []
        for name in writer.names("struct", "enum"):
            try:
                value = writer.whole(name, 0)
            except NothingFits:
                continue
            if compiles(value, world):
                found.append(Print(value))
                found += [Print(each) for each in writer.methods_of(world.in_force[name], value)]
        return found or [Print(Number(1))]

    def calls_of(self, name, writer):
        """A call of a function. One that keeps an older type takes nothing that can be made now."""
        takes_old = any(type_ != I64 for _, type_ in writer.definition(name).parameters)
        try:
            call = Call(name, [writer.argument(type_, 0) for _, type_ in writer.definition(name).parameters])
        except NothingFits:
            return []
        return [call] if not takes_old or compiles(call, writer.world) else []
