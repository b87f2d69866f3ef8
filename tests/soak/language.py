"""The little Rust that random sessions are written in: expressions that can be written as text, typed, and computed in
Python. It knows what a cell says because it has written it; it reads no Rust and shares nothing with prust.

A type is a word (`i64`, `String`, ..) or a pair: `("named", id)` for a type of the session, where the id is that of its
definition, so that a type defined anew is another one; `("vec", type)`, `("option", type)`, `("array", length)`,
`("dyn", id of the trait)`."""

import copy
from dataclasses import dataclass, field

I64, STRING, VEC, BOX, SHARED = "i64", "String", "Vec<i64>", "Box<i64>", "Rc<RefCell<Vec<i64>>>"
POINTER, CLOSURE, COUNTER = "fn(i64) -> i64", "Box<dyn Fn(i64) -> i64>", "Box<dyn FnMut() -> i64>"
PLAIN = (I64, STRING, VEC, BOX)
COPIES = (I64, POINTER)
# Numbers stay far from an overflow, or the session is not played.
GREATEST = 1 << 40


class DoesNotCompile(Exception):
    """rustc refuses the text."""


class Unsure(Exception):
    """The model does not say what happens: such a cell is not played."""


def require(true, why):
    if not true:
        raise DoesNotCompile(why)


@dataclass
class Scope:
    """Where an expression stands. `of` is the definition it belongs to, `None` for a cell's statements; `local` are
    parameters and captured values: types while typing, values while computing; `variables` is the cell."""

    world: object
    of: int | None = None
    local: dict = field(default_factory=dict)
    variables: object = None
    memory: dict | None = None
    # What `$a` stands for in a macro: an expression and its scope.
    hole: tuple | None = None
    # The trait and the impl behind `self.method()` in a trait's own body.
    behind: tuple | None = None

    def of_definition(self, of, local=None):
        return Scope(self.world, of, local or {}, None, self.memory)

    def in_macro(self, hole):
        return Scope(self.world, self.of, self.local, self.variables, self.memory, hole, self.behind)

    def definition(self, name, kind=None):
        """What a name means here: id and definition."""
        found = self.world.meaning(self.of, name)
        require(found is not None, f"there is no {name}")
        return found, self.world.definitions[found]


def resolved(text, world, of):
    """The type that a definition's text means."""
    if text.startswith("&"):
        return resolved(text[1:], world, of)
    if text in PLAIN:
        return text
    scope = Scope(world, of)
    if text.startswith("[i64; "):
        found, length = scope.definition(text[6:-1])
        return ("array", length.value)
    found, definition = scope.definition(text)
    return resolved(definition.target, world, found) if definition.kind == "alias" else ("named", found)


@dataclass
class Value:
    """A value of a type of the session."""

    type: int
    name: str
    # Of a struct: field by field; of an enum: what the variant carries.
    fields: dict
    variant: str = ""


@dataclass
class Kept:
    """A closure or a trait object: it goes on with the code that it was made with."""

    world: object
    body: object = None
    captured: int = 0
    inside: Value | None = None

    def __deepcopy__(self, memo):
        return Kept(self.world, self.body, self.captured, copy.deepcopy(self.inside, memo))


def shown(value, type_):
    """As `{:?}` writes it."""
    if isinstance(type_, tuple) and type_[0] == "option":
        return f"Some({shown(value, type_[1])})"
    if isinstance(value, Value):
        return shown_value(value)
    if type_ == SHARED:
        return f"RefCell {{ value: {value} }}"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list):
        return f"[{', '.join(shown(each, None) for each in value)}]"
    return str(value)


def shown_value(value):
    if value.variant:
        inside = [shown(each, None) for each in value.fields.values()]
        return value.variant + (f"({', '.join(inside)})" if inside else "")
    if not value.fields:
        return value.name
    fields = ", ".join(f"{name}: {shown(each, None)}" for name, each in value.fields.items())
    return f"{value.name} {{ {fields} }}"


class Expression:
    """`text` is Rust; `says` are the names of the session that it uses by itself, methods with a dot in front; `parts`
    are expressions in it."""

    parts = ()
    says = frozenset()

    def all_says(self):
        return self.says.union(*(part.all_says() for part in self.parts))


class Number(Expression):
    def __init__(self, n):
        self.n, self.text = n, f"{n}i64"

    def type(self, _):
        return I64

    def value(self, _):
        return self.n


class Local(Expression):
    """A parameter, `self`, or what a closure has captured."""

    def __init__(self, name):
        self.name = self.text = name

    def type(self, scope):
        return scope.local[self.name]

    def value(self, scope):
        return scope.local[self.name]


class Hole(Expression):
    text = "$a"

    def type(self, scope):
        expression, outside = scope.hole
        return expression.type(outside)

    def value(self, scope):
        expression, outside = scope.hole
        return expression.value(outside)


def known(scope, name, wanted):
    """The variable's type. Whether text that was written for another one compiles is not known."""
    type_ = scope.variables.type_of(name)
    if type_ != wanted:
        raise Unsure(f"{name} is a {type_} now")
    return type_


class Variable(Expression):
    """A variable of the session, read where it is."""

    def __init__(self, name, wanted):
        self.name, self.wanted = name, wanted
        self.text = f"*{name}" if wanted == BOX else name

    def type(self, scope):
        type_ = known(scope, self.name, self.wanted)
        return I64 if type_ == BOX else type_

    def value(self, scope):
        return scope.variables.value_of(self.name)


class Length(Expression):
    """The length of a variable, as a number."""

    def __init__(self, name, wanted):
        self.name, self.wanted = name, wanted
        self.text = f"({name}.{'borrow().' * (wanted == SHARED)}len() as i64)"

    def type(self, scope):
        known(scope, self.name, self.wanted)
        return I64

    def value(self, scope):
        return len(scope.variables.value_of(self.name))


class Sum(Expression):
    def __init__(self, one, other, factor=1):
        self.parts, self.factor = (one, other), factor
        self.text = f"({one.text} + {other.text}{f' * {factor}' if factor > 1 else ''})"

    def type(self, scope):
        for part in self.parts:
            require(part.type(scope) == I64, "only numbers are added")
        return I64

    def value(self, scope):
        one, other = self.parts[0].value(scope), self.parts[1].value(scope)
        result = one + other * self.factor
        if abs(result) > GREATEST:
            raise Unsure("a number is too large")
        return result


class Call(Expression):
    def __init__(self, name, arguments):
        self.name, self.parts, self.says = name, tuple(arguments), frozenset([name])
        self.text = f"{name}({', '.join(part.text for part in arguments)})"

    def type(self, scope):
        found, function = scope.definition(self.name)
        require(len(self.parts) == len(function.parameters), f"{self.name} takes other arguments")
        for part, (_, wanted) in zip(self.parts, function.parameters):
            by_reference = isinstance(part, Reference)
            require(by_reference == wanted.startswith("&"), "a reference is no value")
            require(part.type(scope) == resolved(wanted, scope.world, found), "an argument of another type")
        return resolved(function.result, scope.world, found)

    def value(self, scope):
        found, function = scope.definition(self.name)
        values = [part.value(scope) for part in self.parts]
        local = {name: value for (name, _), value in zip(function.parameters, values)}
        return function.body.value(scope.of_definition(found, local))


class Reference(Expression):
    def __init__(self, of):
        self.parts, self.text = (of,), f"&{of.text}"

    def type(self, scope):
        return self.parts[0].type(scope)

    def value(self, scope):
        return self.parts[0].value(scope)


class Constant(Expression):
    def __init__(self, name):
        self.name = self.text = name
        self.says = frozenset([name])

    def type(self, scope):
        scope.definition(self.name)
        return I64

    def value(self, scope):
        found, constant = scope.definition(self.name)
        return constant.body.value(scope.of_definition(found))


class Macro(Expression):
    """What the macro names, it names where it is used."""

    def __init__(self, name, argument):
        self.name, self.parts, self.says = name, (argument,), frozenset([f"{name}!"])
        self.text = f"{name}!({argument.text})"

    def body(self, scope):
        _, macro = scope.definition(f"{self.name}!")
        return macro.body, scope.in_macro((self.parts[0], scope))

    def type(self, scope):
        body, inside = self.body(scope)
        return body.type(inside)

    def value(self, scope):
        body, inside = self.body(scope)
        return body.value(inside)


class Bump(Expression):
    """Adds to a static and gives what it was."""

    def __init__(self, name, n):
        self.name, self.n, self.says = name, n, frozenset([name])
        self.text = f"{name}.fetch_add({n}, std::sync::atomic::Ordering::SeqCst)"

    def type(self, scope):
        require(not scope.definition(self.name)[1].target, f"{self.name} is no number")
        return I64

    def value(self, scope):
        found, static = scope.definition(self.name)
        before = scope.memory.get(found, static.value)
        scope.memory[found] = before + self.n
        return before


class Field(Expression):
    def __init__(self, of, name):
        self.parts, self.name = (of,), name
        self.text = f"{of.text}.{name}"

    def type(self, scope):
        of = self.parts[0].type(scope)
        require(isinstance(of, tuple) and of[0] == "named", "only structs have fields")
        definition = scope.world.definitions[of[1]]
        fields = dict(definition.fields) if definition.kind == "struct" else {}
        require(self.name in fields, f"there is no field {self.name}")
        return resolved(fields[self.name], scope.world, of[1])

    def value(self, scope):
        return self.parts[0].value(scope).fields[self.name]


class Method(Expression):
    """A method without arguments; `of_trait` is where it comes from, `None` for the type's own."""

    def __init__(self, of, name, of_trait=None):
        self.parts, self.name, self.of_trait = (of,), name, of_trait
        self.says = frozenset([f".{name}", *([of_trait] if of_trait else [])])
        self.text = f"{of.text}.{name}()"

    def found(self, scope, type_):
        of_trait = scope.definition(self.of_trait)[0] if self.of_trait else None
        if of_trait:
            found = scope.world.impls.get((type_, of_trait, None))
        else:
            found = scope.world.method_of(scope.of, type_, self.name)
        require(found is not None, f"there is no method {self.name}")
        if of_trait:
            require(self.name in scope.world.definitions[of_trait].methods(), f"the trait has no {self.name}")
        return found, of_trait

    def type(self, scope):
        of = self.parts[0].type(scope)
        require(isinstance(of, tuple) and of[0] == "named", "only types of the session have methods")
        found, _ = self.found(scope, of[1])
        return scope.world.definitions[found].result

    def value(self, scope):
        of = self.parts[0].value(scope)
        return called(scope, *self.found(scope, of.type), self.name, of)


def called(scope, found, of_trait, name, of):
    """A method's value: as the impl says it, else as the trait does."""
    bodies = scope.world.definitions[found].bodies
    if name in bodies:
        return bodies[name].value(scope.of_definition(found, {"self": of}))
    inside = scope.of_definition(of_trait, {"self": of})
    inside.behind = (found, of_trait)
    return scope.world.definitions[of_trait].bodies[name].value(inside)


class OwnMethod(Expression):
    """`self.method()` in a trait's own body."""

    def __init__(self, name):
        self.name, self.text, self.says = name, f"self.{name}()", frozenset([f".{name}"])

    def type(self, scope):
        return I64

    def value(self, scope):
        return called(scope, *scope.behind, self.name, scope.local["self"])


class New(Expression):
    """A struct with all its fields."""

    def __init__(self, name, fields):
        self.name, self.names, self.parts = name, [each for each, _ in fields], tuple(part for _, part in fields)
        self.says = frozenset([name])
        inside = ", ".join(f"{each}: {part.text}" for each, part in fields)
        self.text = f"{name} {{ {inside} }}"

    def type(self, scope):
        found, definition = scope.definition(self.name)
        names = [each for each, _ in definition.fields]
        require(sorted(names) == sorted(self.names), f"{self.name} has other fields")
        if names != self.names:
            raise Unsure("the fields have another order")
        for part, (_, wanted) in zip(self.parts, definition.fields):
            require(part.type(scope) == resolved(wanted, scope.world, found), "a field of another type")
        return ("named", found)

    def value(self, scope):
        found, _ = scope.definition(self.name)
        return Value(found, self.name, {each: part.value(scope) for each, part in zip(self.names, self.parts)})


class Variant(Expression):
    def __init__(self, name, variant, parts):
        self.name, self.variant, self.parts, self.says = name, variant, tuple(parts), frozenset([name])
        inside = ", ".join(part.text for part in parts)
        self.text = f"{name}::{variant}" + (f"({inside})" if parts else "")

    def type(self, scope):
        found, definition = scope.definition(self.name)
        variants = dict(definition.variants)
        require(self.variant in variants, f"there is no {self.text}")
        if variants[self.variant] and not self.parts:
            raise Unsure("without what it carries, a variant is a function")
        require([part.type(scope) for part in self.parts] == variants[self.variant], "a variant of another type")
        return ("named", found)

    def value(self, scope):
        found, _ = scope.definition(self.name)
        return Value(found, self.name, {str(at): part.value(scope) for at, part in enumerate(self.parts)}, self.variant)


class Inside(Expression):
    """The number in a variant, or another one."""

    def __init__(self, of, name, variant, other):
        self.parts, self.variant, self.other, self.name = (of,), variant, other, name
        self.says = frozenset([name])
        self.text = f"(match &{of.text} {{ {name}::{variant}(n) => *n, _ => {other} }})"

    def type(self, scope):
        found, definition = scope.definition(self.name)
        require(self.parts[0].type(scope) == ("named", found), "another type")
        require(dict(definition.variants).get(self.variant) == [I64], "there is no number in it")
        return I64

    def value(self, scope):
        of = self.parts[0].value(scope)
        return of.fields["0"] if of.variant == self.variant else self.other


class Text(Expression):
    def __init__(self, word, parts=()):
        self.word, self.parts = word, tuple(parts)
        inside = "".join(f", {part.text}" for part in parts)
        self.text = f'format!("{word}{":{}" * len(parts)}"{inside})' if parts else f'String::from("{word}")'

    def type(self, scope):
        for part in self.parts:
            require(part.type(scope) in (I64, STRING), "it cannot be displayed")
        return STRING

    def value(self, scope):
        return ":".join([self.word, *(str(part.value(scope)) for part in self.parts)])


class Items(Expression):
    """`vec![..]` of one type, `[x; N]`, `Some(..)`, a box or a shared list: what holds parts."""

    FORMS = {
        "vec": ("vec![", "]"),
        "some": ("Some(", ")"),
        "box": ("Box::new(", ")"),
        "shared": ("std::rc::Rc::new(std::cell::RefCell::new(vec![", "]))"),
    }

    def __init__(self, form, parts):
        self.form, self.parts = form, tuple(parts)
        start, end = self.FORMS[form]
        self.text = start + ", ".join(part.text for part in parts) + end

    def type(self, scope):
        types = [part.type(scope) for part in self.parts]
        require(all(each == types[0] for each in types), "parts of several types")
        numbers = types[0] == I64
        if self.form in ("box", "shared"):
            require(numbers, "only numbers are held so")
            return BOX if self.form == "box" else SHARED
        if self.form == "some":
            return ("option", types[0])
        return VEC if numbers else ("vec", types[0])

    def value(self, scope):
        values = [part.value(scope) for part in self.parts]
        return values[0] if self.form in ("box", "some") else values


class Array(Expression):
    """`[x; L0]`, whose length is a constant of the session."""

    def __init__(self, part, length):
        self.parts, self.length, self.says = (part,), length, frozenset([length])
        self.text = f"[{part.text}; {length}]"

    def type(self, scope):
        require(self.parts[0].type(scope) == I64, "only numbers are repeated")
        return ("array", scope.definition(self.length)[1].value)

    def value(self, scope):
        return [self.parts[0].value(scope)] * scope.definition(self.length)[1].value


class Clone(Expression):
    def __init__(self, of):
        self.parts, self.text = (of,), f"{of.text}.clone()"

    def type(self, scope):
        return self.parts[0].type(scope)

    def value(self, scope):
        value = self.parts[0].value(scope)
        # A shared list is shared on.
        return value if self.parts[0].type(scope) == SHARED else copy.deepcopy(value)
