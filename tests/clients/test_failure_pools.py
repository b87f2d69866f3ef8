"""Pools of threads after a crash or an interrupt, when their threads did not survive: rayon and tokio go on."""

import time

GO = 'println!("go");'
TOKIO = ':dep tokio = { version = "1", features = ["full"] }'


def interrupted_within_a_second(kernel, code):
    running = kernel.send(GO + code)
    running.until_text("go")
    start = time.monotonic()
    kernel.interrupt()
    assert running.finish(30).reply["content"]["ename"] == "Interrupted"
    assert time.monotonic() - start < 1


def test_rayon_works_after_crashes_and_interrupts(fresh):
    kernel = fresh()
    kernel.ok(':dep rayon = "1"', seconds=300)
    kernel.ok("use rayon::prelude::*; let kept = 1;")
    total = "(0..1_000_000u64).into_par_iter().map(|x| x % 7).sum::<u64>()"
    assert kernel.ok(total).text == "2999997"
    kernel.fails("std::process::abort()", "without a name", "rayon")
    for _ in range(3):
        assert kernel.ok(total).text == "2999997"
        kernel.fails("std::process::abort()")
    interrupted_within_a_second(kernel, "rayon::join(|| loop {}, || loop {});")
    assert kernel.ok(total).text == "2999997"
    kernel.fails('(0..8u32).into_par_iter().for_each(|x| if x == 5 { panic!("at five") });', "at five", ":1:52")
    assert kernel.ok("kept").text == "1"


def test_tokio_works_after_crashes_and_interrupts(fresh):
    kernel = fresh()
    kernel.ok(TOKIO, seconds=300)
    task = (
        "let task = tokio::spawn(async {\n"
        "    tokio::time::sleep(std::time::Duration::from_millis(5)).await;\n"
        "    tokio::task::spawn_blocking(|| 6).await\n});\ntask.await??"
    )
    assert kernel.ok(task).text == "6"
    for _ in range(3):
        kernel.fails("std::process::abort()", "tokio-rt-worker")
        assert kernel.ok(task).text == "6"
    interrupted_within_a_second(kernel, "tokio::time::sleep(std::time::Duration::from_secs(600)).await;")
    assert kernel.ok(task).text == "6"
