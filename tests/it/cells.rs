//! Cells through compiler and worker, without a kernel: what a notebook keeps, shows and survives.

use prust_kernel::worker::{Outcome, WorkerEvent};
use tokio::time::timeout;

use crate::support::notebook::{DEADLINE, Fault, Notebook};

#[tokio::test]
async fn variables_items_and_imports_reach_later_cells() {
    let mut nb = Notebook::open().await;
    nb.run("use std::collections::BTreeMap; let mut m = BTreeMap::new(); m.insert(1, \"a\");")
        .await
        .expect("it runs");
    nb.run(
        "#[derive(Debug, Clone)] struct P { x: i32 }\n\
         impl P { fn twice(&self) -> i32 { self.x * 2 } }",
    )
    .await
    .expect("it compiles");
    nb.run("let p = P { x: 4 };").await.expect("it runs");
    assert_eq!(
        Notebook::value(nb.run("m.insert(2, \"b\"); (p.clone(), p.twice(), m.len())").await),
        "(P { x: 4 }, 8, 2)"
    );
    assert_eq!(Notebook::value(nb.run("BTreeMap::<u8, u8>::new().len()").await), "0");
}

#[tokio::test]
async fn a_cell_that_does_not_compile_changes_nothing_and_is_named_at_its_place() {
    let mut nb = Notebook::open().await;
    nb.run("let x = 1;").await.expect("it runs");
    let before = nb.namespace.clone();
    let Err(Fault::Compile(errors)) = nb.run("let ö = 2;\nlet y: u8 = \"text\";").await else {
        panic!("a str is no u8")
    };
    assert_eq!(errors[0].code.as_deref(), Some("E0308"));
    assert_eq!(errors[0].place, Some(("In[2]".to_owned(), 2, 13)));
    assert_eq!(nb.namespace, before);
    let Err(Fault::Compile(errors)) = nb.run("fn broken( {").await else {
        panic!("it is unbalanced")
    };
    assert_eq!(errors[0].place.as_ref().map(|place| place.0.as_str()), Some("In[3]"));
    assert!(!errors[0].plain.contains("prust"), "{}", errors[0].plain);
}

#[tokio::test]
async fn a_moved_variable_is_gone_and_its_thief_is_named() {
    let mut nb = Notebook::open().await;
    nb.run("let s = String::from(\"x\");").await.expect("it runs");
    nb.run("drop(s);").await.expect("it runs");
    let Err(Fault::Compile(errors)) = nb.run("s.len()").await else { panic!("s is gone") };
    assert!(errors[0].plain.contains("moved away by In[2]"), "{}", errors[0].plain);
}

#[tokio::test]
async fn a_panic_keeps_what_the_cell_did_and_restores_what_it_lost() {
    let mut nb = Notebook::open().await;
    nb.run("let mut v = vec![1]; let w = vec![7];").await.expect("it runs");
    let Err(Fault::Run(Outcome::Error { failure, restored, .. })) =
        nb.run("v.push(2);\nv[9]").await
    else {
        panic!("the index is out of bounds")
    };
    assert_eq!((failure.ename.as_str(), restored), ("panic", false));
    let place =
        nb.compiler.place(&failure.file, failure.line, failure.column).expect("it is known");
    assert_eq!((place.label.as_str(), place.line), ("In[2]", 2));
    assert_eq!(Notebook::value(nb.run("v.len()").await), "2");
    let moved_and_lost = nb.run("let taken = w; panic!(\"lost\")").await;
    assert!(matches!(moved_and_lost, Err(Fault::Run(Outcome::Error { restored: true, .. }))));
    assert_eq!(Notebook::value(nb.run("w[0]").await), "7");
}

#[tokio::test]
async fn crashes_cost_no_variable() {
    let mut nb = Notebook::open().await;
    nb.run("let v = vec![1, 2, 3];").await.expect("it runs");
    let crashes = [
        ("std::process::abort()", "SIGABRT"),
        ("std::process::exit(3)", "exit code 3"),
        ("unsafe { std::ptr::null_mut::<u8>().write_volatile(1) }", "SIGSEGV"),
        ("fn deep(n: u64) -> u64 { 1 + deep(std::hint::black_box(n + 1)) }\ndeep(1)", "SIGABRT"),
    ];
    for (text, expected) in crashes {
        let Err(Fault::Run(Outcome::Crashed { cause, restored: true, .. })) = nb.run(text).await
        else {
            panic!("{text} does not crash as it should")
        };
        assert_eq!(cause, expected, "{text}");
        assert_eq!(Notebook::value(nb.run("v.len()").await), "3");
    }
}

#[tokio::test]
async fn an_interrupt_ends_a_tight_loop_and_keeps_the_variables() {
    let mut nb = Notebook::open().await;
    nb.run("let kept = 5;").await.expect("it runs");
    nb.start("println!(\"begun\"); loop { std::hint::spin_loop() }").await.expect("it compiles");
    loop {
        let event = timeout(DEADLINE, nb.events.recv()).await.expect("the worker says something");
        match event.expect("the worker's host lives") {
            WorkerEvent::Output { .. } => nb.worker.interrupt(),
            WorkerEvent::Done { outcome, .. } => {
                assert!(matches!(outcome, Outcome::Interrupted { restored: true, .. }));
                break;
            }
            _ => (),
        }
    }
    assert_eq!(Notebook::value(nb.run("kept").await), "5");
}

#[tokio::test]
async fn a_question_mark_names_the_error_and_its_place() {
    let mut nb = Notebook::open().await;
    let Err(Fault::Run(Outcome::Error { failure, .. })) =
        nb.run("let n: i32 =\n    \"x\".parse()?;").await
    else {
        panic!("x is no number")
    };
    assert_eq!(failure.ename, "ParseIntError");
    let place =
        nb.compiler.place(&failure.file, failure.line, failure.column).expect("it is known");
    assert_eq!(place.line, 2);
}

#[tokio::test]
async fn output_is_whole_and_belongs_to_its_cell() {
    let mut nb = Notebook::open().await;
    let shown = nb.run("for i in 0..2000 { println!(\"{i}\") } eprint!(\"partial\")").await;
    let shown = shown.expect("it runs");
    assert_eq!(shown.stdout.lines().count(), 2000);
    assert_eq!(shown.stderr, "partial");
    let next = nb.run("print!(\"no newline\")").await.expect("it runs");
    assert_eq!(next.stdout, "no newline");
}

#[tokio::test]
async fn references_are_refused_and_cost_nothing() {
    let mut nb = Notebook::open().await;
    nb.run("let v = vec![1];").await.expect("it runs");
    let Err(Fault::Compile(errors)) = nb.run("let r = &v;").await else { panic!("it borrows") };
    assert!(errors[0].plain.contains("`r` keeps a reference"), "{}", errors[0].plain);
    assert_eq!(Notebook::value(nb.run("v.len()").await), "1");
}

#[tokio::test]
async fn a_warning_of_a_successful_cell_is_shown_at_its_place() {
    let mut nb = Notebook::open().await;
    let shown = nb.run("let v = vec![1];\nv.iter().map(|x| x + 1);").await.expect("it runs");
    assert_eq!(shown.warnings[0].code.as_deref(), Some("unused_must_use"));
    assert_eq!(shown.warnings[0].place, Some(("In[1]".to_owned(), 2, 1)));
}

#[tokio::test]
async fn what_snapshots_cost_is_told_by_a_worker_that_was_still_starting() {
    let mut nb = Notebook::open().await;
    nb.worker.measure();
    loop {
        let event = timeout(DEADLINE, nb.events.recv()).await.expect("the worker says something");
        if let WorkerEvent::Measured { costs } = event.expect("the worker's host lives") {
            assert!(costs.resident_bytes > 0);
            break;
        }
    }
}

#[tokio::test]
async fn texts_of_earlier_cells_are_not_remembered_for_ever() {
    let mut nb = Notebook::open().await;
    // Refused before rustc is asked.
    let text = format!("#![feature(never)]\n{}", "let x = 1;\n".repeat(1_000));
    for _ in 0..20 {
        assert!(nb.run(&text).await.is_err());
    }
    let tokens: proc_macro2::TokenStream = "x".parse().expect("it is a name");
    let span = tokens.into_iter().next().expect("it is one").span();
    // `bytes(8..9)`, counted over all that this thread remembers.
    let shown = format!("{span:?}");
    let start = shown.trim_start_matches("bytes(").split("..").next().expect("it has a start");
    let remembered: usize = start.parse().expect("it is a number");
    assert!(remembered < 12 * text.len(), "{remembered} bytes after cells of {}", text.len());
}
