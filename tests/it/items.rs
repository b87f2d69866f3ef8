//! Items between cells, through compiler and worker: what a person writes and then sees.

use crate::support::notebook::{Fault, Notebook, Shown};

/// A cell, and what it says.
#[derive(Clone, Copy)]
enum Step {
    /// Runs, and shows this value.
    Shows(&'static str, &'static str),
    /// Runs without a word.
    Runs(&'static str),
    /// Runs, and warns with these words.
    Warns(&'static str, &'static [&'static str]),
    /// Does not compile, and says this.
    Fails(&'static str, &'static str),
    /// The cell that is run next is this one of the frontend's.
    As(&'static str),
}
use Step::{As, Fails, Runs, Shows, Warns};

fn warnings(shown: &Shown) -> String {
    shown.warnings.iter().map(|warning| warning.plain.as_str()).collect::<Vec<_>>().join("\n")
}

async fn check(steps: &[Step]) {
    let mut nb = Notebook::open().await;
    for step in steps {
        match step {
            As(key) => (*key).clone_into(&mut nb.key),
            Shows(text, value) => {
                let shown = nb.run(text).await.unwrap_or_else(|fault| panic!("{text}: {fault:?}"));
                assert_eq!(warnings(&shown), "", "{text}");
                assert_eq!(shown.value.as_deref(), Some(*value), "{text}");
            }
            Runs(text) => {
                let shown = nb.run(text).await.unwrap_or_else(|fault| panic!("{text}: {fault:?}"));
                assert_eq!((warnings(&shown).as_str(), shown.value), ("", None), "{text}");
            }
            Warns(text, words) => {
                let shown = nb.run(text).await.unwrap_or_else(|fault| panic!("{text}: {fault:?}"));
                let said = warnings(&shown);
                words.iter().for_each(|word| assert!(said.contains(word), "{text}: {said}"));
            }
            Fails(text, word) => {
                let Err(Fault::Compile(errors)) = nb.run(text).await else {
                    panic!("{text} compiles")
                };
                let said: Vec<&str> = errors.iter().map(|error| error.plain.as_str()).collect();
                assert!(said.join("\n").contains(word), "{text}: {said:?}");
            }
        }
    }
}

#[tokio::test]
async fn redefining_reaches_old_callers_however_deep() {
    check(&[
        Runs("fn one() -> i32 { 1 }"),
        Runs("fn two() -> i32 { one() * 10 }"),
        Runs("const K: i32 = 3;\nmacro_rules! times_k { ($e:expr) => { $e * K } }"),
        Runs("fn three() -> i32 { times_k!(two()) }"),
        Shows("three()", "30"),
        Runs("fn one() -> i32 { 2 }"),
        Shows("three()", "60"),
        Runs("const K: i32 = 5;"),
        Shows("three()", "100"),
        Runs("macro_rules! times_k { ($e:expr) => { $e * K + 1 } }"),
        Shows("three()", "101"),
        Runs(
            "trait Named { fn name(&self) -> &'static str { \"old\" } }\nstruct N;\n\
            impl Named for N {}",
        ),
        Runs("fn name() -> &'static str { N.name() }"),
        Runs("trait Named { fn name(&self) -> &'static str { \"new\" } }"),
        Shows("name()", "\"new\""),
        // A circle made by redefining.
        Runs("fn one() -> i32 { if false { three() } else { 4 } }"),
        Shows("three()", "201"),
        Fails("fn one() -> i32 { nothing_like_it() }", "nothing_like_it"),
        Shows("(one(), three())", "(4, 201)"),
    ])
    .await;
}

#[tokio::test]
async fn broken_callers_are_listed_and_keep_the_old_definition() {
    check(&[
        Runs("fn one() -> i32 { 1 }"),
        Runs("fn two() -> i32 { one() + 1 }\nfn bystander() -> i32 { 7 }"),
        Runs("fn three() -> i32 { two() + 1 }"),
        Warns("fn one() -> String { \"one\".into() }", &["`two` (In[2])", "the old `one`"]),
        Shows("(one(), two(), three(), bystander())", "(\"one\", 2, 3, 7)"),
        Runs("fn one() -> i32 { 10 }"),
        Shows("(one(), two(), three())", "(10, 11, 12)"),
        Runs("#[derive(Debug)] struct P { x: i32 }"),
        Runs("fn x_of(p: &P) -> i32 { p.x }\nfn p() -> P { P { x: 5 } }"),
        Runs("let old = p();"),
        Warns(
            "#[derive(Debug)] struct P { y: i32 }",
            &["`x_of`", "`old` (In[10]) is of the old `P`"],
        ),
        Shows("(x_of(&old), x_of(&p()), P { y: 1 }, &old)", "(5, 5, P { y: 1 }, P { x: 5 })"),
        Runs("drop(old);"),
        Runs("impl P { fn get(&self) -> i32 { self.y } }"),
        Runs("fn get() -> i32 { P { y: 3 }.get() }"),
        Warns("impl P { fn get(&self) -> bool { true } }", &["`get` (In[15])", "old `P::get`"]),
        Shows("(get(), P { y: 3 }.get())", "(3, true)"),
        Runs("impl P { fn get(&self) -> i32 { self.y + 1 } }"),
        Shows("get()", "4"),
        Runs("impl P { const fn zero() -> i32 { 0 } }"),
        Runs("fn zero() -> i32 { P::zero() + 1 }"),
        Warns("impl P { const fn zero() -> bool { true } }", &["`zero` (In[21])", "old `P::zero`"]),
        Shows("(zero(), const { P::zero() })", "(1, true)"),
        Runs("impl P { const fn zero() -> i32 { 7 } }"),
        Shows("zero()", "8"),
    ])
    .await;
}

#[tokio::test]
async fn impls_for_earlier_types_keep_live_values() {
    check(&[
        Runs(
            "#[derive(Debug, Clone)] struct A { x: i32 }\nlet a = A { x: 4 };\n\
            let shared = std::rc::Rc::new(a.clone());",
        ),
        Runs("impl A { fn double(&self) -> i32 { self.x * 2 } }"),
        Shows("(a.double(), shared.double())", "(8, 8)"),
        Runs(
            "use std::fmt;\nimpl fmt::Display for A { fn fmt(&self, f: &mut fmt::Formatter<'_>) \
            -> fmt::Result { write!(f, \"A{}\", self.x) } }",
        ),
        Shows("format!(\"{a} {shared}\")", "\"A4 A4\""),
        Runs("#[derive(Debug)] struct B { a: A }\nlet b = B { a: a.clone() };"),
        Runs("impl A { fn into_b(self) -> B { B { a: self } } const ANSWER: u8 = 42; }"),
        Shows(
            "(a.clone().into_b(), &b, A::ANSWER)",
            "(B { a: A { x: 4 } }, B { a: A { x: 4 } }, \
            42)",
        ),
        Runs("impl From<B> for A { fn from(b: B) -> A { b.a } }"),
        Runs(
            "impl std::ops::Add<B> for A { type Output = B; fn add(self, b: B) -> B { B { a: A { \
            x: self.x + b.a.x } } } }",
        ),
        Shows("A::from(a.clone() + b)", "A { x: 8 }"),
        Runs("type Alias = A;\nimpl Alias { fn by_alias(&self) -> i32 { self.x } }"),
        Shows("a.by_alias()", "4"),
        Runs("impl A { fn double(&self) -> i32 { self.x * 20 } }"),
        Shows("(a.double(), a.by_alias())", "(80, 4)"),
        Runs("trait Speak { fn speak(&self) -> String; }"),
        Runs(
            "impl Speak for A { fn speak(&self) -> String { \"a\".into() } }\n\
            impl Speak for i32 { fn speak(&self) -> String { \"i\".into() } }",
        ),
        Runs("let all: Vec<Box<dyn Speak>> = vec![Box::new(a), Box::new(5)];"),
        Shows("all.iter().map(|s| s.speak()).collect::<String>()", "\"ai\""),
        Runs("impl Speak for i32 { fn speak(&self) -> String { \"j\".into() } }"),
        Shows("7.speak()", "\"j\""),
    ])
    .await;
}

#[tokio::test]
async fn another_run_of_a_cell_replaces_what_it_defined() {
    check(&[
        As("first"),
        Runs("#[derive(Debug)] struct A { x: i32 }\nfn gone() {}\nlet a = A { x: 1 };"),
        As("second"),
        Runs("impl A { fn f(&self) -> i32 { self.x } }"),
        Runs("impl A { fn f(&self) -> i32 { self.x + 1 } fn g(&self) -> i32 { 3 } }"),
        As(""),
        Shows("a.f() + a.g()", "5"),
        As("second"),
        Runs("impl A { fn f(&self) -> i32 { self.x } }"),
        As(""),
        Fails("a.g()", "no method named `g`"),
        As("first"),
        Runs("#[derive(Debug)] struct A { x: i32 }\nfn here() -> i32 { 5 }"),
        As(""),
        Fails("gone()", "cannot find function `gone`"),
        Shows("(here(), a.f())", "(5, 1)"),
        Runs(
            "impl std::fmt::Display for A { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> \
            std::fmt::Result { f.write_str(\"1\") } }",
        ),
        Runs(
            "impl std::fmt::Display for A { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> \
            std::fmt::Result { f.write_str(\"2\") } }",
        ),
        Shows("a.to_string()", "\"2\""),
    ])
    .await;
}

#[tokio::test]
async fn another_run_of_a_cell_without_items_takes_away_what_it_defined() {
    check(&[
        As("first"),
        Runs("fn gone() -> u8 { 1 }\nstruct A(u8);\nlet a = A(4);"),
        As("second"),
        Runs("fn user() -> u8 { gone() }"),
        As("first"),
        Fails("let b = nothing_like_it();", "nothing_like_it"),
        As(""),
        Shows("gone()", "1"),
        As("first"),
        Warns("let b = 2;", &["`user` (In[2]) uses `gone`", "`a` (In[1]) is of the old `A`"]),
        As(""),
        Fails("gone()", "cannot find function `gone`"),
        Fails("A(1)", "`A`"),
        Shows("(user(), a.0, b)", "(1, 4, 2)"),
        As("second"),
        Runs("use std::fmt;"),
        As(""),
        Fails("user()", "cannot find function `user`"),
    ])
    .await;
}

#[tokio::test]
async fn a_type_is_not_made_anew_because_its_methods_name_one_that_is() {
    check(&[
        Runs("const N: usize = 1;"),
        Runs(
            "struct A;\nstruct B { a: A, n: [u8; N] }\nimpl A {\n    \
            fn b(&self) -> Option<B> { Some(B { a: A, n: [0; N] }) }\n    \
            fn c(&self) -> u8 { 1 }\n}\nlet a = A;",
        ),
        Runs("fn length(a: &A) -> usize { a.b().map_or(0, |b| b.n.len()) }"),
        Shows("(length(&a), a.c())", "(1, 1)"),
        Runs("const N: usize = 5;"),
        Shows("(length(&a), a.b().map(|b| b.n.len()), A::c(&a))", "(5, Some(5), 1)"),
        Runs("impl A { fn c(&self) -> u8 { 2 } }"),
        Shows("(length(&a), a.c())", "(5, 2)"),
        Runs("impl A { fn b(&self) -> Option<B> { None } }"),
        Shows("(length(&a), a.c())", "(0, 2)"),
    ])
    .await;
}

/// Under live values and boxed trait objects: never reinterpreted.
#[tokio::test]
async fn a_redefined_type_is_another_type() {
    check(&[
        Runs(
            "#[derive(Debug)] struct S { x: i32 }\nlet s = S { x: 7 };\n\
            let any: Box<dyn std::any::Any> = Box::new(S { x: 8 });",
        ),
        Warns("#[derive(Debug)] struct S { x: String }", &["`s` (In[1]) is of the old `S`"]),
        Shows("(&s, any.is::<S>(), any.downcast_ref::<S>())", "(S { x: 7 }, false, None)"),
        Runs(
            "const N: usize = 2;\nstruct Arr([u64; N]);\n\
            let arr: Box<dyn std::any::Any> = Box::new(Arr([1; N]));",
        ),
        Runs("const N: usize = 9;"),
        Shows("(arr.is::<Arr>(), size_of::<Arr>())", "(false, 72)"),
        Runs(
            "type T = u8;\nstruct Al { t: T }\n\
            let al: Box<dyn std::any::Any> = Box::new(Al { t: 1 });",
        ),
        Runs("type T = [u64; 4];"),
        Shows("al.is::<Al>()", "false"),
        Runs(
            "macro_rules! field { () => { u8 } }\nstruct Ma { t: field!() }\n\
            let ma: Box<dyn std::any::Any> = Box::new(Ma { t: 1 });",
        ),
        Runs("macro_rules! field { () => { String } }"),
        Shows("ma.is::<Ma>()", "false"),
        Runs(
            "trait Tr { fn a(&self) -> u8 { 1 } fn b(&self) -> u8 { 2 } }\nstruct I;\n\
            impl Tr for I {}\n\
            let boxed: Vec<Box<dyn Tr>> = (0..100).map(|_| Box::new(I) as Box<dyn \
            Tr>).collect();\nlet held: Box<dyn std::any::Any> = Box::new(Box::new(I) as Box<dyn \
            Tr>);",
        ),
        Warns(
            "trait Tr { fn c(&self) -> u8 { 3 } fn b(&self) -> u8 { 20 } fn a(&self) -> u8 { 10 \
            } }",
            &["`boxed`"],
        ),
        Shows(
            "(boxed.iter().map(|t| t.a() as u32).sum::<u32>(), boxed[0].b(), held.is::<Box<dyn \
            Tr>>(), I.a(), I.c())",
            "(100, 2, false, 10, 3)",
        ),
        Runs(
            "async fn fut() -> u8 { let kept = [1u8; 16]; std::future::ready(()).await; kept[0] \
            }\nfn as_any<T: 'static>(t: T) -> Box<dyn std::any::Any> { Box::new(t) }\n\
            let fut_any = as_any(fut());",
        ),
        Runs(
            "async fn fut() -> u8 { let kept = [String::new(), String::new()]; \
            std::future::ready(()).await; kept.len() as u8 }\n\
            fn same<T: 'static>(any: &dyn std::any::Any, _: T) -> bool { any.is::<T>() }",
        ),
        Shows("same(&*fut_any, fut())", "false"),
        Runs(
            "struct Loud(&'static str);\n\
            impl Drop for Loud { fn drop(&mut self) { print!(\"{}\", self.0) } }\n\
            let loud = Loud(\"old\");",
        ),
        Warns("struct Loud(u8);", &["`loud`"]),
        Runs("drop(loud);"),
    ])
    .await;
}

#[tokio::test]
async fn statics_keep_their_values() {
    check(&[
        Runs(
            "use std::sync::{LazyLock, Mutex, OnceLock, atomic::{AtomicU32, Ordering}};\n\
             struct C { n: u32 }\nstatic S: Mutex<C> = Mutex::new(C { n: 1 });\n\
             static COUNT: AtomicU32 = AtomicU32::new(0);\n\
             static ONCE: OnceLock<u8> = OnceLock::new();\n\
             static LAZY: LazyLock<u32> = LazyLock::new(|| COUNT.fetch_add(1, Ordering::SeqCst));\n\
             thread_local! { static T: std::cell::RefCell<Vec<u8>> =\n\
             const { std::cell::RefCell::new(vec![]) };\n\
             static U: std::cell::Cell<u8> = std::cell::Cell::new(1); }\n\
             fn bump() -> u32 { let mut c = S.lock().unwrap(); c.n += 1; c.n }",
        ),
        Shows(
            "T.with_borrow_mut(|t| t.push(9)); U.set(5); ONCE.set(3).unwrap(); (*LAZY, \
            bump())",
            "(0, 2)",
        ),
        // Code around them is defined anew, and what they are made of is added to.
        Runs("fn bump() -> u32 { let mut c = S.lock().unwrap(); c.n += 10; c.n }"),
        Shows("bump()", "12"),
        Runs("impl C { fn twice(&self) -> u32 { self.n * 2 } }"),
        Runs("fn bump() -> u32 { let mut c = S.lock().unwrap(); c.n += 10; c.twice() }"),
        Shows(
            "(bump(), *LAZY, ONCE.get(), U.get(), T.with_borrow(|t| t.len()))",
            "(44, 0, \
            Some(3), 5, 1)",
        ),
        Shows("std::thread::spawn(|| U.get()).join().unwrap()", "1"),
        // What it is made of is another thing: it keeps the old, and says so.
        Warns("struct C { n: u32, m: u8 }", &["`S` (In[1])", "the old `C`"]),
        Shows("bump()", "64"),
        Runs("static COUNT: AtomicU32 = AtomicU32::new(50);"),
        Shows("(*LAZY, COUNT.load(Ordering::SeqCst), ONCE.get())", "(0, 50, Some(3))"),
    ])
    .await;
}

#[tokio::test]
async fn what_a_cell_implements_in_a_module_is_another_when_it_is_run_again() {
    for (before, after) in [("mod m { use super::*; ", " }"), ("const _: () = {", "};")] {
        let cell = |k: u8| {
            format!(
                "trait Tr {{ const K: u8; }}\nstruct A;\n\
                 {before}impl Tr for A {{ const K: u8 = {k}; }}{after}"
            )
        };
        let mut nb = Notebook::open().await;
        for k in [2, 5] {
            nb.key = "c".into();
            let shown = nb.run(&cell(k)).await.expect("it compiles");
            assert_eq!(warnings(&shown), "");
            nb.key = String::new();
            let shown = nb.run("A::K").await.expect("it compiles");
            assert_eq!(shown.value, Some(k.to_string()), "{before}");
        }
    }
}

#[tokio::test]
async fn modules_macros_and_imports() {
    check(&[
        Runs(
            "mod shapes {\n    #[derive(Debug)] pub struct Circle { r: f64 }\n\
                    impl Circle { pub fn new(r: f64) -> Self { Circle { r } } }\n    \
             pub(crate) fn half() -> i32 { hidden() }\n\
             fn hidden() -> i32 { crate::outer() }\n    \
             pub mod deep { pub fn f() -> i32 { super::half() + self::g() } fn g() -> i32 { \
             2 } }\n}\n\
             fn outer() -> i32 { 1 }",
        ),
        Runs("use shapes::{Circle, deep, deep::f as ff};"),
        Shows("(deep::f(), ff(), Circle::new(1.0))", "(3, 3, Circle { r: 1.0 })"),
        Fails("Circle::new(1.0).r", "private"),
        Fails("shapes::hidden()", "private"),
        Runs("fn outer() -> i32 { 100 }"),
        Shows("ff()", "102"),
        Runs(
            "#[derive(Debug, PartialEq)] enum Color { Red, Green }\nuse Color::*;\n\
            fn red(c: &Color) -> bool { *c == Red }",
        ),
        Runs("impl Color { fn flip(self) -> Color { match self { Red => Green, Green => Red } } }"),
        Shows("(Red.flip(), red(&Green.flip()))", "(Green, true)"),
        Fails("use nosuch::thing;\nfn never() {}", "nosuch"),
        Fails("never()", "never"),
        Runs("union U { a: u32, b: f32 }\nlet u = U { b: 1.0 };"),
        Shows("unsafe { u.a }", "1065353216"),
        Runs(
            "const fn len() -> usize { 3 }\n\
            struct Grid<const W: usize, const H: usize>([[u8; W]; H]);",
        ),
        Runs("let grid = Grid([[0; len()]; 2]);\nlet array = [1u16; len()];"),
        Shows("(grid.0[1].len(), array)", "(3, [1, 1, 1])"),
        Shows(
            "/// Documented.\n#[inline(never)]\npub(crate) fn documented() -> u8 { 1 }\n\
            documented()",
            "1",
        ),
    ])
    .await;
}

#[tokio::test]
async fn what_a_macro_makes_at_the_top_of_a_cell_is_there_for_later_cells() {
    check(&[
        Runs(
            "macro_rules! point {\n    ($name:ident { $($field:ident),* }) => {\n        \
            #[derive(Debug, Clone)] struct $name { $($field: i32),* }\n        \
            impl $name { fn sum(&self) -> i32 { 0 $(+ self.$field)* } }\n    };\n}\n\
            macro_rules! named { ($t:ty, $n:expr) => { impl Named for $t { fn name(&self) -> u8 { \
            $n * 2 } } } }\ntrait Named { fn name(&self) -> u8; }",
        ),
        Runs("point!(P { x, y });\nlet p = P { x: 1, y: 2 };"),
        Shows("(p.sum(), p.clone())", "(3, P { x: 1, y: 2 })"),
        // An impl for a type of an earlier cell goes to its crate.
        Runs("named!(P, 1 + 2);"),
        Shows("p.name()", "6"),
        // Defining the macro anew changes nothing of what it has made, and says so.
        Warns(
            "macro_rules! point { ($name:ident) => { #[derive(Debug)] struct $name(u8); } }",
            &["`P` (In[2]) stays as the old `point!` made it"],
        ),
        Shows("(p.sum(), p.name())", "(3, 6)"),
        Warns("point!(P);", &["`p` (In[2]) is of the old `P`"]),
        Shows("(P(1), p.x)", "(P(1), 1)"),
        Fails("point!(Q)\nlet q = Q(nothing_like_it);", "nothing_like_it"),
        Warns(
            "macro_rules! both { () => { fn inner() -> u8 { 5 } let n = inner(); } }\nboth!();",
            &["`both!`", "stay in this cell"],
        ),
        Fails("inner()", "cannot find function `inner`"),
    ])
    .await;
}

/// Each of 24 functions calls the one before it, and none fits the cell.
#[tokio::test]
async fn callers_keep_the_old_definition_in_a_chain_of_any_length() {
    let mut nb = Notebook::open().await;
    let mut run =
        async |text: &str| nb.run(text).await.unwrap_or_else(|fault| panic!("{text}: {fault:?}"));
    run("fn base() -> u32 { 1 }").await;
    run("fn f0() -> u32 { base() }").await;
    for at in 1..24 {
        run(&format!("fn f{at}() -> u32 {{ f{}() + base() }}", at - 1)).await;
    }
    let said = warnings(&run("fn base() -> &'static str { \"new\" }").await);
    for at in 0..24 {
        assert!(said.contains(&format!("`f{at}` (In[{}])", at + 2)), "{said}");
    }
    assert_eq!(run("(f0(), f23(), base())").await.value.as_deref(), Some("(1, 24, \"new\")"));
    assert_eq!(warnings(&run("fn base() -> u32 { 10 }").await), "");
    assert_eq!(run("(f0(), f23())").await.value.as_deref(), Some("(10, 240)"));
}
