//! `.await` at the top level of cells, tokio between them, threads that go on.

use std::sync::Arc;

use crate::support::notebook::{Fault, Notebook};

const TOKIO: &str = "tokio = { version = \"1\", features = [\"full\"] }";

async fn with_tokio(line: &str) -> Notebook {
    let mut nb = Notebook::open().await;
    let added = nb.compiler.add_dependencies(None, line, Arc::new(|_| ())).await;
    nb.namespace.set = Some(added.expect("tokio is in cargo's cache").set);
    nb
}

#[tokio::test]
async fn tasks_go_on_between_cells_on_one_runtime() {
    let mut nb = with_tokio(TOKIO).await;
    // Behaviours 68 to 70: timers, select!, spawn, and spawn in a spawned task of a later cell.
    let text = "let t = tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        let (sender, mut receiver) = tokio::sync::mpsc::channel::<u32>(8);
        let producer = tokio::spawn(async move {
            let mut i = 0;
            loop { i += 1; if sender.send(i).await.is_err() { break i } }
        });";
    nb.run(text).await.expect("it runs");
    let text = "let first = receiver.recv().await.ok_or(\"closed\")?;
        let second = tokio::select! {
            value = receiver.recv() => value,
            _ = std::future::pending::<()>() => None,
        };
        (first, second)";
    assert_eq!(Notebook::value(nb.run(text).await), "(1, Some(2))");
    // No `.await`: the cell itself is plain.
    nb.run("let outer = tokio::spawn(async { tokio::spawn(async { 40 + 2 }).await });")
        .await
        .expect("it runs");
    nb.run("fn start() -> tokio::task::JoinHandle<u8> { tokio::spawn(async { 7 }) }")
        .await
        .expect("it compiles");
    nb.run("let inner = start();").await.expect("it runs");
    assert_eq!(Notebook::value(nb.run("(outer.await??, inner.await?)").await), "(42, 7)");
    nb.run("receiver.close(); drop(receiver);").await.expect("it runs");
    assert_eq!(Notebook::value(nb.run("producer.await? > 1").await), "true");
    let ids = "(tokio::runtime::Handle::current().id(), tokio::runtime::Handle::current().id())";
    let one = Notebook::value(nb.run(&format!("let before = {ids}.0; before")).await);
    assert_eq!(Notebook::value(nb.run(&format!("{ids}.1")).await), one);
    let joined = "tokio::join!(async { 1 }, async { 2 })";
    assert_eq!(Notebook::value(nb.run(joined).await), "(1, 2)");
}

#[tokio::test]
async fn tokio_works_again_after_a_crash() {
    let mut nb = with_tokio(TOKIO).await;
    nb.run("let kept = 5; tokio::task::yield_now().await;").await.expect("it runs");
    assert!(matches!(nb.run("std::process::abort()").await, Err(Fault::Run(_))));
    let text = "use std::time::Duration;
        tokio::spawn(async move { tokio::time::sleep(Duration::ZERO).await; kept }).await?";
    assert_eq!(Notebook::value(nb.run(text).await), "5");
}

#[tokio::test]
async fn a_tokio_without_threads_of_its_own_runs_its_tasks_all_the_same() {
    let mut nb = with_tokio("tokio = { version = \"1\", features = [\"rt\", \"time\"] }").await;
    let text = "use std::time::Duration;
        let task = tokio::spawn(async { tokio::time::sleep(Duration::ZERO).await; 3 });";
    nb.run(text).await.expect("it runs");
    assert_eq!(Notebook::value(nb.run("task.await?").await), "3");
}

#[tokio::test]
async fn plain_futures_need_no_runtime() {
    let mut nb = Notebook::open().await;
    let text = "let (sender, receiver) = std::sync::mpsc::channel();
        let mut polled = false;
        let woken = std::future::poll_fn(move |context| {
            if std::mem::replace(&mut polled, true) { return std::task::Poll::Ready(9) }
            sender.send(context.waker().clone()).unwrap();
            std::task::Poll::Pending
        });
        std::thread::spawn(move || receiver.recv().unwrap().wake());
        let nine = woken.await;";
    nb.run(text).await.expect("it runs");
    assert_eq!(Notebook::value(nb.run("nine").await), "9");
    let text = "let n: u8 = async { \"x\".parse::<u8>() }.await?;";
    let Err(Fault::Run(_)) = nb.run(text).await else { panic!("x is no number") };
}

#[tokio::test]
async fn a_crate_that_is_not_there_is_named_with_the_line_that_adds_it() {
    let mut nb = Notebook::open().await;
    let text = "tokio::time::sleep(std::time::Duration::ZERO).await;";
    let Err(Fault::Compile(errors)) = nb.run(text).await else { panic!("there is no tokio") };
    let expected = "`:dep tokio = { version = \"1\", features = [\"full\"] }`";
    assert!(errors[0].plain.contains(expected), "{}", errors[0].plain);
    let Err(Fault::Compile(errors)) = nb.run("use rand::random;").await else { panic!("no rand") };
    assert!(errors[0].plain.contains("`:dep rand = \"*\"`"), "{}", errors[0].plain);
}

#[tokio::test]
async fn threads_go_on_between_cells_and_scoped_ones_borrow() {
    let mut nb = Notebook::open().await;
    let text = "use std::sync::{Arc, Mutex};
        let shared = Arc::new(Mutex::new(0));
        let (go, wait) = std::sync::mpsc::channel::<i32>();
        let thread = { let shared = shared.clone(); std::thread::spawn(move || {
            for n in wait { *shared.lock().unwrap() += n; println!(\"heard {n}\"); }
            \"done\"
        }) };";
    nb.run(text).await.expect("it runs");
    nb.run("go.send(4)?;").await.expect("it runs");
    nb.run("go.send(5)?; drop(go);").await.expect("it runs");
    let shown = nb.run("let end = thread.join().unwrap(); (end, *shared.lock().unwrap())").await;
    assert_eq!(Notebook::value(shown), "(\"done\", 9)");
    let text = "let mut parts = vec![0; 4];
        std::thread::scope(|s| for part in &mut parts {
            s.spawn(|| *part += *shared.lock().unwrap());
        });
        parts";
    assert_eq!(Notebook::value(nb.run(text).await), "[9, 9, 9, 9]");
}
