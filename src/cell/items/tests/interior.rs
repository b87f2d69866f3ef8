//! What is itself by its place, and holds something else in its async blocks.

use std::collections::{BTreeMap, BTreeSet};

use super::Session;
use crate::cell::items::Broken;

const FIRST: [&str; 3] = [
    "struct Apart;\nstruct W(u8);\nfn given() -> W { W(1) }\nfn plain() -> u8 { 1 }\nstruct S;
     impl S { fn get(&self) -> u8 { plain() } fn pair(&self) -> Option<W> { None } }",
    "async fn inner() { let w = given(); ready(()).await; drop(w) }
     impl S { async fn run(&self) { let n = plain(); ready(()).await; drop(n) } }",
    "trait Calls { fn make(&self) -> Made { Box::new(async { given() }) } }
     trait Gets { fn make(&self) -> Made { Box::new(async { S.get() }) } }
     trait Pairs { fn make(&self) -> Made { Box::new(async { S.pair() }) } }
     mod nests { fn nest() -> Made { Box::new(async { super::inner().await }) } }
     fn runs() -> Made { struct Inner; Box::new(async { S.run().await }) }
     trait Closes { fn make(&self) -> Made { Box::new(move || given()) } }",
];
const ALL: [&str; 6] = ["Calls", "Gets", "Pairs", "nests", "runs", "Closes"];

/// Who is another one after a cell.
fn moved(change: &str) -> Vec<&'static str> {
    let mut session = Session::after(&FIRST);
    let before = ALL.map(|name| session.item(name).unit.clone());
    session.run(change);
    let is_moved = |(name, unit): &(&str, String)| session.item(name).unit != *unit;
    ALL.into_iter().zip(before).filter(is_moved).map(|(name, _)| name).collect()
}

#[test]
fn an_async_block_that_holds_something_else_makes_another_item_of_what_is_its_place() {
    for same in [
        "fn given() -> W { W(2) }\nfn plain() -> u8 { 2 }",
        "impl S { fn get(&self) -> u8 { 2 } fn more(&self) {} }",
        "fn other() -> String { plain().to_string() }",
        // Methods of these names, of types that nobody calls.
        "struct New;\nimpl New { fn make() -> New { New } fn get(&self) -> u64 { 1 } fn run() {} }",
        "impl Apart { fn get(&self) -> u64 { 1 } }",
    ] {
        assert_eq!(moved(same), [""; 0], "{same}");
    }
    assert_eq!(moved("fn given() -> u64 { 1 }"), ["Calls", "nests"]);
    assert_eq!(moved("fn plain() -> u64 { 1 }"), ["runs"]);
    assert_eq!(moved("impl S { fn get(&self) -> u64 { 1 } }"), ["Gets"]);
    assert_eq!(moved("struct W(u64);"), ["Calls", "Pairs", "nests"]);
}

#[test]
fn who_goes_on_with_what_it_knew_stays_what_it_is() {
    for (change, name, how) in [
        ("fn given() -> u64 { 1 }", "Calls", Broken::Pinned),
        ("impl S { fn get(&self) -> u64 { 1 } }", "Gets", Broken::ByName(BTreeMap::new())),
    ] {
        let mut session = Session::after(&FIRST);
        let unit = session.item(name).unit.clone();
        let broken = BTreeMap::from([(session.id(name), how)]);
        session.run_as("", change, &BTreeSet::new(), &broken);
        assert_eq!(session.item(name).unit, unit, "{change}");
        session.run("fn unrelated() {}");
        assert_eq!(session.item(name).unit, unit, "{change}, and a cell later");
    }
}
