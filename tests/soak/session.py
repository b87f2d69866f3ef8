"""What a session is after each cell: the world of its items, its variables, its statics, and the way back."""

import copy
from dataclasses import dataclass, field

from language import (
    BOX,
    CLOSURE,
    COPIES,
    COUNTER,
    I64,
    POINTER,
    SHARED,
    STRING,
    VEC,
    DoesNotCompile,
    Scope,
    Unsure,
    known,
    require,
    resolved,
    shown,
)
from world import World


class Ended(Exception):
    """A cell stops before its end. `crash`: the process went, and all is as before the cell."""

    def __init__(self, crash):
        self.crash = crash


@dataclass
class Held:
    """A variable."""

    type: object
    mutable: bool
    value: object = None


class Types:
    """The variables that a cell sees, by their types, as rustc would."""

    def __init__(self, outer):
        self.outer, self.own, self.moved, self.moved_own = outer, {}, set(), set()

    def find(self, name):
        if name in self.own:
            require(name not in self.moved_own, f"{name} was moved")
            return self.own[name]
        require(name in self.outer and name not in self.moved, f"there is no {name}")
        return self.outer[name]

    def type_of(self, name):
        return self.find(name).type

    def is_mutable(self, name):
        return self.find(name).mutable

    def let(self, name, type_, mutable):
        self.own[name] = Held(type_, mutable)
        self.moved_own.discard(name)

    def move(self, name):
        if self.find(name).type in COPIES:
            return
        if name in self.own:
            # A closure that has captured numbers is copied in its own cell and moved in later ones.
            raise Unsure("moved in the cell that made it")
        self.moved.add(name)


class Values:
    """The variables that a cell sees, while it runs."""

    def __init__(self, outer):
        self.outer, self.own, self.stdout = outer, {}, []

    def find(self, name):
        return self.own[name] if name in self.own else self.outer[name]

    def value_of(self, name):
        return self.find(name).value

    def type_of(self, name):
        return self.find(name).type

    def is_mutable(self, name):
        return self.find(name).mutable


def can_be_shown(type_):
    return type_ not in (POINTER, CLOSURE, COUNTER) and type_[0] != "dyn"


class Statement:
    """`check` types it, `run` does it; both get the scope, whose variables are the cell's."""

    def check(self, scope):
        pass

    def run(self, scope):
        pass


class Let(Statement):
    def __init__(self, name, mutable, expression):
        self.name, self.mutable, self.expression = name, mutable, expression
        self.text = f"let {'mut ' * mutable}{name} = {expression.text};"

    def check(self, scope):
        scope.variables.let(self.name, self.expression.type(scope), self.mutable)

    def run(self, scope):
        # A number is what its box holds when it is read through one.
        type_, value = self.expression.type(scope), self.expression.value(scope)
        scope.variables.own[self.name] = Held(type_, self.mutable, value)


class Move(Statement):
    """`let other = name;` or `drop(name);`"""

    def __init__(self, name, to=None, mutable=False):
        self.name, self.to, self.mutable = name, to, mutable
        self.text = f"let {'mut ' * mutable}{to} = {name};" if to else f"drop({name});"

    def check(self, scope):
        type_ = scope.variables.type_of(self.name)
        scope.variables.move(self.name)
        if self.to:
            scope.variables.let(self.to, type_, self.mutable)

    def run(self, scope):
        if self.to:
            held = scope.variables.find(self.name)
            scope.variables.own[self.to] = Held(held.type, self.mutable, held.value)


class Change(Statement):
    """Changes a variable of a type in place. The text has the variable's name and the new part in it."""

    FORMS = {
        "add": (I64, "{0} += {1};", I64),
        "set": (I64, "{0} = {1};", I64),
        "loop": (I64, "for i in 0..3 {{ {0} += i + {1}; }}", I64),
        "box": (BOX, "*{0} += {1};", I64),
        "write": (STRING, "{0}.push_str(&{1});", STRING),
        "push": (VEC, "{0}.push({1});", I64),
        "share": (SHARED, "{0}.borrow_mut().push({1});", I64),
    }

    def __init__(self, form, name, part):
        self.form, self.name, self.part = form, name, part
        self.text = self.FORMS[form][1].format(name, part.text)

    def check(self, scope):
        of, _, wanted = self.FORMS[self.form]
        known(scope, self.name, of)
        require(of == SHARED or scope.variables.is_mutable(self.name), f"{self.name} is not mut")
        require(self.part.type(scope) == wanted, "the part has another type")

    def run(self, scope):
        if self.form == "loop":
            for i in range(3):
                scope.variables.find(self.name).value += i + self.part.value(scope)
            return
        part, held = self.part.value(scope), scope.variables.find(self.name)
        if self.form in ("push", "share"):
            held.value.append(part)
        elif self.form == "set":
            held.value = part
        else:
            held.value += part


class SetField(Statement):
    def __init__(self, name, of, field_, part):
        self.name, self.of, self.field, self.part = name, of, field_, part
        self.text = f"{name}.{field_} = {part.text};"

    def check(self, scope):
        # A field of an old value may be set, too.
        known(scope, self.name, ("named", scope.world.meaning(None, self.of)))
        found, definition = scope.definition(self.of)
        require(scope.variables.is_mutable(self.name), f"{self.name} is not mut")
        fields = dict(definition.fields)
        require(self.field in fields, "there is no such field")
        require(self.part.type(scope) == resolved(fields[self.field], scope.world, found), "of another type")

    def run(self, scope):
        part = self.part.value(scope)
        scope.variables.find(self.name).value.fields[self.field] = part


class Swap(Statement):
    def __init__(self, one, other):
        self.names = (one, other)
        self.text = f"std::mem::swap(&mut {one}, &mut {other});"

    def check(self, scope):
        one, other = (scope.variables.find(name) for name in self.names)
        if self.names[0] == self.names[1] or one.type != other.type:
            raise Unsure("not two variables of one type")
        require(one.mutable and other.mutable, "both are mut")

    def run(self, scope):
        one, other = (scope.variables.find(name) for name in self.names)
        one.value, other.value = other.value, one.value


class Print(Statement):
    def __init__(self, expression, title=None):
        self.expression = expression
        self.title = (title or expression.text).replace('"', "'").replace("{", "<").replace("}", ">")
        self.text = f'println!("{self.title} = {{:?}}", {expression.text});'

    def check(self, scope):
        self.expression.type(scope)

    def run(self, scope):
        type_ = self.expression.type(scope)
        scope.variables.stdout.append(f"{self.title} = {shown(self.expression.value(scope), type_)}\n")


class Show(Statement):
    """Prints a variable, whatever it is, if it can be shown."""

    def __init__(self, name):
        self.name, self.text = name, f'println!("{name} = {{:?}}", {name});'

    def check(self, scope):
        if not can_be_shown(scope.variables.type_of(self.name)):
            raise Unsure(f"{self.name} is no value to show now")

    def run(self, scope):
        held = scope.variables.find(self.name)
        scope.variables.stdout.append(f"{self.name} = {shown(held.value, held.type)}\n")


class Wrong(Statement):
    """Does not compile."""

    def __init__(self, text):
        self.text = text

    def check(self, scope):
        raise DoesNotCompile(self.text)


class AsNew(Statement):
    """Takes the value of a type that was defined anew for one of the new type."""

    def __init__(self, name, of):
        self.name, self.of = name, of
        self.text = f"drop({of}::clone(&{name}));"

    def check(self, scope):
        type_, (found, _) = scope.variables.type_of(self.name), scope.definition(self.of)
        require(type_ == ("named", found), "an old value")


class Stop(Statement):
    def __init__(self, text, crash):
        self.text, self.crash = text, crash

    def run(self, scope):
        raise Ended(self.crash)


@dataclass
class Cell:
    """What a person types. `command` is a magic in place of everything else."""

    definitions: list = field(default_factory=list)
    statements: list = field(default_factory=list)
    key: str = ""
    items_last: bool = False
    command: str = ""

    @property
    def text(self):
        items = "".join(definition.text for definition in self.definitions)
        statements = "".join(statement.text + "\n" for statement in self.statements)
        return self.command or (statements + items if self.items_last else items + statements)


@dataclass
class Outcome:
    """What the model says of a cell."""

    status: str = "ok"
    stdout: str = ""
    # Names of earlier items, and of variables, that a warning is about.
    keeps_old: set = field(default_factory=set)
    old_values: set = field(default_factory=set)


@dataclass
class Past:
    world: World
    state: tuple
    ran: bool


class Session:
    def __init__(self):
        self.world, self.variables, self.memory, self.history = World(), {}, {}, []

    def trial(self, cell):
        """The session after a cell and what is seen of it; this one stays as it is."""
        after = copy.deepcopy(self)
        return after, after.run(cell)

    def run(self, cell):
        if cell.command:
            return self.undo()
        past = Past(self.world, copy.deepcopy((self.variables, self.memory)), bool(cell.statements))
        try:
            world, change = self.world.after(cell.definitions, cell.key)
            types = Types(self.variables)
            for statement in cell.statements:
                statement.check(Scope(world, None, {}, types))
        except DoesNotCompile:
            return Outcome("error")
        outcome = Outcome(keeps_old=change.broken | change.orphans)
        # What the cell makes anew is of the new type.
        outcome.old_values = {
            name
            for name in self.variables
            if self.is_old(name, world) and not self.is_old(name, self.world) and name not in types.own
        }
        if not cell.statements:
            self.world = world
            self.history.append(past)
            return outcome
        self.history = [past]
        self.perform(cell, world, types, outcome)
        return outcome

    def perform(self, cell, world, types, outcome):
        values = Values(self.variables)
        try:
            for statement in cell.statements:
                statement.run(Scope(world, None, {}, values, self.memory))
        except Ended as ended:
            outcome.status = "error"
            if types.moved & set(types.own):
                raise Unsure("a moved variable's name is given anew") from None
            if ended.crash or types.moved:
                (self.variables, self.memory), self.history = self.history[0].state, []
            outcome.stdout = "".join(values.stdout)
            return
        self.world = world
        for name in types.moved:
            del self.variables[name]
        self.variables |= values.own
        outcome.stdout = "".join(values.stdout)

    def is_old(self, name, world):
        """Whether a variable is of a definition that is not in force any more."""
        in_force = set(world.in_force.values())

        def is_old(type_):
            if not isinstance(type_, tuple) or type_[0] == "array":
                return False
            return is_old(type_[1]) if type_[0] in ("vec", "option") else type_[1] not in in_force

        return is_old(self.variables[name].type)

    def undo(self):
        if not self.history:
            return Outcome("error")
        past = self.history.pop()
        self.world = past.world
        if past.ran:
            (self.variables, self.memory), self.history = past.state, []
        return Outcome()
