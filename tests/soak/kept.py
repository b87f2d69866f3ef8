"""What goes on with the code that it was made with: closures, function pointers, trait objects; and what is done with
them."""

import copy

from language import (
    CLOSURE,
    COUNTER,
    I64,
    POINTER,
    Expression,
    Kept,
    Scope,
    Unsure,
    called,
    known,
    require,
    resolved,
)


class Pointer(Expression):
    """A function by its name, or a closure that captures nothing."""

    def __init__(self, name=None, body=None):
        self.name, self.body = name, body
        self.parts = (body,) if body else ()
        self.says = frozenset([name] if name else [])
        self.text = name or f"|n: i64| -> i64 {{ {body.text} }}"

    def type(self, scope):
        if self.name:
            found, function = scope.definition(self.name)
            require(function.kind == "fn", "it is no function")
            if [each for _, each in function.parameters] != [I64] or function.result != I64:
                raise Unsure("a pointer to a function of another kind")
        else:
            require(self.body.type(Scope(scope.world, None, {"n": I64})) == I64, "it gives no number")
        return POINTER

    def value(self, scope):
        if self.name:
            found, function = scope.definition(self.name)
            return Kept(scope.world, (found, function.parameters[0][0], function.body))
        return Kept(scope.world, (None, "n", self.body))


class Closure(Expression):
    """A closure that has captured a number, `k`."""

    def __init__(self, captured, body):
        self.parts, self.body = (captured, body), body
        self.text = f"{{ let k = {captured.text}; move |n: i64| -> i64 {{ {body.text} }} }}"

    def type(self, scope):
        require(self.parts[0].type(scope) == I64, "it captures a number")
        require(self.body.type(Scope(scope.world, None, {"n": I64, "k": I64})) == I64, "it gives no number")
        return CLOSURE

    def value(self, scope):
        return Kept(scope.world, (None, "n", self.body), self.parts[0].value(scope))


class Counter(Expression):
    """A closure with a state."""

    def __init__(self, start, step):
        self.parts, self.step = (start,), step
        self.text = f"{{ let mut k = {start.text}; move || -> i64 {{ k += {step}; k }} }}"

    def type(self, scope):
        require(self.parts[0].type(scope) == I64, "it captures a number")
        return COUNTER

    def value(self, scope):
        return Kept(scope.world, self.step, self.parts[0].value(scope))


class CallVariable(Expression):
    """A call of a variable: a pointer, a closure, a counter."""

    def __init__(self, name, wanted, argument=None):
        self.name, self.wanted, self.parts = name, wanted, (argument,) if argument else ()
        self.text = f"{name}({argument.text if argument else ''})"

    def type(self, scope):
        known(scope, self.name, self.wanted)
        require(all(part.type(scope) == I64 for part in self.parts), "it takes a number")
        require(self.wanted != COUNTER or scope.variables.is_mutable(self.name), f"{self.name} is not mut")
        return I64

    def value(self, scope):
        kept = scope.variables.value_of(self.name)
        if self.wanted == COUNTER:
            kept.captured += kept.body
            return kept.captured
        of, parameter, body = kept.body
        local = {parameter: self.parts[0].value(scope), "k": kept.captured}
        return body.value(Scope(kept.world, of, local, None, scope.memory))


class Object(Expression):
    """A trait object."""

    def __init__(self, inside, of_trait):
        self.parts, self.of_trait, self.says = (inside,), of_trait, frozenset([of_trait])
        self.text = f"Box::new({inside.text}) as Box<dyn {of_trait}>"

    def type(self, scope):
        found, _ = scope.definition(self.of_trait)
        kind, of = self.parts[0].type(scope)
        require(kind == "named" and (of, found, None) in scope.world.impls, "it has not the trait")
        return ("dyn", found)

    def value(self, scope):
        return Kept(scope.world, scope.definition(self.of_trait)[0], 0, self.parts[0].value(scope))


class CallObject(Expression):
    def __init__(self, name, of_trait, method):
        self.name, self.of_trait, self.method, self.says = name, of_trait, method, frozenset([of_trait])
        self.text = f"{name}.{method}()"

    def type(self, scope):
        known(scope, self.name, ("dyn", scope.world.meaning(None, self.of_trait)))
        _, definition = scope.definition(self.of_trait)
        require(self.method in definition.methods(), f"there is no {self.method}")
        return I64

    def value(self, scope):
        kept = scope.variables.value_of(self.name)
        then = Scope(kept.world, None, {}, None, scope.memory)
        found = kept.world.impls[kept.inside.type, kept.body, None]
        return called(then, found, kept.body, self.method, kept.inside)


class Shelve(Expression):
    """Puts a value on a static's shelf, and gives the first one there."""

    def __init__(self, name, of):
        self.name, self.parts, self.says = name, (of,), frozenset([name])
        put = f"let mut all = {name}.lock().unwrap(); all.push(one); all[0].clone()"
        self.text = f"({{ let one = {of.text}; {put} }})"

    def type(self, scope):
        found, static = scope.definition(self.name)
        require(bool(static.target), f"{self.name} is no shelf")
        of = self.parts[0].type(scope)
        require(of == resolved(static.target, scope.world, found), "a value of another type")
        return of

    def value(self, scope):
        one = self.parts[0].value(scope)
        found, _ = scope.definition(self.name)
        shelf = scope.memory.setdefault(found, [])
        shelf.append(copy.deepcopy(one))
        return copy.deepcopy(shelf[0])
