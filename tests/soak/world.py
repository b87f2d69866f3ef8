"""What the names of a session mean: which definition each has, and what a definition goes on meaning when it cannot
follow a change. It follows what is promised in `src/ARCHITECTURE.md` under "Items", and knows nothing of crates."""

from dataclasses import dataclass, field
from itertools import count

from language import I64, PLAIN, DoesNotCompile, Scope, Unsure, require, resolved

# Their text decides what types are, as do the names in it.
DECIDES = ("struct", "enum", "trait", "const", "len", "alias", "macro", "static")


@dataclass
class Definition:
    """An item as it is written. The fields that it has depend on its kind."""

    kind: str
    name: str
    parameters: list = field(default_factory=list)
    result: str = I64
    body: object = None
    value: int = 0
    fields: list = field(default_factory=list)
    variants: list = field(default_factory=list)
    target: str = ""
    required: list = field(default_factory=list)
    bodies: dict = field(default_factory=dict)
    subject: str = ""
    of_trait: str | None = None

    def methods(self):
        return [*self.required, *self.bodies]

    @property
    def text(self):
        return getattr(self, f"{self.kind}_text")().replace("\n", "\n    ") + "\n"

    def fn_text(self):
        parameters = ", ".join(f"{name}: {type_}" for name, type_ in self.parameters)
        return f"fn {self.name}({parameters}) -> {self.result} {{ {self.body.text} }}"

    def const_text(self):
        return f"const {self.name}: i64 = {self.body.text};"

    def len_text(self):
        return f"const {self.name}: usize = {self.value};"

    def struct_text(self):
        fields = ", ".join(f"{name}: {type_}" for name, type_ in self.fields)
        return f"#[derive(Clone, Debug, PartialEq)] struct {self.name} {{ {fields} }}"

    def enum_text(self):
        one = lambda name, types: f"{name}({', '.join(types)})" if types else name
        return f"#[derive(Clone, Debug, PartialEq)] enum {self.name} {{ {', '.join(one(*each) for each in self.variants)} }}"

    def alias_text(self):
        return f"type {self.name} = {self.target};"

    def macro_text(self):
        return f"macro_rules! {self.name[:-1]} {{ ($a:expr) => {{ {self.body.text} }}; }}"

    def static_text(self):
        if self.target:
            return f"static {self.name}: std::sync::Mutex<Vec<{self.target}>> = std::sync::Mutex::new(Vec::new());"
        atomic = "std::sync::atomic::AtomicI64"
        return f"static {self.name}: {atomic} = {atomic}::new({self.value});"

    def trait_text(self):
        required = [f"fn {name}(&self) -> i64;" for name in self.required]
        return f"trait {self.name} {{ {' '.join([*required, *self.members()])} }}"

    def impl_text(self):
        of_trait = f"{self.of_trait} for " if self.of_trait else ""
        return f"impl {of_trait}{self.subject} {{ {' '.join(self.members())} }}"

    def members(self):
        return [f"fn {name}(&self) -> {self.result} {{ {body.text} }}" for name, body in self.bodies.items()]

    def own_says(self):
        """The names that it says itself."""
        types = [self.result, self.target, self.subject, *(each for _, each in [*self.parameters, *self.fields])]
        types += [each for _, each_types in self.variants for each in each_types]
        words = {word.removeprefix("&").removeprefix("[i64; ").removesuffix("]") for word in types}
        says = words - {"", *PLAIN} | ({self.of_trait} if self.of_trait else set())
        bodies = [self.body] if self.body else []
        return says.union(*(body.all_says() for body in [*bodies, *self.bodies.values()]))


def is_inherent(definition):
    return definition.kind == "impl" and not definition.of_trait


@dataclass
class Change:
    """What a cell's items do to earlier ones: who goes on with old definitions, by name."""

    broken: set = field(default_factory=set)
    orphans: set = field(default_factory=set)


class World:
    """Never changes once it is made: a cell makes another one."""

    def __init__(self, of=None):
        self.in_force = dict(of.in_force) if of else {}
        self.definitions = dict(of.definitions) if of else {}
        self.keys = dict(of.keys) if of else {}
        # What names mean to a definition, where that is not what is in force.
        self.kept = {one: dict(names) for one, names in of.kept.items()} if of else {}
        # By type, trait (or `None`) and the method's name (`None` for a trait): the impl.
        self.impls = dict(of.impls) if of else {}
        # A number is given once in a session, also by cells that fail or are undone.
        self.numbers = of.numbers if of else count(1)

    def __deepcopy__(self, _):
        return self

    def meaning(self, of, name):
        kept = self.kept.get(of, {})
        return kept[name] if name in kept else self.in_force.get(name)

    def says(self, of):
        """What a definition says, with what the macros in it make it say."""
        found, open_ = set(), set(self.definitions[of].own_says())
        while open_:
            name = open_.pop()
            found.add(name)
            meant = self.meaning(of, name) if name.endswith("!") else None
            if meant is not None:
                open_ |= self.definitions[meant].own_says() - found
        return found

    def add(self, definition):
        found = next(self.numbers)
        self.definitions[found] = definition
        return found

    # A cell.

    def after(self, definitions, key):
        """The world after a cell with these items. Raises when the cell does not compile."""
        after, change = World(self), Change()
        new = after.take_in(self, definitions, key, change)
        after.renew(self, new)
        after.find_impls()
        after.refuse_circles()
        one, other = World(after), World(after)
        pinned = one.pin_broken(self, new, all_at_once=True)
        other.pin_broken(self, new, all_at_once=False)
        first = {found: after.fault(found) for found in new}
        last = {found: one.fault(found) for found in new}
        if any(first.values()) and any(last.values()):
            raise DoesNotCompile(next(filter(None, last.values())))
        if any(first.values()) or any(last.values()) or one.kept != other.kept or one.impls != other.impls:
            raise Unsure("it depends on what is tried first")
        one.refuse_circles()
        one.refuse_broken_past()
        tried = self.tried(definitions)
        change.broken = {one.definitions[found].name for found in pinned if one.is_news(self, found, tried)}
        return one, change

    def tried(self, definitions):
        """The names of these that may fit who does not fit what is in force."""
        # A method that is written again as it was brings nothing that could be tried.
        same = lambda each: each.name in self.in_force and self.definitions[self.in_force[each.name]].text == each.text
        return {each.name for each in definitions if not (is_inherent(each) and same(each))}

    def is_news(self, before, found, tried):
        """Whether it goes on with something else than before, or with what is defined anew once more."""
        kept = self.kept[found]
        return kept != before.kept.get(before.in_force[self.definitions[found].name]) or bool(tried & set(kept))

    def take_in(self, before, definitions, key, change):
        """Puts the cell's items into force in place of what they replace; gives those that are new."""
        names = {definition.name for definition in definitions}
        again = {name for name, found in self.in_force.items() if key and self.keys.get(found) == key}
        gone = again - names
        tried = self.tried(definitions)
        impls = [each for each in definitions if each.kind == "impl"]
        implemented = {each.subject for each in impls} | {each.of_trait for each in impls}
        for of, kept in self.kept.items():
            if of not in self.in_force.values():
                continue
            # Where one name changes, or a type that is kept gets an impl, all may fit together again; each method is tried
            # for itself, and with one of the old type no new type fits.
            has_methods = any(name.startswith("impl ") for name in kept)
            is_tried = tried & before.says(of) or not has_methods and implemented & set(kept)
            for name in list(kept):
                is_method, is_there = name.startswith("impl "), name in tried or name in self.in_force
                if (name in tried and not self.is_of_the_past(kept[name])) if is_method else is_tried and is_there:
                    del kept[name]
        new = set()
        for definition in definitions:
            old = self.in_force.get(definition.name)
            if old is not None and self.definitions[old].text == definition.text:
                # Written again, it means by each name what that means now.
                self.keys[old] = key
                self.kept.pop(old, None)
                new.add(old)
                continue
            found = self.add(definition)
            self.in_force[definition.name] = found
            self.keys[found] = key
            new.add(found)
        for name in gone:
            del self.in_force[name]
        for found in set(self.in_force.values()) - new:
            for name in before.says(found) & gone:
                if self.meaning(found, name) is None:
                    if self.definitions[found].kind == "macro":
                        raise Unsure("a macro says what is gone")
                    self.kept.setdefault(found, {})[name] = before.meaning(found, name)
                    change.orphans.add(self.definitions[found].name)
        return new

    def is_of_the_past(self, found):
        """Whether it is a method of a type that is not in force any more: such a type gets no new ones."""
        definition = self.definitions.get(found)
        if not definition or not is_inherent(definition):
            return False
        try:
            return resolved(definition.subject, self, found)[1] not in self.in_force.values()
        except DoesNotCompile:
            return True

    def renew(self, before, new):
        """What decides types is another thing when a name in it means another thing."""
        decides = lambda found: self.definitions[found].kind in DECIDES
        while True:
            stale = [
                (name, found)
                for name, found in self.in_force.items()
                if found in before.definitions and decides(found) and self.means_another(before, found, decides)
            ]
            if not stale:
                break
            for name, found in stale:
                self.succeed(name, found, new)
        for name, found in list(self.in_force.items()):
            definition = self.definitions[found]
            if definition.kind != "impl" or found not in before.definitions:
                continue
            if any(before.meaning(found, each) != self.meaning(found, each) for each in self.subjects(found)):
                self.succeed(name, found, new)
        as_it_was = {}
        for found in set(before.in_force.values()) - set(self.in_force.values()):
            self.freeze(before, found, found, as_it_was)

    def freeze(self, before, found, old, as_it_was):
        """An old definition goes on with what it named, and the functions that it called with what these named."""
        names = {name: before.meaning(old, name) for name in before.says(old)}
        names = {**before.kept.get(old, {}), **names}
        self.kept[found] = {name: self.as_it_was(before, meant, as_it_was) for name, meant in names.items()}

    def as_it_was(self, before, found, known):
        """A function that goes on as it was, whatever becomes of this one."""
        definition = before.definitions.get(found)
        if not definition or definition.kind != "fn" or found not in before.in_force.values():
            return found
        if found not in known:
            known[found] = self.add(definition)
            self.freeze(before, known[found], found, known)
        return known[found]

    def subjects(self, found):
        definition = self.definitions[found]
        return [name for name in (definition.subject, definition.of_trait) if name]

    def means_another(self, before, found, decides):
        if found not in before.in_force.values():
            return False
        for name in before.says(found):
            one, other = before.meaning(found, name), self.meaning(found, name)
            if one != other and any(each is not None and decides(each) for each in (one, other)):
                return True
        return False

    def succeed(self, name, found, new):
        """The same text, another thing."""
        successor = self.add(self.definitions[found])
        if found in new:
            new.remove(found)
            new.add(successor)
        self.in_force[name] = successor
        self.keys[successor] = self.keys.get(found, "")
        if found in self.kept:
            self.kept[successor] = dict(self.kept[found])

    def find_impls(self):
        """Which type has which methods: what is in force counts, for old types what they had."""
        current = set(self.in_force.values())
        self.impls = {place: found for place, found in self.impls.items() if place[0] not in current}
        for found in current:
            definition = self.definitions[found]
            if definition.kind != "impl":
                continue
            try:
                type_ = resolved(definition.subject, self, found)
            except DoesNotCompile:
                continue
            of_trait = self.meaning(found, definition.of_trait) if definition.of_trait else None
            self.impls[type_[1], of_trait, None if of_trait else next(iter(definition.bodies))] = found

    def refuse_circles(self):
        """Recursion never ends, and a type within itself has no size: neither is played."""
        done = set()

        def visit(found, path):
            if found in path:
                raise Unsure("a circle")
            if found not in done:
                for each in self.leads_to(found):
                    visit(each, path | {found})
                done.add(found)

        for found in self.in_force.values():
            visit(found, frozenset())

    def refuse_broken_past(self):
        """An old definition that others go on with may itself call a method that has another result now."""
        open_, done = list(self.in_force.values()), set()
        while open_:
            found = open_.pop()
            if found in done:
                continue
            done.add(found)
            open_ += [kept for kept in self.kept.get(found, {}).values() if kept is not None]
            if self.fault(found) and found not in self.in_force.values():
                raise Unsure("an old definition does not fit")

    def leads_to(self, found):
        """What a definition may use: by name, and every method of a name that it calls."""
        says = self.says(found)
        methods = {name[1:] for name in says if name.startswith(".")}
        bodies = [*self.impls.values(), *self.in_force.values()]
        called = {each for each in bodies if methods & set(self.definitions[each].bodies)}
        return called.union(meant for name in says if (meant := self.meaning(found, name)) is not None) - (
            {found} if self.definitions[found].kind == "trait" else set()
        )

    def method_of(self, of, type_, name):
        """The type's own method of this name, as a definition means it."""
        for kept in self.kept.get(of, {}).values():
            definition = self.definitions.get(kept)
            if definition and is_inherent(definition) and name in definition.bodies:
                if resolved(definition.subject, self, kept) == ("named", type_):
                    return kept
        return self.impls.get((type_, None, name))

    def methods_said(self, of):
        """The impls in force that have a method of a name that a definition calls, and those that it keeps."""
        called = {name[1:] for name in self.says(of) if name.startswith(".")}
        known = {**self.in_force, **self.kept.get(of, {})}
        has = lambda each: is_inherent(each) and called & set(each.bodies)
        return {name for name, found in known.items() if found is not None and has(self.definitions[found])}

    # What does not compile.

    def pin_broken(self, before, new, all_at_once):
        """Earlier items that do not compile go on with what they knew; gives them."""
        pinned = {}
        while True:
            earlier = [found for found in self.in_force.values() if found not in new]
            broken = [found for found in sorted(earlier) if self.fault(found)]
            if not broken:
                return pinned
            if not all_at_once:
                names = {self.definitions[found].name for found in broken}
                lowest = [found for found in broken if not self.says(found) & names]
                broken = lowest[:1] or broken[:1]
            for found in broken:
                definition = self.definitions[found]
                if definition.kind not in ("fn", "impl"):
                    raise Unsure("it may be left out")
                # First what it names, then what its types can do.
                old = before.in_force[definition.name]
                says = before.methods_said(old) if found in pinned else before.says(old)
                passed = {name: before.meaning(old, name) for name in says}
                passed = {name: meant for name, meant in passed.items() if self.in_force.get(name) != meant}
                if pinned.get(found) == "methods" or found in pinned and not passed:
                    raise Unsure("it may be left out")
                self.kept.setdefault(found, {}).update(passed)
                pinned[found] = "methods" if found in pinned else "names"
            self.find_impls()

    def fault(self, found):
        """Why a definition does not compile, if so."""
        try:
            self.check(found)
        except DoesNotCompile as why:
            return str(why) or "it does not compile"
        return None

    def check(self, found):
        definition = self.definitions[found]
        inside = Scope(self, found)
        kind = definition.kind
        if kind == "fn":
            inside.local = {name: resolved(type_, self, found) for name, type_ in definition.parameters}
            require(definition.body.type(inside) == resolved(definition.result, self, found), "another result")
        elif kind == "const":
            require(definition.body.type(inside) == I64, "no number")
        elif kind == "struct":
            for _, type_ in definition.fields:
                resolved(type_, self, found)
        elif kind == "alias" or (kind == "static" and definition.target):
            resolved(definition.target, self, found)
        elif kind == "trait":
            for body in definition.bodies.values():
                require(body.type(inside) == I64, "no number")
        elif kind == "impl":
            self.check_impl(found, definition)

    def check_impl(self, found, definition):
        of_type = resolved(definition.subject, self, found)
        require(isinstance(of_type, tuple) and of_type[0] == "named", "not a type of the session")
        if definition.of_trait:
            meant = self.meaning(found, definition.of_trait)
            require(meant is not None, "there is no such trait")
            of_trait = self.definitions[meant]
            require(set(of_trait.required) <= set(definition.bodies), "a method is missing")
            require(set(definition.bodies) <= set(of_trait.methods()), "the trait has no such method")
        for body in definition.bodies.values():
            require(body.type(Scope(self, found, {"self": of_type})) == definition.result, "another result")
