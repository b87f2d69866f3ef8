//! What is kept in place of a value whose type no later cell can write: a closure boxed by its
//! signature, a future boxed and pinned, an iterator boxed by its items, a function by its pointer.
//! Text in, text out; what does not compile is tried in a weaker form, or given up.

use super::generated::clean;
use super::mir::{self, Body, Types};

/// In which form a value is kept. The strongest is tried first; rustc's errors weaken it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// What seems to capture nothing is a function. MIR does not show a capture without a size:
    /// another function, say.
    function: bool,
    auto: Auto,
    /// Parameters take any lifetime, else `'static` ones.
    any_lifetime: bool,
    shape: Shape,
}

/// Which auto traits a box promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Auto {
    SendSync,
    Send,
    Nothing,
}

/// What a type that is neither closure nor future is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Iterator,
    Future,
}

impl Form {
    pub const STRONGEST: Self =
        Self { function: true, auto: Auto::SendSync, any_lifetime: true, shape: Shape::Iterator };

    /// The next weaker form, after rustc has said `message` about this one.
    pub fn weaker(self, message: &str) -> Option<Self> {
        if self.function && message.contains("non-primitive cast") {
            return Some(Self { function: false, ..self });
        }
        let weaker = match self.auto {
            Auto::SendSync if message.contains("cannot be shared between threads") => {
                Some(Self { auto: Auto::Send, ..self })
            }
            Auto::SendSync | Auto::Send if message.contains("between threads") => {
                Some(Self { auto: Auto::Nothing, ..self })
            }
            _ => None,
        };
        if weaker.is_some() {
            return weaker;
        }
        match self.shape {
            Shape::Iterator if message.contains("is not an iterator") => {
                Some(Self { shape: Shape::Future, ..self })
            }
            _ if message.contains("is not a future") => None,
            _ if self.any_lifetime => Some(Self { any_lifetime: false, ..self }),
            _ => None,
        }
    }

    fn bounds(self, shared: bool) -> &'static str {
        match self.auto {
            Auto::SendSync if shared => " + ::std::marker::Send + ::std::marker::Sync",
            Auto::SendSync | Auto::Send => " + ::std::marker::Send",
            Auto::Nothing => "",
        }
    }
}

/// Writes the expression that makes of `value`, of the type `type_text`, something that can be
/// kept; `None` when nothing can.
pub fn kept(value: &str, type_text: &str, types: &Types, form: Form) -> Option<String> {
    Keeper { types, form }.convert(value, type_text, 0)
}

/// As [`kept`], for a value of a type that no other cell may name.
pub fn kept_hidden(value: &str, form: Form) -> String {
    let types = Types::default();
    Keeper { types: &types, form }.boxed_whole(value)
}

/// As [`kept`], for a value that is known by bounds, alone or in something that holds it:
/// `Vec<impl Fn(i32) -> i32 + Clone>`.
pub fn kept_opaque(value: &str, type_text: &str, form: Form) -> Option<String> {
    let types = Types::default();
    Keeper { types: &types, form }.convert(value, type_text, 0).filter(|text| text != value)
}

/// The type to write by hand where a value cannot be kept by itself, as far as it is known; with
/// functions for what seems to capture nothing, or boxes.
pub fn by_hand(type_text: &str, types: &Types, function: bool) -> Option<String> {
    let form = Form { auto: Auto::Nothing, function, ..Form::STRONGEST };
    let labels = types.bodies.keys().filter(|label| type_text.contains(label.as_str()));
    let labels: Vec<(String, &String)> =
        labels.enumerate().map(|(at, label)| (format!("__prust_body_{at}"), label)).collect();
    let text =
        labels.iter().fold(type_text.to_owned(), |text, (at, label)| text.replace(*label, at));
    // References of the closures' own stay as they are: they are given other ones by each call.
    let text = mir::unwritable(&text).is_none().then(|| mir::writable(&text))?;
    labels.iter().try_fold(text, |text, (at, label)| {
        let target = Keeper { types, form }.target(label)?;
        (!target.contains("-> _")).then(|| text.replace(at, &target))
    })
}

/// The names of types that every cell knows without their paths.
const KNOWN: [&str; 5] = [
    "std::boxed::Box",
    "std::option::Option",
    "std::result::Result",
    "std::string::String",
    "std::vec::Vec",
];

/// A type as the user may write it: without our crates and without paths that are not needed.
pub fn as_people_write(type_text: &str) -> String {
    let text = clean(&type_text.replace("::std::", "std::"));
    KNOWN
        .iter()
        .fold(text, |text, path| text.replace(path, path.rsplit("::").next().unwrap_or_default()))
}

/// What holds values that can be converted one by one, and is itself no iterator.
const HOLDERS: [&str; 4] = ["std::vec::Vec<", "std::option::Option<", "std::result::Result<", "["];

struct Keeper<'a> {
    types: &'a Types,
    form: Form,
}

impl Keeper<'_> {
    /// The type that [`Keeper::convert`] makes, where it can be known before rustc says it.
    fn target(&self, type_text: &str) -> Option<String> {
        if mir::unwritable(type_text).is_none() {
            return Some(self.written(type_text));
        }
        let body = self.types.bodies.get(type_text)?;
        if body.calls == "Future" {
            let output = self.written(mir_writable(&body.result)?);
            let bounds = self.form.bounds(false);
            return Some(format!(
                "::std::pin::Pin<::std::boxed::Box<dyn ::std::future::Future<Output = {output}>\
                 {bounds}>>"
            ));
        }
        // What it becomes, rustc says.
        let result = self.target(&body.result).unwrap_or_else(|| "_".to_owned());
        let parameters = self.parameters(body)?.join(", ");
        // Without a borrowed argument, what is borrowed in the result is static.
        let any = self.form.any_lifetime && (parameters.contains('&') || parameters.contains("'_"));
        let result = if any { result } else { mir::writable(&result) };
        if self.is_function(body) {
            return Some(format!("fn({parameters}) -> {result}"));
        }
        let (calls, bounds) = (&body.calls, self.form.bounds(true));
        let call = format!("::std::ops::{calls}({parameters}) -> {result}");
        Some(format!("::std::boxed::Box<dyn {call}{bounds}>"))
    }

    /// Captures nothing, and its result is kept as it is.
    fn is_function(&self, body: &Body) -> bool {
        self.form.function && !body.captures && mir::unwritable(&body.result).is_none()
    }

    fn written(&self, type_text: &str) -> String {
        if self.form.any_lifetime { mir::elided(type_text) } else { mir::writable(type_text) }
    }

    fn parameters(&self, body: &Body) -> Option<Vec<String>> {
        body.parameters.iter().map(|text| Some(self.written(mir_writable(text)?))).collect()
    }

    fn convert(&self, value: &str, type_text: &str, depth: usize) -> Option<String> {
        if mir::unwritable(type_text).is_none() {
            return Some(value.to_owned());
        }
        if let Some(body) = self.types.bodies.get(type_text) {
            return self.convert_body(value, type_text, body, depth);
        }
        if type_text.starts_with("{async ") && !type_text.starts_with("{async closure") {
            return Some(self.boxed_future(value));
        }
        if type_text.starts_with('{') {
            return None;
        }
        if let Some(bounds) = type_text.strip_prefix("impl ") {
            return self.convert_opaque(value, bounds);
        }
        if let Some(pointer) = function_pointer(type_text) {
            return Some(format!("{value} as {pointer}"));
        }
        if let Some(parts) = type_text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
            let name = |at: usize| format!("__prust_part_{depth}_{at}");
            let parts = mir::listed(parts);
            let names: Vec<String> = (0..parts.len()).map(name).collect();
            let each = names.iter().zip(&parts);
            let each: Option<Vec<String>> =
                each.map(|(name, part)| self.convert(name, part, depth + 1)).collect();
            let (names, each) = (names.join(", "), each?.join(", "));
            return Some(format!("{{ let ({names},) = {value}; ({each},) }}"));
        }
        let held = self.convert_container(value, type_text, depth);
        let is_holder = HOLDERS.iter().any(|holder| type_text.starts_with(holder));
        held.or_else(|| {
            let local = type_text.contains("::{") && !type_text.contains("{closure@");
            (!local && !is_holder).then(|| self.boxed_whole(value))
        })
    }

    /// By its bounds: `Clone + (Fn(i32) -> i32)`.
    fn convert_opaque(&self, value: &str, bounds: &str) -> Option<String> {
        let bounds = mir::bounds(bounds).into_iter().map(|bound| {
            let inner = bound.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
            inner.unwrap_or(bound)
        });
        let word = |bound: &str| {
            let path = bound.strip_prefix("for<").and_then(|rest| rest.split_once("> "));
            let path = path.map_or(bound, |(_, path)| path).split(['(', '<']).next()?;
            path.rsplit("::").next().map(str::to_owned)
        };
        let bounds: Vec<(String, &str)> =
            bounds.filter_map(|bound| Some((word(bound)?, bound))).collect();
        let of = |words: &[&str]| bounds.iter().find(|(word, _)| words.contains(&word.as_str()));
        if let Some((_, call)) = of(&["Fn", "FnMut", "FnOnce"]) {
            // rustc binds the lifetimes again in front of the result.
            let call = match call.split_once(") -> for<") {
                Some((before, after)) => format!("{before}) -> {}", after.split_once("> ")?.1),
                None => (*call).to_owned(),
            };
            let (call, bounds) = (mir::elided(&call), self.form.bounds(true));
            let boxed = format!("::std::boxed::Box<dyn {call}{bounds}>");
            return Some(format!("::std::boxed::Box::new({value}) as {boxed}"));
        }
        of(&["Iterator", "DoubleEndedIterator", "ExactSizeIterator", "Future"])
            .map(|_| self.boxed_whole(value))
    }

    fn convert_container(&self, value: &str, type_text: &str, depth: usize) -> Option<String> {
        // rustc's errors name these without their paths.
        let inside = |prefix: &str| {
            let short = prefix.rsplit("::").next()?;
            let rest = type_text.strip_prefix(prefix).or_else(|| type_text.strip_prefix(short))?;
            rest.strip_suffix('>')
        };
        let each = format!("__prust_each_{depth}");
        let mapped = |element: &str| {
            let converted = self.convert(&each, element, depth + 1)?;
            Some(format!("map(|{each}| {converted})"))
        };
        if let Some(element) = inside("std::vec::Vec<") {
            let map = mapped(element)?;
            return Some(format!("{value}.into_iter().{map}.collect::<::std::vec::Vec<_>>()"));
        }
        if let Some(element) = inside("std::option::Option<") {
            return Some(format!("{value}.{}", mapped(element)?));
        }
        if let Some(both) = inside("std::result::Result<") {
            let [element, error] = mir::listed(both).try_into().ok()?;
            mir::unwritable(error).is_none().then_some(())?;
            return Some(format!("{value}.{}", mapped(element)?));
        }
        if let Some(array) = type_text.strip_prefix('[') {
            return Some(format!("{value}.{}", mapped(array.rsplit_once("; ")?.0)?));
        }
        if let Some(element) = inside("std::boxed::Box<") {
            return self.convert(&format!("(*{value})"), element, depth);
        }
        for pointer in ["std::rc::Rc<", "std::sync::Arc<"] {
            let Some(label) = inside(pointer) else { continue };
            let Some(body) = self.types.bodies.get(label) else { continue };
            let body = Body { captures: true, ..body.clone() };
            let bodies = [(label.to_owned(), body)].into_iter().collect();
            let types = Types { bodies, ..Types::default() };
            let boxed = Keeper { types: &types, form: self.form }.target(label)?;
            let trait_text = boxed.strip_prefix("::std::boxed::Box<")?;
            return Some(format!("{value} as ::{pointer}{trait_text}"));
        }
        None
    }

    fn convert_body(&self, value: &str, label: &str, body: &Body, depth: usize) -> Option<String> {
        if body.calls == "Future" {
            return Some(self.boxed_future(value));
        }
        let target = self.target(label)?;
        if self.is_function(body) {
            return Some(format!("{value} as {target}"));
        }
        if mir::unwritable(&body.result).is_none() {
            return Some(format!("::std::boxed::Box::new({value}) as {target}"));
        }
        let types = self.parameters(body)?;
        let names: Vec<String> =
            (0..types.len()).map(|at| format!("__prust_argument_{depth}_{at}")).collect();
        let function = format!("__prust_function_{depth}");
        let call = format!("{function}({})", names.join(", "));
        let result = self.convert(&call, &body.result, depth + 1)?;
        let typed: Vec<String> =
            names.iter().zip(&types).map(|(name, text)| format!("{name}: {text}")).collect();
        let typed = typed.join(", ");
        let mutable = if body.calls == "FnMut" { "mut " } else { "" };
        Some(format!(
            "{{ let {mutable}{function} = {value}; \
             ::std::boxed::Box::new(move |{typed}| {result}) as {target} }}"
        ))
    }

    fn boxed_future(&self, value: &str) -> String {
        let bounds = self.form.bounds(false);
        format!(
            "::std::boxed::Box::pin({value}) as ::std::pin::Pin<::std::boxed::Box<\
             dyn ::std::future::Future<Output = _>{bounds}>>"
        )
    }

    /// An iterator or a future made of closures, boxed by what it gives.
    fn boxed_whole(&self, value: &str) -> String {
        let bounds = self.form.bounds(false);
        match self.form.shape {
            Shape::Iterator => format!(
                "::std::boxed::Box::new({value}) as ::std::boxed::Box<\
                 dyn ::std::iter::Iterator<Item = _>{bounds}>"
            ),
            Shape::Future => self.boxed_future(value),
        }
    }
}

fn mir_writable(type_text: &str) -> Option<&str> {
    mir::unwritable(type_text).is_none().then_some(type_text)
}

/// `fn(A) -> R {path}` without the path.
fn function_pointer(type_text: &str) -> Option<String> {
    let starts = ["fn(", "for<", "unsafe ", "extern "];
    if !starts.iter().any(|start| type_text.starts_with(start)) {
        return None;
    }
    let mut depth = 0_i32;
    let at = type_text.char_indices().find_map(|(at, letter)| {
        let found = letter == '{' && depth == 0 && type_text[..at].ends_with(' ');
        match letter {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            _ => (),
        }
        found.then_some(at)
    })?;
    let pointer = type_text[..at].trim_end();
    mir::unwritable(pointer).is_none().then(|| mir::writable(pointer))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABEL: &str = "{closure@a.rs:1:2: 1:3}";

    fn types(calls: &str, parameter: &str, result: &str, captures: bool) -> Types {
        let parameters = vec![parameter.to_owned()];
        let body = Body { calls: calls.into(), parameters, result: result.into(), captures };
        Types { bodies: [(LABEL.to_owned(), body)].into_iter().collect(), ..Types::default() }
    }

    #[test]
    fn a_closure_without_captures_is_a_function() {
        let types = types("Fn", "&str", "usize", false);
        let text = kept("f", LABEL, &types, Form::STRONGEST).expect("it is kept");
        assert_eq!(text, "f as fn(&str) -> usize");
    }

    #[test]
    fn a_closure_is_boxed_by_its_signature_and_weakened_by_errors() {
        let types = types("FnMut", "i32", "i32", true);
        let form = Form::STRONGEST;
        let text = kept("f", LABEL, &types, form).expect("it is kept");
        assert!(text.contains("dyn ::std::ops::FnMut(i32) -> i32 + ::std::marker::Send"), "{text}");
        let form = form.weaker("`Rc<i32>` cannot be sent between threads safely").expect("weaker");
        let text = kept("f", LABEL, &types, form).expect("it is kept");
        assert!(text.ends_with("Box<dyn ::std::ops::FnMut(i32) -> i32>"), "{text}");
    }

    #[test]
    fn what_turns_out_to_capture_is_boxed() {
        let types = types("Fn", "i32", "i32", false);
        let form = Form::STRONGEST.weaker("non-primitive cast: `..` as `fn(i32) -> i32`");
        let text = kept("f", LABEL, &types, form.expect("weaker")).expect("it is kept");
        assert!(text.starts_with("::std::boxed::Box::new(f) as"), "{text}");
        assert!(
            text.contains("Fn(i32) -> i32 + ::std::marker::Send + ::std::marker::Sync"),
            "{text}"
        );
    }

    #[test]
    fn what_holds_closures_is_converted_inside() {
        let types = types("Fn", "i32", "i32", true);
        let text = kept("v", &format!("std::vec::Vec<{LABEL}>"), &types, Form::STRONGEST);
        assert!(text.expect("it is kept").starts_with("v.into_iter().map(|__prust_each_0|"));
        let map = format!("std::iter::Map<std::ops::Range<i32>, {LABEL}>");
        let text = kept("i", &map, &types, Form::STRONGEST).expect("it is kept");
        assert!(text.contains("dyn ::std::iter::Iterator<Item = _>"), "{text}");
    }

    #[test]
    fn functions_become_pointers() {
        let types = Types::default();
        let text = kept("f", "for<'a> fn(&'a str) -> &'a str {m::f}", &types, Form::STRONGEST);
        assert_eq!(text.as_deref(), Some("f as for<'a> fn(&'a str) -> &'a str"));
        let text = kept_opaque("f", "impl Clone + (Fn(i32) -> i32)", Form::STRONGEST);
        assert!(text.expect("it is kept").contains("dyn Fn(i32) -> i32 + ::std"));
    }
}
