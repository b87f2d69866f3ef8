"""Writes random expressions. Whether they compile is the model's to say; the writer only knows what is likely to."""

from kept import CallObject, CallVariable, Shelve
from language import (
    BOX,
    CLOSURE,
    COUNTER,
    I64,
    POINTER,
    SHARED,
    STRING,
    VEC,
    Array,
    Bump,
    Call,
    Constant,
    Field,
    Inside,
    Items,
    Length,
    Local,
    Macro,
    Method,
    New,
    Number,
    Reference,
    Sum,
    Text,
    Variable,
    Variant,
    resolved,
)

WORDS = ["ada", "bob", "cyd", "dot", "eve"]
# Types within types.
DEEPEST = 8


class NothingFits(Exception):
    """There is nothing of the wanted kind."""


class Writer:
    """Expressions that are likely to compile in `world`. `variables` are those of the session, `local` numbers."""

    def __init__(self, dice, world, variables=None, local=(), structs=(), exclusive=False):
        self.dice, self.world, self.variables = dice, world, variables or {}
        self.local, self.structs, self.exclusive = list(local), dict(structs), exclusive
        self.open = []

    def names(self, *kinds):
        return [name for name, found in self.world.in_force.items() if self.world.definitions[found].kind in kinds]

    def pick(self, among):
        among = list(among)
        if not among:
            raise NothingFits
        return self.dice.choice(among)

    def definition(self, name):
        if name not in self.world.in_force:
            raise NothingFits
        return self.world.definitions[self.world.in_force[name]]

    def of_type(self, *types):
        return [name for name, held in self.variables.items() if held.type in types]

    def number(self, depth=2):
        """A sum of numbers, wherever they come from."""
        result = self.one_number(depth)
        for _ in range(self.dice.randrange(3) if depth else 0):
            result = Sum(result, self.one_number(depth - 1), self.dice.choice([1, 1, 2, 3]))
        return result

    def one_number(self, depth):
        forms = [self.literal, self.constant, self.a_local, self.variable, self.length]
        if depth > 0:
            forms += [self.call] * 5 + [self.from_value] * 3 + [self.macro, self.bump, self.kept, self.kept]
        for _ in range(6):
            try:
                form = self.dice.choice(forms)
                return form(depth) if form in (self.call, self.macro, self.from_value, self.kept) else form()
            except NothingFits:
                continue
        return self.literal()

    def literal(self):
        return Number(self.dice.randrange(100))

    def constant(self):
        return Constant(self.pick(self.names("const")))

    def a_local(self):
        return Local(self.pick(self.local))

    def variable(self):
        name = self.pick(self.of_type(I64, BOX))
        return Variable(name, self.variables[name].type)

    def length(self):
        name = self.pick(self.of_type(STRING, VEC, *([] if self.exclusive else [SHARED])))
        return Length(name, self.variables[name].type)

    def bump(self):
        counters = [name for name in self.names("static") if not self.definition(name).target]
        return Bump(self.pick(counters), self.dice.randrange(1, 5))

    def call(self, depth, result=I64):
        fits = [name for name in self.names("fn") if self.definition(name).result == result]
        name = self.pick(fits)
        return Call(name, [self.argument(type_, depth - 1) for _, type_ in self.definition(name).parameters])

    def argument(self, type_, depth):
        names = self.of_type(("named", self.world.in_force.get(type_[1:])))
        if names and self.dice.randrange(2):
            name = self.dice.choice(names)
            return Reference(Variable(name, self.variables[name].type))
        return self.number(max(depth, 0)) if type_ == I64 else Reference(self.whole(type_[1:], depth))

    def macro(self, depth):
        return Macro(self.pick(self.names("macro"))[:-1], self.number(depth - 1))

    def kept(self, depth):
        name = self.pick(self.of_type(POINTER, CLOSURE, COUNTER))
        wanted = self.variables[name].type
        if wanted == COUNTER and not self.variables[name].mutable:
            raise NothingFits
        return CallVariable(name, wanted, None if wanted == COUNTER else self.number(depth - 1))

    def from_value(self, depth):
        """A number out of a struct, an enum, a trait object."""
        if self.dice.randrange(5) == 0 and (objects := [name for name, held in self.variables.items() if held.type[0] == "dyn"]):
            name = self.pick(objects)
            traits = [each for each in self.names("trait") if ("dyn", self.world.in_force[each]) == self.variables[name].type]
            of_trait = self.pick(traits)
            return CallObject(name, of_trait, self.pick(self.definition(of_trait).methods()))
        of, value = self.some_value(depth)
        definition = self.world.definitions[of]
        if definition.kind == "enum":
            numbers = [name for name, types in definition.variants if types == [I64]]
            return Inside(value, definition.name, self.pick(numbers), self.dice.randrange(9))
        forms = [Field(value, name) for name, type_ in definition.fields if resolved(type_, self.world, of) == I64]
        return self.pick(forms + self.methods_of(of, value, I64) * 3)

    def methods_of(self, of, value, result=None):
        """Calls of all that a value of this type can do, or of what gives a `result`."""
        calls = []
        for (type_, of_trait, member), found in self.world.impls.items():
            if type_ != of or result not in (None, self.world.definitions[found].result):
                continue
            if of_trait is None:
                calls.append(Method(value, member))
            elif of_trait in self.world.in_force.values():
                definition = self.world.definitions[of_trait]
                calls += [Method(value, each, definition.name) for each in definition.methods()]
        return calls

    def some_value(self, depth):
        """A value of a type of the session that can be read where it is: its type, and how to say it."""
        current = {found: name for name, found in self.world.in_force.items()}
        found = [(held.type[1], Variable(name, held.type)) for name, held in self.variables.items() if held.type[0] == "named"]
        found = [(of, value) for of, value in found if of in current]
        found += [(of, Local(name)) for name, of in self.structs.items()]
        if found and self.dice.randrange(4):
            return self.pick(found)
        name = self.pick(self.names("struct", "enum"))
        return self.world.in_force[name], self.whole(name, depth - 1)

    def whole(self, name, depth):
        """A new value of a type that has this name."""
        if len(self.open) > DEEPEST:
            # A type within itself, which the model refuses.
            raise NothingFits
        self.open.append(name)
        try:
            return self.whole_within(name, depth)
        finally:
            self.open.pop()

    def whole_within(self, name, depth):
        definition = self.definition(name)
        shelves = [each for each in self.names("static") if self.definition(each).target == name]
        if depth > 0 and shelves and self.dice.randrange(3) == 0:
            return Shelve(self.dice.choice(shelves), self.whole(name, depth - 1))
        if definition.kind == "alias":
            return self.of_text(definition.target, depth)
        makers = [each for each in self.names("fn") if self.definition(each).result == name]
        if depth > 0 and makers and self.dice.randrange(3) == 0:
            return self.call(depth, name)
        if definition.kind == "enum":
            variant, types = self.pick(definition.variants)
            return Variant(name, variant, [self.of_text(type_, depth) for type_ in types])
        return New(name, [(each, self.of_text(type_, depth)) for each, type_ in definition.fields])

    def of_text(self, type_, depth=1):
        """A new value of a type as a definition writes it."""
        depth = max(depth, 0)
        if type_ == I64:
            return self.number(depth)
        if type_ == STRING:
            return self.string(depth)
        if type_ == VEC:
            return Items("vec", [self.number(depth) for _ in range(self.dice.randrange(1, 4))])
        if type_.startswith("[i64; "):
            return Array(self.number(depth), type_[6:-1])
        return self.whole(type_, depth - 1)

    def string(self, depth):
        if depth and self.dice.randrange(3) == 0:
            try:
                return self.call(depth, STRING)
            except NothingFits:
                pass
        if depth and self.dice.randrange(3) == 0:
            try:
                of, value = self.some_value(depth)
                return self.pick(self.methods_of(of, value, STRING))
            except NothingFits:
                pass
        parts = [self.number(depth - 1) for _ in range(self.dice.randrange(3))] if depth else []
        if (names := self.of_type(STRING)) and self.dice.randrange(2):
            parts.append(Variable(self.dice.choice(names), STRING))
        return Text(self.dice.choice(WORDS), parts)
