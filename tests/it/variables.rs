//! Variables between cells: every pattern and every everyday type, moves, references, closures.

use prust_kernel::worker::Outcome;

use crate::support::notebook::{Fault, Notebook};

/// A declaration, an expression of a later cell and what that shows.
type Row = (&'static str, &'static str, &'static str);

/// Types that people meet every day, inferred as a rule.
const TYPES: &[Row] = &[
    ("let n1 = 5;", "n1 + 1", "6"),
    ("let n2 = 2.5f32;", "n2 * 2.0", "5.0"),
    ("let n3 = 'x';", "n3", "'x'"),
    ("let n4 = ();", "n4", "()"),
    ("let s1 = \"text\";", "s1.len()", "4"),
    ("let s2 = String::from(\"text\");", "s2.as_str()", "\"text\""),
    ("let s3: std::borrow::Cow<'static, str> = \"c\".into();", "s3.len()", "1"),
    ("let s4 = b\"bytes\";", "s4.len()", "5"),
    ("let s5 = std::path::PathBuf::from(\"/a\");", "s5.display().to_string()", "\"/a\""),
    ("let s6 = std::ffi::OsString::from(\"o\");", "s6.len()", "1"),
    ("let s7: std::rc::Rc<str> = \"rc\".into();", "s7.len()", "2"),
    ("let s8: Box<[u8]> = vec![1, 2].into();", "s8.len()", "2"),
    ("let c1 = vec![1u8, 2];", "c1.len()", "2"),
    ("let c2 = vec![Some(\"a\"), None];", "c2[0]", "Some(\"a\")"),
    ("let c3: Vec<_> = (0..3).map(|x| x * x).collect();", "c3[2]", "4"),
    ("let c4 = std::collections::HashMap::from([(\"k\", vec![1.5])]);", "c4[\"k\"][0]", "1.5"),
    ("let c5 = std::collections::BTreeSet::from([3, 1]);", "c5.first().copied()", "Some(1)"),
    ("let c6 = std::collections::VecDeque::from([1i8]);", "c6.len()", "1"),
    ("let c7 = std::collections::BinaryHeap::from([1, 9]);", "*c7.peek().unwrap()", "9"),
    ("let c8 = [[0u8; 3]; 2];", "c8[1].len()", "3"),
    ("let c9 = (1, \"two\", 3.0);", "c9.1", "\"two\""),
    ("let o1 = Some(5);", "o1.unwrap()", "5"),
    ("let o2: Result<i32, std::num::ParseIntError> = \"7\".parse();", "o2.clone().unwrap()", "7"),
    ("let o3 = \"x\".parse::<f64>().map_err(|e| e.to_string());", "o3.is_err()", "true"),
    ("let o4 = std::ops::ControlFlow::<u8>::Break(1);", "o4.is_break()", "true"),
    ("let o5 = std::cmp::Reverse(1);", "o5.0", "1"),
    ("let o6 = Some(5).ok_or(\"none\")?;", "o6", "5"),
    ("let p1 = std::rc::Rc::new(std::cell::RefCell::new(vec![1]));", "p1.borrow().len()", "1"),
    ("let p2 = std::sync::Arc::new(std::sync::Mutex::new(1));", "*p2.lock().unwrap()", "1"),
    ("let p3: Box<dyn std::fmt::Debug + Send> = Box::new(5);", "format!(\"{p3:?}\")", "\"5\""),
    ("let p4: Box<dyn std::error::Error + Send + Sync> = \"e\".into();", "p4.to_string()", "\"e\""),
    ("let p5: &'static (dyn std::fmt::Debug + Sync) = &5;", "format!(\"{p5:?}\")", "\"5\""),
    ("let p6: &'static mut Vec<i32> = Box::leak(Box::new(vec![4]));", "p6.len()", "1"),
    ("let p7 = std::rc::Rc::downgrade(&std::rc::Rc::new(1));", "p7.upgrade()", "None"),
    ("let p8: *const u8 = std::ptr::null();", "p8.is_null()", "true"),
    ("let p9 = std::pin::pin!(5).as_ref().get_ref() + 0;", "p9", "5"),
    ("let f1: fn(&str) -> usize = str::len;", "f1(\"abc\")", "3"),
    ("let f2: Box<dyn Fn(&str) -> &str> = Box::new(|s| &s[1..]);", "f2(\"abc\")", "\"bc\""),
    ("let f3: fn(i32) -> ! = |_| std::process::exit(0);", "size_of_val(&f3)", "8"),
    ("let f4: std::rc::Rc<dyn Fn(u8) -> u8> = std::rc::Rc::new(|x| x + 1);", "f4(1)", "2"),
    (
        "let f5: Box<dyn Fn(&'static str) -> usize + Send> = Box::new(|s| s.len());",
        "f5(\"abc\")",
        "3",
    ),
    ("let i1 = 0..10;", "i1.len()", "10"),
    ("let i2 = (0..=10).rev().skip(2).step_by(3);", "i2.clone().collect::<Vec<_>>()", "[8, 5, 2]"),
    ("let i3 = \"abc\".chars().rev().enumerate().peekable();", "i3.clone().count()", "3"),
    ("let i4 = \"a b\".split(' ');", "i4.clone().last()", "Some(\"b\")"),
    ("let i5 = vec![1, 2].into_iter().zip([3, 4]);", "i5.clone().next()", "Some((1, 3))"),
    ("let i6 = \"a\\nb\".lines().cycle().take(3);", "i6.clone().count()", "3"),
    ("let i7 = std::iter::repeat(1).take(2).chain([5]).fuse();", "i7.clone().sum::<i32>()", "7"),
    ("let i8 = [1, 2, 3].iter().copied().collect::<Vec<i32>>().into_iter();", "i8.len()", "3"),
    ("let t1 = std::time::Duration::from_secs(2);", "t1.as_millis()", "2000"),
    ("let t2 = std::time::Instant::now();", "t2.elapsed().as_secs() < 1000", "true"),
    (
        "let t3 = std::sync::mpsc::channel::<u8>();",
        "{ t3.0.send(4).unwrap(); t3.1.recv() }",
        "Ok(4)",
    ),
    ("let t4 = std::thread::spawn(|| 5);", "t4.join().unwrap()", "5"),
    ("let t5 = std::thread::spawn(|| loop { std::thread::park() });", "t5.is_finished()", "false"),
    (
        "let t6 = std::sync::atomic::AtomicU64::new(1);",
        "t6.load(std::sync::atomic::Ordering::SeqCst)",
        "1",
    ),
    ("let t7 = std::num::NonZeroU8::new(3).unwrap();", "t7.get()", "3"),
    ("let t8 = std::net::Ipv4Addr::LOCALHOST;", "t8.is_loopback()", "true"),
    ("let t9 = std::any::TypeId::of::<u8>();", "t9 == std::any::TypeId::of::<u8>()", "true"),
    ("let u1 = Wrapper(vec![1]);", "u1.0.len()", "1"),
    ("let u2 = Sized2::<3, true> { a: [1; 3] };", "u2.a.len()", "3"),
    ("let u3 = make_sized([0; 4]);", "u3.a.len()", "4"),
    ("let u4 = r#async::make();", "u4.0", "1"),
    ("let u5 = inner::make();", "u5.get()", "7"),
    ("let u6 = evens(9);", "u6.sum::<u32>()", "20"),
    ("let u7 = Choice::B { x: 1 };", "matches!(u7, Choice::B { x: 1 })", "true"),
    ("let u8_ = boxed_shape();", "u8_.area()", "4"),
    ("let u9 = std::marker::PhantomData::<fn() -> Wrapper<u8>>;", "size_of_val(&u9)", "0"),
];

const ITEMS: &str = "struct Wrapper<T>(T);
struct Sized2<const N: usize, const B: bool> { a: [u8; N] }
fn make_sized<const N: usize>(a: [u8; N]) -> Sized2<N, false> { Sized2 { a } }
mod r#async { pub struct T(pub u8); pub fn make() -> T { T(1) } }
mod inner { mod private { pub struct P(u8); impl P { pub fn new() -> P { P(7) }
    pub fn get(&self) -> u8 { self.0 } } } pub use private::P; pub fn make() -> P { P::new() } }
fn evens(n: u32) -> impl Iterator<Item = u32> { (0..n).step_by(2) }
enum Choice { A, B { x: u8 } }
trait Shape { fn area(&self) -> u8; }
impl Shape for Wrapper<u8> { fn area(&self) -> u8 { self.0 } }
fn boxed_shape() -> Box<dyn Shape + Send> { Box::new(Wrapper(4u8)) }";

/// Declares all rows, several to a cell, and looks at each in later cells.
async fn check(nb: &mut Notebook, rows: &[Row]) {
    for some in rows.chunks(24) {
        let lets: Vec<&str> = some.iter().map(|(text, ..)| *text).collect();
        let shown = nb.run(&lets.join("\n")).await.expect("it runs");
        assert!(shown.warnings.is_empty(), "{:?}", shown.warnings);
    }
    for some in rows.chunks(24) {
        let shows: Vec<String> =
            some.iter().map(|(_, show, _)| format!("println!(\"{{:?}}\", {show});")).collect();
        let shown = nb.run(&shows.join("\n")).await.expect("it runs");
        let lines: Vec<&str> = shown.stdout.lines().collect();
        for ((line, (text, ..)), found) in some.iter().map(|row| (row.2, row)).zip(&lines) {
            assert_eq!(*found, line, "{text}");
        }
        assert_eq!(lines.len(), some.len());
    }
}

#[tokio::test]
async fn everyday_types_are_there_in_a_later_cell() {
    let mut nb = Notebook::open().await;
    nb.run(ITEMS).await.expect("it compiles");
    check(&mut nb, TYPES).await;
}

#[tokio::test]
async fn every_pattern_declares_its_variables() {
    let mut nb = Notebook::open().await;
    nb.run("struct S { a: u8, b: (u8, u8) }\nstruct T(u8, u8, u8);").await.expect("it compiles");
    nb.run(
        "let (a, mut b, ..) = (1, 2, 3, 4);\nlet S { a: c, b: (d, _) } = S { a: 3, b: (4, 0) };\n\
         let T(e, .., f) = T(5, 0, 6);\nlet [g, rest @ ..] = [7, 8, 9];\n\
         let whole @ [first, ..] = [10, 11];\nlet Some(h) = Some(12) else { panic!() };\n\
         let x @ Some(_) = Some(13) else { panic!() };\nlet (Ok(i) | Err(i)) = Ok::<u8, u8>(14);\n\
         let &j = &15;\nlet ref_free = if let Some(k) = Some(16) && k > 3 { k } else { 0 };\n\
         let late;\nlate = 17;\nlet r#type = 18; let _ = 19; let _unused = 20;",
    )
    .await
    .expect("it runs");
    let all = "b += 1; (a, b, c, d, e, f, g, rest, whole, first, h)";
    let shown = Notebook::value(nb.run(all).await);
    assert_eq!(shown, "(1, 3, 3, 4, 5, 6, 7, [8, 9], [10, 11], 10, 12)");
    let shown = Notebook::value(nb.run("(x, i, j, ref_free, late, r#type, _unused)").await);
    assert_eq!(shown, "(Some(13), 14, 15, 16, 17, 18, 20)");
}

#[tokio::test]
async fn a_variable_rebuilt_from_itself_is_kept() {
    let mut nb = Notebook::open().await;
    nb.run("let s = String::from(\"a\"); let t = vec![1];").await.expect("it runs");
    nb.run("let s = s + \"b\";").await.expect("it runs");
    nb.run("let t = t.into_iter().map(|x| x + 1).collect::<Vec<_>>();").await.expect("it runs");
    assert_eq!(Notebook::value(nb.run("(&s, &t)").await), "(\"ab\", [2])");
    nb.run("let mut s = s; s.push('c'); let u = s;").await.expect("it runs");
    assert_eq!(Notebook::value(nb.run("u").await), "\"abc\"");
    let Err(Fault::Compile(errors)) = nb.run("s.len()").await else { panic!("s is in u") };
    assert!(errors[0].plain.contains("`s` was moved away by In[5]"), "{}", errors[0].plain);
}

/// Closures and what is made of them, kept in another form.
const BOXED: &[Row] = &[
    ("let k1 = |x: i32| x + 1;", "[1, 2].map(k1)", "[2, 3]"),
    ("let k2 = |s: &str| s.len();", "k2(&String::from(\"abc\"))", "3"),
    (
        "let n = 10; let k3 = move |x: i32| x + n;",
        "(k3(1), [5].iter().map(|x| k3(*x)).sum::<i32>())",
        "(11, 15)",
    ),
    ("let mut k4 = { let mut n = 0; move || { n += 1; n } };", "{ k4(); k4() }", "2"),
    ("let v = vec![7]; let k5 = move || v;", "k5()", "[7]"),
    ("let k6 = |(a, b): (i32, &str)| format!(\"{a}{b}\");", "k6((1, \"b\"))", "\"1b\""),
    ("let k7 = |x: i32| move |y: i32| x * y;", "k7(3)(4)", "12"),
    ("let shared = std::rc::Rc::new(5); let k8 = move || *shared;", "k8()", "5"),
    (
        "let k9 = |s: &str| -> Result<i32, std::num::ParseIntError> { s.parse() };",
        "k9(\"5\")",
        "Ok(5)",
    ),
    ("let l1 = add(3);", "l1(4)", "7"),
    ("let l2 = skip(1);", "l2(&String::from(\"abc\"))", "\"bc\""),
    ("let l3 = str::len;", "l3(\"abc\")", "3"),
    ("let l4 = Some::<u8>;", "l4(1)", "Some(1)"),
    ("let l5 = u8::wrapping_add;", "l5(255, 2)", "1"),
    (
        "let l6 = vec![1, 2, 3].into_iter().map(|x| x * 2).filter(|x| x % 4 == 0);",
        "l6.collect::<Vec<_>>()",
        "[4]",
    ),
    ("let l7 = doubled(3);", "l7.sum::<u32>()", "6"),
    ("let l8 = \"a1b\".split(|c: char| c.is_numeric());", "l8.count()", "2"),
    (
        "let l9 = std::iter::successors(Some(1), |x| Some(x * 3));",
        "{ let l9 = l9; l9.take(3).last() }",
        "Some(9)",
    ),
    ("let m1 = vec![|x: i32| x + 1, |x: i32| x + 2];", "m1[1](1)", "3"),
    ("let m2 = (|x: i32| x, 5, \"s\");", "m2.0(m2.1)", "5"),
    ("let m3 = Some(|| 3);", "m3.map(|f| f())", "Some(3)"),
    ("let o = 5; let m4 = std::sync::Arc::new(move |x: i32| x + o);", "m4(1)", "6"),
    ("let p = 5; let m5 = Box::new(move |x: i32| x + p);", "m5(1)", "6"),
    (
        "let m6 = |v: &mut Vec<i32>, x| v.push(x);",
        "{ let mut v = vec![]; m6(&mut v, 1); v }",
        "[1]",
    ),
    ("let m7 = || \"static\";", "m7()", "\"static\""),
    (
        "let m8 = std::iter::from_fn(|| Some(2)).take(2);",
        "std::thread::spawn(move || m8.sum::<i32>()).join().unwrap()",
        "4",
    ),
    (
        "let q = 2; let m9 = move |x: i32| x * q;",
        "std::thread::scope(|s| s.spawn(|| m9(2)).join().unwrap())",
        "4",
    ),
];

#[tokio::test]
async fn closures_and_what_is_made_of_them_are_kept() {
    let mut nb = Notebook::open().await;
    nb.run(
        "fn add(n: i32) -> impl Fn(i32) -> i32 + Clone { move |x| x + n }
         fn skip(n: usize) -> impl for<'a> Fn(&'a str) -> &'a str { move |s| &s[n..] }
         fn doubled(n: u32) -> impl Iterator<Item = u32> { (0..n).map(|x| x * 2) }",
    )
    .await
    .expect("it compiles");
    check(&mut nb, BOXED).await;
}

#[tokio::test]
async fn futures_are_kept_and_awaited_later() {
    let mut nb = Notebook::open().await;
    nb.run("async fn slow(x: u8) -> u8 { std::future::ready(x).await }")
        .await
        .expect("it compiles");
    nb.run(
        "let a = slow(4); let b = async { slow(5).await + 1 }; let f = |x: u8| async move { x };",
    )
    .await
    .expect("it runs");
    assert_eq!(Notebook::value(nb.run("(a.await, b.await, f(7).await)").await), "(4, 6, 7)");
    let Err(Fault::Compile(errors)) = nb.run("a.await").await else { panic!("a is spent") };
    assert!(errors[0].plain.contains("`a` was moved away by In[3]"), "{}", errors[0].plain);
    let text = "let n: u32 = async { \"5\".parse::<u32>() }.await?; let kept = n + 1;";
    nb.run(text).await.expect("it runs");
    assert_eq!(Notebook::value(nb.run("kept").await), "6");
}

#[tokio::test]
async fn what_cannot_be_kept_is_said_at_its_let_with_the_line_to_write() {
    let mut nb = Notebook::open().await;
    let shown = nb.run("let a = 1;\nlet lazy = std::sync::LazyLock::new(move || a + 4);").await;
    let shown = shown.expect("it runs");
    let warning = &shown.warnings[0];
    assert_eq!(warning.place, Some(("In[1]".to_owned(), 2, 5)));
    let line = "let lazy: std::sync::LazyLock<i32, Box<dyn std::ops::FnOnce() -> i32>> = ";
    assert!(warning.plain.contains(&format!("`{line}..;`")), "{}", warning.plain);
    let written = "std::sync::LazyLock::new(Box::new(move || a + 4));";
    nb.run(&format!("{line}{written}")).await.expect("it runs");
    assert_eq!(Notebook::value(nb.run("*lazy").await), "5");
    let shown = nb.run("let local = { struct Inner; Inner };").await.expect("it runs");
    assert!(
        shown.warnings[0].plain.contains("at the top level of a cell"),
        "{}",
        shown.warnings[0].plain
    );
    assert_eq!(Notebook::value(nb.run("a").await), "1");
}

#[tokio::test]
async fn a_closure_that_borrows_is_told_to_own() {
    let mut nb = Notebook::open().await;
    nb.run("let v = vec![1];").await.expect("it runs");
    let Err(Fault::Compile(errors)) = nb.run("let f = |x: usize| v[x];").await else {
        panic!("it borrows v")
    };
    assert!(errors[0].plain.contains("`move`"), "{}", errors[0].plain);
    assert_eq!(errors[0].place.as_ref().map(|place| place.1), Some(1));
    let text = "let f = { let v = v.clone(); move |x: usize| v[x] }; v.len()";
    assert_eq!(Notebook::value(nb.run(text).await), "1");
    assert_eq!(Notebook::value(nb.run("f(0)").await), "1");
}

#[tokio::test]
async fn a_question_mark_takes_every_error_and_none() {
    let mut nb = Notebook::open().await;
    nb.run(
        "let m = std::sync::Mutex::new(1);
         #[derive(Debug)] struct Mine; fn mine() -> Result<u8, Mine> { Err(Mine) }
         fn boxed() -> Result<u8, Box<dyn std::error::Error>> { Err(\"boxed words\".into()) }",
    )
    .await
    .expect("it runs");
    nb.run("*m.lock()? += 1;").await.expect("it is not poisoned");
    let cases = [
        ("let kept: u8 = mine()?;", "Mine", "Mine"),
        ("boxed()?;", "Box<dyn Error>", "boxed words"),
        ("let x: u8 = None?;", "NoneError", "`?` met `None`"),
        ("Err(format!(\"{}\", 5))?;", "String", "5"),
        ("async { Err::<u8, _>(\"late\") }.await?", "&str", "late"),
    ];
    for (text, name, words) in cases {
        let Err(Fault::Run(Outcome::Error { failure, .. })) = nb.run(text).await else {
            panic!("{text} fails")
        };
        assert_eq!(failure.ename, name, "{text}");
        assert!(failure.evalue.contains(words), "{text}: {}", failure.evalue);
        let place = nb.compiler.place(&failure.file, failure.line, failure.column);
        assert_eq!(place.expect("it is known").line, 1, "{text}");
    }
    nb.run("let first = *[3].first()?;").await.expect("there is one");
    assert_eq!(Notebook::value(nb.run("(first, *m.lock()?)").await), "(3, 2)");
}

#[tokio::test]
async fn jumps_to_nowhere_are_told_in_the_users_terms() {
    let mut nb = Notebook::open().await;
    for (text, message) in [
        ("break;", "`break` outside of a loop"),
        ("if true { return; }", "`return` outside of a function"),
        ("let Some(x) = None::<u8> else { return };", "`return` outside of a function"),
    ] {
        let Err(Fault::Compile(errors)) = nb.run(text).await else { panic!("{text} compiles") };
        assert_eq!((errors.len(), errors[0].message.as_str()), (1, message));
        assert!(!errors[0].plain.contains("closure"), "{}", errors[0].plain);
    }
}

#[tokio::test]
async fn immutability_is_enforced_and_keeps_the_variable() {
    let mut nb = Notebook::open().await;
    nb.run("let fixed = vec![1]; let s: &'static str = \"forever\"; let mut free = 1;")
        .await
        .expect("it runs");
    for (text, code) in [
        ("fixed = vec![2];", "E0594"),
        ("fixed.push(2);", "E0596"),
        ("free += 1; fixed[0] = 2;", "E0596"),
    ] {
        let Err(Fault::Compile(errors)) = nb.run(text).await else { panic!("{text} compiles") };
        assert_eq!(errors[0].code.as_deref(), Some(code), "{}", errors[0].plain);
        assert_eq!(errors[0].place.as_ref().map(|place| place.1), Some(1), "{}", errors[0].plain);
        assert!(!errors[0].plain.contains("prust"), "{}", errors[0].plain);
    }
    nb.run("if fixed.len() > 5 { drop(fixed); }").await.expect("it runs");
    assert_eq!(Notebook::value(nb.run("(s, free)").await), "(\"forever\", 1)");
}

#[tokio::test]
async fn a_value_of_a_private_type_is_boxed_or_said_not_to_stay() {
    let mut nb = Notebook::open().await;
    nb.run(
        "mod m {
            struct Secret; impl std::fmt::Display for Secret {
                fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result { f.pad(\"?\") }
            }
            pub fn shown() -> impl std::fmt::Display { Secret }
            struct Down(u8); impl Iterator for Down { type Item = u8;
                fn next(&mut self) -> Option<u8> { self.0 = self.0.checked_sub(1)?; Some(self.0) }
            }
            pub fn down() -> impl Iterator<Item = u8> { Down(3) }
        }",
    )
    .await
    .expect("it compiles");
    let shown = nb.run("let items = m::down(); let secret = m::shown();").await.expect("it runs");
    assert_eq!(shown.warnings.len(), 1, "{:?}", shown.warnings);
    assert!(shown.warnings[0].plain.contains("`secret` is not kept"), "{:?}", shown.warnings);
    assert_eq!(Notebook::value(nb.run("items.collect::<Vec<_>>()").await), "[2, 1, 0]");
}

#[tokio::test]
async fn macros_of_earlier_cells_name_what_they_need() {
    let mut nb = Notebook::open().await;
    nb.run("fn helper() -> u8 { 3 }\nmacro_rules! deep { () => { helper() } }").await.expect("ok");
    nb.run("struct Made(u8);\nmacro_rules! outer { ($x:expr) => { Made(deep!() + $x) } }")
        .await
        .expect("it compiles");
    nb.run("let x = 1u8; let width = 4usize;").await.expect("it runs");
    assert_eq!(Notebook::value(nb.run("outer!(x).0").await), "4");
    let shown = nb.run("assert!(true, \"{x}\"); print!(\"{x:>width$}\");").await.expect("it runs");
    assert_eq!(shown.stdout, "   1");
}

#[tokio::test]
async fn warnings_speak_of_what_no_later_cell_can_use() {
    let mut nb = Notebook::open().await;
    let text = "let mut early = 1; let (a, mut b) = (1, 2); let mut c: Vec<u8>;
        let f = |x: i32| { let inside = 2; 3 };
        let moved = vec![1]; let other = moved;
        for i in 0..1 { let mut calm = early; print!(\"{calm}\"); }";
    let shown = nb.run(text).await.expect("it runs");
    let of: Vec<String> = shown
        .warnings
        .iter()
        .map(|warning| warning.message.split('`').nth(1).unwrap_or(&warning.message).to_owned())
        .collect();
    let mut expected = ["c", "x", "inside", "i", "variable does not need to be mutable"]
        .map(str::to_owned)
        .to_vec();
    let mut sorted = of.clone();
    expected.sort();
    sorted.sort();
    assert_eq!(sorted, expected, "{:?}", shown.warnings);
    let forever = "let never = 1; if early > 0 { print!(\"end\"); } loop { break }; let after = 2;";
    let shown = nb.run(forever).await.expect("it runs");
    assert!(shown.warnings.is_empty(), "{:?}", shown.warnings);
    let (_, shown) = nb.start("let never = 1; panic!(\"stop\")").await.expect("it compiles");
    assert!(shown.warnings.is_empty(), "{:?}", shown.warnings);
    let mut nb = Notebook::open().await;
    nb.run("let mut early = 1; let a = 6; let b = 1;").await.expect("it runs");
    let shown = nb.run("early += 1; if a > 5 { early = 7; } b").await.expect("it runs");
    assert!(shown.warnings.is_empty(), "{:?}", shown.warnings);
}
