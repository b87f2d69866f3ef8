//! Methods that are defined anew, and callers that go on with the old ones.

use std::collections::{BTreeMap, BTreeSet};

use super::Session;
use crate::cell::items::{Broken, Item, ItemId};
use crate::cell::plan::unit::unit;

/// The name of the trait that the newest impl in force is written as.
fn newest_trait(session: &Session) -> (ItemId, String) {
    let mut newest = session.items().all.iter().rev().filter(|(_, item)| item.is_current());
    let found = newest.find_map(|(id, item)| Some((*id, item.extension.clone()?)));
    found.expect("there is one")
}

#[test]
fn a_caller_that_does_not_fit_a_method_goes_on_with_the_old_one() {
    let mut session = Session::after(&[
        "struct S(u8);\nimpl S { fn total(&self) -> u8 { 1 } fn other(&self) {} }",
        "fn kept(s: &S) -> u8 { s.total() + 1 }
         fn free(s: &S) -> String { s.total().to_string() }",
    ]);
    let broken = BTreeMap::from([(session.id("kept"), Broken::Members)]);
    let new = "impl S { fn total(&self) -> String { String::new() } }";
    let next = session.run_as("", new, &BTreeSet::new(), &broken);
    assert!(next.ways.members.contains(&session.id("free")), "it says the name, too");
    assert_eq!(session.items().kept(session.item("kept")), ["`S::total`"]);
    assert_eq!(session.items().kept(session.item("free")), [""; 0]);
    let source = session.source("S");
    assert!(source.contains("fn total(&self) -> u8 { 1 }"), "{source}");
    assert_eq!(source.matches("fn other(").count(), 1, "the others stay as they are: {source}");
    let (_, name) = newest_trait(&session);
    let (of_kept, of_free) = (session.source("kept"), session.item("free").refs.contains(&name));
    assert!(
        of_free && of_kept.contains(&format!("use ::core::marker::Sized as {name};")),
        "{of_kept}"
    );
    // What fits all is for all again, and nothing old stays.
    session.run("impl S { fn total(&self) -> u8 { 2 } }");
    assert!(!session.items().all.values().any(Item::is_past_trait));
    assert!(session.items().kept(session.item("kept")).is_empty());
}

#[test]
fn an_old_member_may_go_by_a_name_of_its_own() {
    let mut session = Session::after(&[
        "struct S(u8);\nimpl S { const fn new() -> S { S(S::one()) } const fn one() -> u8 { 1 } }",
        "fn kept() -> S { Vec::<u8>::new(); S::new() }\nfn other(s: &S) -> Vec<u8> { s.new() }",
    ]);
    let others = BTreeMap::from([("fn other(s: &S) -> Vec<u8> { s.".len(), 1)]);
    let by_name = |places| Broken::ByName(places);
    let broken = BTreeMap::from([
        (session.id("kept"), by_name(BTreeMap::new())),
        (session.id("other"), by_name(others)),
    ]);
    let new = "impl S { const fn new(x: u8) -> S { S(x) } const fn one() -> u16 { 2 } }";
    session.run_as("", new, &BTreeSet::new(), &broken);
    let (of_type, of_kept) = (session.source("S"), session.source("kept"));
    let past = session.items().all.iter().find(|(_, item)| item.is_past_trait());
    let own = Item::own_prefix(*past.expect("it is kept").0);
    assert!(of_type.contains("const fn new(x: u8)"), "the new one is as it is: {of_type}");
    assert!(of_type.contains(&format!(" fn {own}new() -> S {{ S(S::{own}one()) }}")), "{of_type}");
    assert!(of_kept.contains(&format!("{{ Vec::<u8>::new(); S::{own}new() }}")), "{of_kept}");
    assert!(of_kept.contains("{ s.new() }"), "a method of another type: {of_kept}");
}

#[test]
fn a_method_may_itself_go_on_with_another_one() {
    let none = BTreeSet::new();
    let mut session = Session::after(&[
        "struct S(u8);\nimpl S { fn total(&self) -> String { String::new() } }",
        "impl S { fn extra(&self) -> i64 { 1 } }\nfn last(v: &S) -> i64 { v.extra() + 1 }",
    ]);
    let keeps = |id: ItemId| BTreeMap::from([(id, Broken::Members)]);
    let last = session.id("last");
    session.run_as("", "impl S { fn extra(&self) -> u8 { 2 } }", &none, &keeps(last));
    session.run("impl S { fn total(&self) -> i64 { 5 } }");
    session.run("fn first(v: &S) -> u8 { v.extra() }");
    let first = session.id("first");
    session.run_as("", "impl S { fn extra(&self) -> i64 { self.total() } }", &none, &keeps(first));
    let (extra, name) = newest_trait(&session);
    let again = "struct S(u8);\nimpl S { fn total(&self) -> String { String::new() } }";
    session.run_as("", again, &none, &keeps(extra));
    let source = session.source("S");
    let (_, own) =
        source.split_once(&format!("pub mod __prust_{extra} {{")).expect("it stands apart");
    assert!(own.contains(&format!("pub trait {name}")), "{source}");
    assert!(!own.contains(&format!("Sized as {name};")), "it does not hide itself: {source}");
    let kept = session.items().kept(&session.items().all[&extra]);
    assert_eq!(kept, ["`S::total`"]);
}

#[test]
fn a_method_written_again_as_it_was_leaves_all_as_it_is() {
    let mut session = Session::after(&[
        "struct S(u8);\nimpl S { fn total(&self) -> u8 { 1 } }",
        "fn kept(s: &S) -> u8 { s.total() + 1 }",
    ]);
    let broken = BTreeMap::from([(session.id("kept"), Broken::Members)]);
    let new = "impl S { fn total(&self) -> String { String::new() } }";
    session.run_as("", new, &BTreeSet::new(), &broken);
    let before = session.source("S");
    session.run(new);
    assert_eq!(session.source("S").replace("\n", ""), before.replace("\n", ""));
    assert_eq!(session.items().kept(session.item("kept")), ["`S::total`"]);
}

#[test]
fn a_constant_that_another_type_is_made_of_makes_another_type_of_both() {
    let mut session = Session::after(&[
        "struct A; impl A { const K: usize = 3; const L: usize = 4; }\nstruct B { x: [u8; A::K] }",
    ]);
    let (a, b) = (session.item("A").unit.clone(), session.item("B").unit.clone());
    let held = session.held("B");
    session.run_as("", "impl A { const K: usize = 900; }", &held, &BTreeMap::new());
    assert!(session.item("A").unit != a && session.item("B").unit != b);
    let of = session.items().unit(&b).expect("a variable holds it");
    let source = unit(session.items(), of, None).krate.source.text;
    assert!(source.contains("const K: usize = 3") && !source.contains("900"), "{source}");
    // Of a constant that no type is made of, none is made anew.
    let a = session.item("A").unit.clone();
    session.run("impl A { const L: u8 = 1; }");
    assert_eq!(session.item("A").unit, a);
}

#[test]
fn a_constant_is_followed_through_other_constants_and_imports() {
    let mut session = Session::after(&[
        "struct A; impl A { const K: usize = 2; }",
        "const N: usize = A::K;\nuse N as M;\nstruct B { x: [u8; M] }",
    ]);
    let b = session.item("B").unit.clone();
    let held = session.held("B");
    session.run_as("", "impl A { const K: usize = 5; }", &held, &BTreeMap::new());
    assert_ne!(session.item("B").unit, b);
}

#[test]
fn an_impl_that_decides_which_others_apply_makes_another_type_where_one_is_made_of_those() {
    let none = BTreeMap::new();
    let run = |of_b: &str| {
        let mut session = Session::after(&["trait Mark {}\ntrait Tr { const K: usize; }
            impl<T: Mark> Tr for T { const K: usize = 3; }\nstruct A;"]);
        session.run_as("mark", "impl Mark for A {}", &BTreeSet::new(), &none);
        session.run(&format!("struct B {{ x: [u8; {of_b}] }}"));
        let (unit, held) = (session.item("B").unit.clone(), session.held("B"));
        session.run_as("mark", "impl Tr for A { const K: usize = 5; }", &held, &none);
        session.item("B").unit == unit
    };
    assert!(!run("<A as Tr>::K"));
    let mut session = Session::after(&[
        "struct Stack<T>(T);\nimpl<T: Clone> Stack<T> { const fn new(t: T) -> Self { Stack(t) } }",
        "struct A;\nstatic S: Mutex<u8> = Mutex::new(1);",
    ]);
    let unit = session.item("A").unit.clone();
    session.run("impl Clone for A { fn clone(&self) -> A { A } }");
    assert_eq!(session.item("A").unit, unit, "what a static begins with makes no type");
    assert!(run("9"), "nothing that is made of it: all stays as it is");
}

#[test]
fn a_static_goes_on_with_what_it_was_made_with() {
    let none = BTreeMap::new();
    let mut session = Session::default();
    session.run_as("k", "const N: usize = 4;\nconst M: usize = 2;", &BTreeSet::new(), &none);
    session.run("static S: [AtomicUsize; M] = [const { AtomicUsize::new(N) }; M];");
    let (unit, first) = (session.item("S").unit.clone(), session.id("N"));
    for change in ["const N: usize = 19;", "const N: usize = 20;", "struct A;"] {
        session.run_as("k", &format!("{change}\nconst M: usize = 2;"), &BTreeSet::new(), &none);
        assert_eq!(session.item("S").unit, unit);
        assert_eq!(session.items().resolve(session.item("S"), "N"), [first]);
    }
    let next = session.run("const M: usize = 3;");
    assert_ne!(session.item("S").unit, unit, "its type is another one");
    assert_eq!(next.reset, [session.id("S")]);
}

#[test]
fn methods_of_an_old_type_go_on_with_the_functions_that_were_for_it() {
    let text = "struct S { a: u8 }\nfn g(v: &S) -> u8 { v.a }\nfn f(v: &S) -> u8 { g(v) }\n\
                impl S { fn t(&self) -> u8 { f(self) + free() } }\nfn free() -> u8 { 1 }";
    let mut session = Session::after(&[text]);
    let held = session.held("S");
    let old = session.item("S").unit.clone();
    session.run_as("", "struct S { a: u8, b: u8 }", &held, &BTreeMap::new());
    let sources = |session: &Session| -> Vec<String> {
        let items = session.items();
        items.units.iter().map(|each| unit(items, each, None).krate.source.text).collect()
    };
    let find = |session: &Session, text: &str| {
        sources(session).into_iter().filter(|source| source.contains(text)).collect::<Vec<_>>()
    };
    let of_functions = find(&session, "fn g(v: &S)");
    let names_old = of_functions.iter().filter(|it| it.contains(&format!("use ::{old}::S;")));
    assert!(
        of_functions.len() == 2 || names_old.count() == 1,
        "one for each type: {of_functions:#?}"
    );
    assert_eq!(find(&session, "fn free()").len(), 1, "it is for both");
    // Back to what it was: all is for the type in force, old and new values have their methods.
    session.run_as("", "struct S { a: u8 }", &held, &BTreeMap::new());
    assert_eq!(find(&session, "fn t(&self)").len(), 2);
}

#[test]
fn an_old_definition_goes_on_with_all_that_it_calls() {
    let needs = "const N: u8 = 1;\nfn zero() -> u8 { N }";
    let circle = "fn even(n: u8) -> u8 { if n == 0 { zero() } else { odd(n - 1) } }
        fn another(n: u8) -> u8 { even(n) }\nfn odd(n: u8) -> u8 { another(n - 1) }";
    // Whether what changes is written again on the way there or not.
    for change in [needs.replace("= 1", "= 5"), "const N: u8 = 5;".to_owned()] {
        let mut session = Session::after(&[needs, circle, "fn two() -> u8 { even(2) }"]);
        session.run("fn kept() -> u8 { two() }");
        let broken = BTreeMap::from([(session.id("kept"), Broken::Pinned)]);
        session.run_as("", "fn two() {}", &BTreeSet::new(), &broken);
        session.run(&change);
        let crates = session.items().units.iter();
        let crates = crates.map(|of| unit(session.items(), of, None).krate.source.text);
        let texts: String = crates.collect();
        for text in ["N: u8 = 1", "N: u8 = 5"] {
            assert_eq!(texts.matches(text).count(), 1, "{texts}");
        }
        for text in ["fn zero(", "fn even(", "fn odd(", "fn another("] {
            assert_eq!(texts.matches(text).count(), 2, "{text}: {texts}");
        }
    }
}

#[test]
fn what_is_its_place_and_goes_on_with_an_old_type_stays_where_it_is() {
    for (name, text) in [
        ("items", "fn items() -> u32 { struct W(A); W(A(8)).0.level() + 1 }"),
        ("Tr", "trait Tr { fn go(&self, a: &A) -> u32 { a.level() + 1 } }"),
        ("inner", "mod inner { pub fn f(a: &super::A) -> u32 { a.level() + 1 } }"),
    ] {
        let first = "struct A(u32);\nimpl A { const fn level(&self) -> u32 { self.0 } }";
        let mut session = Session::after(&[&format!("{first}\n{text}")]);
        let (unit, of_type) = (session.item(name).unit.clone(), session.item("A").unit.clone());
        let broken = BTreeMap::from([(session.id(name), Broken::Pinned)]);
        let new = "impl A { const fn level(&self) -> &'static str { \"new\" } }";
        session.run_as("", new, &BTreeSet::new(), &broken);
        assert_eq!(session.item(name).unit, unit, "{text}");
        assert_ne!(session.item("A").unit, of_type, "a type may be made of a `const fn`");
        assert_eq!(session.items().kept(session.item(name)), ["`A`"]);
    }
}

#[test]
fn whom_nothing_else_helps_goes_on_with_all_that_it_knew() {
    let mut session = Session::after(&[
        "struct Q { n: u8 }\nimpl Q { const fn w(&self) -> u8 { 1 } }\ntrait Tr {}
         impl Drop for Q { fn drop(&mut self) {} }\nimpl Tr for Q {}\nstruct Free;",
        "macro_rules! w { () => { make().w() + 1 } }\ntype R = Q;
         fn make() -> R { R { n: 1 } }\nfn other(f: Free) -> Free { f }",
        "fn run() -> u8 { let _: Option<&dyn Tr> = None; other(Free); w!() }",
    ]);
    let (of_type, held) = (session.item("Q").unit.clone(), session.held("Q"));
    let next = session.run("fn unrelated() {}");
    assert!(next.ways.types(session.items(), &next.items, session.id("run")).is_empty());
    let before = session.items().clone();
    let change = "impl Q { const fn w(&self) -> String { String::new() } }";
    let next = session.run(change);
    let types = next.ways.types(&before, &next.items, before.current("run")[0]);
    assert_eq!(types, before.current("Q").into_iter().collect());
    session.namespace.items = before;
    let broken = BTreeMap::from([(session.id("run"), Broken::Types(types))]);
    session.run_as("", change, &held, &broken);
    assert_eq!(session.item("Q").unit, of_type, "values stay what they are");
    assert_eq!(session.items().kept(session.item("run")), ["`make`"]);
    let units = session.items().units.iter();
    let sources: Vec<String> =
        units.map(|of| unit(session.items(), of, None).krate.source.text).collect();
    let n_times = |text: &str| sources.iter().map(|it| it.matches(text).count()).sum::<usize>();
    for text in ["struct Q", "for Q { fn drop", "impl Tr for Q", "fn make(", "type R"] {
        assert_eq!(n_times(text), 2, "{text}: {sources:#?}");
    }
    for text in
        ["fn w(&self) -> u8", "fn w(&self) -> String", "trait Tr", "struct Free", "fn other("]
    {
        assert_eq!(n_times(text), 1, "{text}: {sources:#?}");
    }
    // What fits again is for all again, and no copy stays.
    session.run("impl Q { const fn w(&self) -> u8 { 2 } }");
    assert!(session.items().kept(session.item("run")).is_empty());
    assert!(!session.items().all.values().any(|item| item.retired));
}
