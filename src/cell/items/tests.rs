//! Sessions of items: what is in force, what keeps its crate, what is kept for old values.

use std::collections::{BTreeMap, BTreeSet};

use super::{Advance, Broken, Item, ItemId, Items, advance};
use crate::cell::plan::unit::{new_cell, unit};
use crate::cell::{Delta, Namespace, Split};

mod interior;
mod members;

/// A session without a compiler: cells that rustc would take.
#[derive(Default)]
struct Session {
    namespace: Namespace,
    n_cells: usize,
}

impl Session {
    fn after(cells: &[&str]) -> Self {
        let mut session = Self::default();
        for cell in cells {
            session.run(cell);
        }
        session
    }

    fn run(&mut self, text: &str) -> Advance {
        self.run_as("", text, &BTreeSet::new(), &BTreeMap::new())
    }

    fn run_as(
        &mut self,
        key: &str,
        text: &str,
        held: &BTreeSet<(String, String)>,
        broken: &BTreeMap<ItemId, Broken>,
    ) -> Advance {
        self.n_cells += 1;
        let split = Split::read(text);
        let label = format!("In[{}]", self.n_cells);
        let cell = new_cell(&self.namespace, key, &label, text, &split);
        let next = advance(&self.namespace.items, &cell, held, broken, &BTreeSet::new());
        let next = next.expect("each item finds a crate");
        let items = Some(Box::new(next.items.clone()));
        self.namespace.apply(&Delta { items, ..Delta::default() });
        next
    }

    fn items(&self) -> &Items {
        &self.namespace.items
    }

    fn id(&self, name: &str) -> ItemId {
        let ids = self.items().current(name);
        assert_eq!(ids.len(), 1, "{name} is in force once");
        ids[0]
    }

    fn item(&self, name: &str) -> &Item {
        &self.items().all[&self.id(name)]
    }

    fn held(&self, name: &str) -> BTreeSet<(String, String)> {
        BTreeSet::from([(self.item(name).unit.clone(), name.to_owned())])
    }

    /// The source of the unit that an item stands in.
    fn source(&self, name: &str) -> String {
        let of = self.items().unit(&self.item(name).unit).expect("items stand in units");
        unit(self.items(), of, None).krate.source.text
    }
}

#[test]
fn a_new_function_reaches_old_callers() {
    let mut session =
        Session::after(&["fn one() -> i32 { 1 }", "fn two() -> i32 { one() }", "fn other() {}"]);
    let two = session.item("two").unit.clone();
    let next = session.run("fn one() -> String { String::new() }");
    assert!(next.touched.contains(&two), "{:?}", next.touched);
    assert!(!next.touched.contains(&session.item("other").unit));
    let import = format!("use ::{}::one;", session.item("one").unit);
    assert!(session.source("two").contains(&import));
}

#[test]
fn functions_that_need_each_other_share_a_crate() {
    let session = Session::after(&[
        "fn one() -> i32 { 1 }",
        "fn two() -> i32 { one() }",
        "fn one() -> i32 { if false { two() } else { 2 } }",
    ]);
    assert_eq!(session.item("one").unit, session.item("two").unit);
}

#[test]
fn a_body_and_an_impl_leave_a_type_what_it_is() {
    let mut session = Session::after(&["struct A { x: i32 }\nfn f(a: &A) -> i32 { a.x }"]);
    let unit = session.item("A").unit.clone();
    session.run("fn f(a: &A) -> i64 { 2 }");
    session.run("impl A { fn g(&self) {} }");
    session.run("impl std::fmt::Display for A { fn fmt(&self) {} }");
    session.run("struct B { a: A }");
    session.run("impl A { fn into_b(self) -> B { B { a: self } } }");
    assert_eq!(session.item("A").unit, unit);
    let extended = session.items().all.values().find(|item| item.extension.is_some());
    assert_eq!(extended.expect("a circle needs a trait").unit.len(), unit.len());
    assert!(session.items().refs(&BTreeSet::from(["into_b".to_owned()])).len() == 1);
}

#[test]
fn whatever_decides_a_layout_makes_another_type() {
    let changes = [
        ("struct A { x: i32 }", "struct A { x: String }"),
        ("const N: usize = 2;\nstruct A { x: [u8; N] }", "const N: usize = 4;"),
        ("const M: usize = 2;\nconst N: usize = M;\nstruct A([u8; N]);", "const M: usize = 3;"),
        ("type T = u8;\nstruct A { x: T }", "type T = u64;"),
        (
            "macro_rules! t { () => { u8 } }\nstruct A { x: t!() }",
            "macro_rules! t { () => { i8 } }",
        ),
        ("const fn n() -> usize { 1 }\nstruct A([u8; n()]);", "const fn n() -> usize { 9 }"),
        ("struct B(u8);\nstruct A { b: B }", "struct B(u64);"),
        (
            "trait T { fn a(&self); fn b(&self); }\nstruct A(Box<dyn T>);",
            "trait T { fn b(&self); fn a(&self); }",
        ),
        ("async fn f() -> u8 { 1 }\nstruct A<F = u8>(F);\ntype A2 = A;", "struct A<F = u16>(F);"),
    ];
    for (before, change) in changes {
        let mut session = Session::after(&[before]);
        let (unit, held) = (session.item("A").unit.clone(), session.held("A"));
        session.run_as("", change, &held, &BTreeMap::new());
        assert_ne!(session.item("A").unit, unit, "{change}");
        assert!(session.items().is_retired(&unit, "A"), "{change}");
        // Back again: never taken for the first one while that is still held.
        session.run_as("", before, &held, &BTreeMap::new());
        assert!(session.items().is_retired(&unit, "A"), "{change}");
    }
}

#[test]
fn old_definitions_that_nobody_needs_are_forgotten() {
    let mut session = Session::after(&["struct A(u8);\nimpl Drop for A { fn drop(&mut self) {} }"]);
    let held = session.held("A");
    session.run_as("", "struct A(u16);", &held, &BTreeMap::new());
    let drops = |session: &Session| {
        session.items().all.values().filter(|item| item.title().contains("Drop")).count()
    };
    assert_eq!(drops(&session), 2, "the old type is dropped as ever");
    session.run("struct A(u32);");
    assert_eq!((drops(&session), session.items().all.len()), (1, 2));
}

#[test]
fn another_run_of_a_cell_replaces_all_that_it_defined() {
    let mut session = Session::default();
    let nothing = (BTreeSet::new(), BTreeMap::new());
    session.run_as("c1", "struct A;\nimpl A { fn f(&self) {} }\nfn g() {}", &nothing.0, &nothing.1);
    let unit = session.item("A").unit.clone();
    session.run_as("c2", "impl A { fn h(&self) {} }", &nothing.0, &nothing.1);
    session.run_as("c2", "impl A { fn h(&self) -> u8 { 1 } }", &nothing.0, &nothing.1);
    session.run_as("c1", "struct A;\nimpl A { fn f2(&self) {} }", &nothing.0, &nothing.1);
    assert_eq!(session.item("A").unit, unit);
    assert_eq!(session.items().all.len(), 3);
    assert!(session.items().current("g").is_empty());
}

#[test]
fn a_method_defined_anew_leaves_the_others() {
    let mut session =
        Session::after(&["struct A;", "impl A { fn f(&self) -> u8 { 1 } fn g(&self) {} }"]);
    session.run("impl A { fn f(&self) -> u8 { 2 } }");
    let source = session.source("A");
    assert_eq!(source.matches("fn f(").count(), 1, "{source}");
    assert!(source.contains("fn g("));
}

#[test]
fn a_broken_caller_goes_on_with_what_it_knew() {
    let mut session = Session::after(&["fn one() -> i32 { 1 }", "fn two() -> i32 { one() + 1 }"]);
    let two = session.id("two");
    let broken = BTreeMap::from([(two, Broken::Pinned)]);
    session.run_as("", "fn one() -> String { String::new() }", &BTreeSet::new(), &broken);
    let new_one = session.item("one").unit.clone();
    assert!(!session.source("two").contains(&new_one), "it sees the old one");
    // A later one is tried again.
    session.run("fn one() -> i32 { 5 }");
    assert!(session.source("two").contains(&format!("use ::{}::one;", session.item("one").unit)));
    assert_eq!(session.items().all.len(), 2);
}

#[test]
fn statics_stand_alone_and_stay() {
    let mut session = Session::after(&[
        "struct C { n: u8 }\nstatic S: Mutex<C> = Mutex::new(C { n: 1 });\nfn f() { S.lock(); }",
    ]);
    let before = session.item("S").unit.clone();
    let of = session.items().unit(&before).expect("it is there").clone();
    assert!(session.items().is_static(&of));
    session.run("fn f() { S.lock(); println!(); }");
    session.run("impl C { fn g(&self) {} }");
    assert_eq!(session.item("S").unit, before);
}

#[test]
fn a_type_defined_again_word_for_word_is_the_type_of_its_values() {
    let mut session =
        Session::after(&["struct A(u8);", "impl Drop for A { fn drop(&mut self) {} }"]);
    let (held, unit) = (session.held("A"), session.item("A").unit.clone());
    session.run_as("", "struct A(u8);", &held, &BTreeMap::new());
    assert_eq!(session.item("A").unit, unit);
    assert!(!session.items().is_retired(&unit, "A"));
    assert_eq!(session.items().all.len(), 2);
}

#[test]
fn a_broken_caller_goes_on_with_what_it_knew_however_often_that_changes() {
    let mut session = Session::after(&["fn one() -> i32 { 1 }", "fn two() -> i32 { one() + 1 }"]);
    let broken = BTreeMap::from([(session.id("two"), Broken::Pinned)]);
    for text in ["fn one() {}", "fn one() -> u8 { 1 }", "fn one() -> String { String::new() }"] {
        session.run_as("", text, &BTreeSet::new(), &broken);
        let sources = session.items().units.iter().map(|of| unit(session.items(), of, None));
        let texts: String = sources.map(|plan| plan.krate.source.text).collect();
        assert!(texts.contains("one() -> i32 { 1 }"), "{texts}");
        assert!(!session.source("two").contains(&session.item("one").unit));
    }
    assert_eq!(session.items().all.len(), 3);
}

#[test]
fn an_old_definition_never_shares_a_crate_with_the_new_one() {
    let mut session = Session::after(&[
        "const fn g() -> usize { 1 }\nfn f() {}",
        "fn one() -> usize { g() }",
        "fn f() -> usize { one() }",
    ]);
    let broken = BTreeMap::from([(session.id("f"), Broken::Pinned)]);
    session.run_as("", "fn one() -> String { String::new() }", &BTreeSet::new(), &broken);
    for of in &session.items().units {
        let text = unit(session.items(), of, None).krate.source.text;
        assert!(text.matches("fn one()").count() < 2, "{text}");
    }
    let before = session.id("one");
    let old = session.items().all.iter().find(|(id, item)| item.retired && **id < before);
    let (_, old) = old.expect("f needs it");
    assert!(session.source("f").contains(&format!("use ::{}::one;", old.unit)));
}

#[test]
fn a_method_defined_anew_together_with_what_its_type_is_made_of_goes_with_the_type() {
    let mut session =
        Session::after(&["const N: usize = 1;", "struct A([u8; N]);", "impl A { fn f(&self) {} }"]);
    let held = session.held("A");
    let text = "const N: usize = 2;\nimpl A { fn f(&self) -> u8 { 1 } }";
    session.run_as("", text, &held, &BTreeMap::new());
    for of in &session.items().units {
        let text = unit(session.items(), of, None).krate.source.text;
        assert!(text.matches("fn f(").count() < 2, "{text}");
    }
    assert!(session.source("A").contains("fn f(&self) -> u8"));
}

#[test]
fn an_alias_that_moves_leaves_those_who_name_it_what_they_are() {
    let mut session = Session::after(&[
        "enum E { A }",
        "type Maybe = Option<E>;\ntrait T { fn t(&self) -> Maybe; }",
        "fn size() -> usize { size_of::<Maybe>() }",
    ]);
    let unit = session.item("T").unit.clone();
    session.run("impl E { fn of(&self) -> usize { size() } }");
    assert_eq!(session.item("T").unit, unit);
}

#[test]
fn what_a_changed_macro_names_reaches_those_who_use_it() {
    let mut session = Session::after(&[
        "fn one() -> u8 { 1 }\nfn two() -> u8 { 2 }",
        "macro_rules! m { () => { one() } }",
        "fn user() -> u8 { m!() }",
    ]);
    session.run("macro_rules! m { () => { two() } }");
    let import = format!("use ::{}::two;", session.item("two").unit);
    assert!(session.source("user").contains(&import), "{}", session.source("user"));
}

#[test]
fn what_nothing_defines_any_more_is_kept_by_those_who_say_it() {
    let mut session = Session::default();
    let nothing = (BTreeSet::new(), BTreeMap::new());
    session.run_as("c1", "fn one() -> u8 { 1 }", &nothing.0, &nothing.1);
    session.run_as("", "fn two() -> u8 { one() }", &nothing.0, &nothing.1);
    let (unit, two) = (session.item("one").unit.clone(), session.id("two"));
    let next = session.run_as("c1", "fn other() {}", &nothing.0, &nothing.1);
    assert_eq!(next.orphans, [(two, "one".to_owned())]);
    assert!(session.items().current("one").is_empty());
    assert!(session.source("two").contains(&format!("use ::{unit}::one;")));
    let next = session.run("fn one() -> u8 { 2 }");
    assert_eq!(next.orphans, []);
    assert!(session.source("two").contains(&session.item("one").unit));
}

#[test]
fn an_old_type_keeps_its_layout_through_constants_of_constants() {
    let mut session = Session::after(&[
        "const A: usize = 1;",
        "const B: usize = A + 1;",
        "type Row = [u8; B];",
        "struct T(Row);",
    ]);
    let (held, unit_of_old) = (session.held("T"), session.item("T").unit.clone());
    session.run_as("", "const A: usize = 5;", &held, &BTreeMap::new());
    assert_ne!(session.item("T").unit, unit_of_old);
    let items = session.items();
    let mut open: Vec<ItemId> = items.unit(&unit_of_old).expect("it is held").items.clone();
    let mut texts = String::new();
    while let Some(id) = open.pop() {
        texts.push_str(items.text(&items.all[&id]));
        open.extend(items.edges(&items.all[&id]));
    }
    assert!(texts.contains("A: usize = 1;") && !texts.contains("A: usize = 5;"), "{texts}");
}

#[test]
fn a_name_defined_twice_in_one_cell_is_left_to_rustc() {
    let session = Session::after(&["struct A;\nstruct A(u8);"]);
    assert_eq!(session.items().units.len(), 1);
}

#[test]
fn aliases_in_a_circle_are_left_to_rustc() {
    let session = Session::after(&["type A = B;\ntype B = A;\nimpl A { fn f(&self) {} }"]);
    assert_eq!(session.items().units.len(), 1);
}

#[test]
fn an_impl_goes_on_with_the_old_type_where_there_is_no_new_one() {
    let mut session = Session::default();
    let nothing = (BTreeSet::new(), BTreeMap::new());
    session.run_as("c1", "struct A;", &nothing.0, &nothing.1);
    session.run_as("", "impl Clone for A { fn clone(&self) -> A { A } }", &nothing.0, &nothing.1);
    let (held, unit) = (session.held("A"), session.item("A").unit.clone());
    let id = session.items().all.keys().max().copied().expect("the impl is there");
    session.run_as("c1", "fn f() {}", &held, &BTreeMap::from([(id, Broken::Pinned)]));
    let of = session.items().unit(&unit).expect("the old type is held");
    assert_eq!(of.items.len(), 2);
}

#[test]
fn the_same_cells_give_the_same_crates_everywhere() {
    let cells = ["struct A;", "impl A { fn f(&self) {} }", "struct B(A);", "struct A(u8);"];
    assert_eq!(Session::after(&cells).items(), Session::after(&cells).items());
}

#[test]
fn an_old_type_never_reads_a_new_constant() {
    let before = "const M: usize = 2;\nconst N: usize = M;\nstruct A([u8; N]);";
    let mut session = Session::after(&[before]);
    let (unit, held) = (session.item("A").unit.clone(), session.held("A"));
    session.run_as("", "const M: usize = 3;", &held, &BTreeMap::new());
    assert!(session.items().is_retired(&unit, "A"));
    assert_ne!(session.item("N").unit, unit, "the old `A` is built with the old `N`");
}

#[test]
fn a_type_stays_where_its_method_closes_a_circle_of_crates() {
    let mut session = Session::after(&[
        "const N: usize = 1;",
        "struct A;\nstruct B { a: A, n: [u8; N] }\nimpl A { fn b(&self) -> Option<B> { None } }",
        "fn use_it(a: &A) -> bool { a.b().is_none() }",
    ]);
    let before = session.item("A").unit.clone();
    session.run("const N: usize = 2;");
    assert_eq!(session.item("A").unit, before);
    let by_trait = session.items().all.values().find_map(|item| item.extension.clone());
    let by_trait = by_trait.expect("a circle needs a trait");
    assert!(session.source("use_it").contains(&by_trait), "{}", session.source("use_it"));
}

#[test]
fn a_held_type_that_must_be_made_anew_is_kept_for_its_values() {
    let mut session = Session::after(&["struct A;", "struct B(A);"]);
    let (held, unit) = (session.held("B"), session.item("B").unit.clone());
    // `A` and `B` need each other from now on.
    let text = "struct B(A);\nimpl Clone for A { fn clone(&self) -> A { None::<B>; A } }";
    session.run_as("", text, &held, &BTreeMap::new());
    assert!(session.items().is_retired(&unit, "B"));
    assert_eq!(session.item("A").unit, session.item("B").unit);
}

#[test]
fn an_impl_kept_for_an_old_type_goes_with_the_next_one_of_the_name() {
    let mut session = Session::default();
    let nothing = (BTreeSet::new(), BTreeMap::new());
    session.run_as("c1", "struct A;", &nothing.0, &nothing.1);
    session.run("impl A { fn f(&self) {} }");
    session.run_as("c1", "fn other() {}", &nothing.0, &nothing.1);
    session.run("struct A(u8);");
    assert!(session.source("A").contains("impl A"), "{}", session.source("A"));
    assert_eq!(session.items().all.len(), 3);
}

#[test]
fn a_field_or_a_method_is_no_use_of_what_else_is_called_so() {
    let mut session = Session::after(&[
        "trait Named { fn name(&self) -> u8; }",
        "struct A { name: u8 }\nimpl A { fn name(&self) -> u8 { 1 } }",
    ]);
    let before = session.item("A").unit.clone();
    session.run("trait Named { fn name(&self) -> u16; }");
    assert_eq!(session.item("A").unit, before);
}

#[test]
fn a_macro_that_says_less_leaves_its_users_types_what_they_are() {
    let struct_a = "struct A(n!());";
    let mut session = Session::after(&[
        "const N: usize = 1;",
        "macro_rules! n { () => { [u8; N] } }",
        struct_a,
        "macro_rules! n { () => { u8 } }",
    ]);
    let before = session.item("A").unit.clone();
    session.run(struct_a);
    session.run("const N: usize = 2;");
    assert_eq!(session.item("A").unit, before);
}

#[test]
fn a_method_taken_out_of_an_impl_that_is_written_as_a_trait_is_not_declared_by_it() {
    let mut session = Session::after(&[
        "struct A;",
        "struct B { a: A }",
        "impl A { fn b(&self) -> Option<B> { None } fn c(&self) -> Option<B> { None } }",
    ]);
    session.run("impl A { fn c(&self) -> u8 { 1 } }");
    let items = session.items();
    let extended = items.all.values().find(|item| item.extension.is_some()).expect("a circle");
    let of = items.unit(&extended.unit).expect("it stands somewhere");
    let source = unit(items, of, None).krate.source.text;
    assert!(source.contains("fn b (") && !source.contains("fn c"), "{source}");
}

#[test]
fn what_is_made_of_something_that_is_made_anew_is_made_anew() {
    let mut session = Session::after(&[
        "use lib::T;\nstruct W(T);\nconst N: usize = lib::N;",
        "type Al = W;\nstruct X { w: Al, tag: u32 }\nstruct Y([u8; N]);\nstruct Z(u8);",
        "static S: Mutex<Option<X>> = Mutex::new(None);\nstatic C: AtomicU8 = AtomicU8::new(1);",
    ]);
    let names = ["W", "X", "Y", "Z", "S", "C"];
    let units = |session: &Session| names.map(|name| session.item(name).unit.clone());
    let before = units(&session);
    let forced = session.items().naming(&BTreeSet::from(["lib".to_owned()]));
    let held: BTreeSet<(String, String)> = names.iter().flat_map(|it| session.held(it)).collect();
    let none = BTreeMap::new();
    let next = advance(session.items(), &super::NewCell::default(), &held, &none, &forced);
    let next = next.expect("each item finds a crate");
    let items = Some(Box::new(next.items.clone()));
    session.namespace.apply(&Delta { items, ..Delta::default() });
    let after = units(&session);
    let renewed: Vec<&str> = names
        .into_iter()
        .enumerate()
        .filter(|(at, _)| before[*at] != after[*at])
        .map(|it| it.1)
        .collect();
    assert_eq!(renewed, ["W", "X", "Y", "S"]);
    assert_eq!(next.reset, [session.id("S")]);
}
