//! Tests of the magics: what is one, what it says, and what is wrong with it.
use super::*;

fn cell(text: &str) -> Cell {
    read(text, &|name| name == "done").unwrap_or_else(|problem| panic!("{text:?}: {problem:?}"))
}

fn magics(text: &str) -> Vec<Magic> {
    let magic = |part| match part {
        Part::Magic { magic, .. } => Some(magic),
        Part::Code(_) => None,
    };
    cell(text).parts.into_iter().filter_map(magic).collect()
}

fn px(text: &str) -> PxOptions {
    match cell(text).wraps.as_slice() {
        [CellMagic::Px(options)] => options.clone(),
        other => panic!("{text:?} gave {other:?}"),
    }
}

#[track_caller]
fn check_problem(text: &str, line: usize, expect: &str) {
    let problem = read(text, &|_| false).expect_err(text);
    assert!(problem.message.contains(expect), "{}", problem.message);
    assert_eq!(problem.line, line);
}

#[track_caller]
fn check_rust(text: &str) {
    let parts = cell(text).parts;
    assert_eq!(parts, [Part::Code(format!("{text}\n"))], "{text:?}");
}

#[test]
fn plain_rust_stays_as_it_is() {
    check_rust("let x = a\n    % b;");
    check_rust("let x = a\n%b;");
    check_rust("let s = \"\n%vars\n\";");
    check_rust("/*\n%vars\n*/ 1");
    check_rust("f(\n!ok)");
    check_rust("!done");
    check_rust("!true");
    check_rust("!is_ok(1)");
    check_rust("::std::process::id()");
    check_rust("let r = r#\"\n:dep x\n\"#;");
}

#[test]
fn magics_and_code_keep_their_order_and_lines() {
    let parts = cell("let x = 1;\n%vars\nx").parts;
    assert_eq!(
        parts,
        [
            Part::Code("let x = 1;\n\n\n".to_owned()),
            Part::Magic { line: 2, magic: Magic::Vars { targets: None } },
            Part::Code("\n\nx\n".to_owned()),
        ]
    );
}

#[test]
fn directives_go_first_and_do_not_split_the_code() {
    let parts = cell("let x = 1;\n:dep rand = \"0.9\"\nx").parts;
    let dep = Magic::Dep { text: "rand = \"0.9\"".to_owned(), manifest: false };
    assert_eq!(
        parts,
        [Part::Magic { line: 2, magic: dep }, Part::Code("let x = 1;\n\nx\n".to_owned()),]
    );
}

#[test]
fn dependencies_are_read_in_all_their_forms() {
    let dep = |text: &str| Magic::Dep { text: text.to_owned(), manifest: false };
    assert_eq!(magics("%dep rand"), [dep("rand")]);
    let two = ":dep a = {\n  version = \"1\",\n}\n:dep b = \"2\"\n1";
    assert_eq!(magics(two), [dep("a = {\n  version = \"1\",\n}"), dep("b = \"2\"")]);
    assert_eq!(magics("%%dep\na = \"1\"\nb = \"2\""), [dep("a = \"1\"\nb = \"2\"")]);
    let front = "---\n[dependencies]\na = \"1\"\n---\n%vars\n1";
    let table = Magic::Dep { text: "[dependencies]\na = \"1\"".to_owned(), manifest: true };
    assert_eq!(magics(front), [table, Magic::Vars { targets: None }]);
    assert_eq!(cell(front).parts[2], Part::Code("\n\n\n\n\n1\n".to_owned()));
    let script = format!("\n#!/usr/bin/env -S cargo -Zscript\n{front}");
    assert_eq!(magics(&script), magics(front));
    assert_eq!(cell("#!/usr/bin/env rust\n1").parts, [Part::Code("\n1\n".to_owned())]);
    assert_eq!(magics("#!/bin/sh\n---\n---\n1"), []);
    assert_eq!(
        cell("#![allow(unused)]\n1").parts,
        [Part::Code("#![allow(unused)]\n1\n".to_owned())]
    );
}

#[test]
fn a_parallel_cell_has_options_and_a_body_in_place() {
    let all = px("%%px -t 0:2 --noblock -o ar --no-stream -e --progress-after 0.5\n1");
    assert_eq!(
        all,
        PxOptions {
            targets: Some("0:2".to_owned()),
            block: Some(false),
            out: Some("ar".to_owned()),
            stream: Some(false),
            group: Some(GroupBy::Engine),
            progress_after: Some(Duration::from_millis(500)),
            ..PxOptions::default()
        }
    );
    assert_eq!(px("%%px --targets=-1 -b").targets.as_deref(), Some("-1"));
    assert_eq!(px("%%px -t -1").targets.as_deref(), Some("-1"));
    assert_eq!(px("%%px -t0,2").targets.as_deref(), Some("0,2"));
    assert_eq!(px("%%px --targets \"0, 2\"").targets.as_deref(), Some("0, 2"));
    assert_eq!(cell("\n%%px\n\nlet x = 1;").parts, [Part::Code("\n\n\nlet x = 1;\n".to_owned())]);
}

#[test]
fn cell_magics_nest_and_raw_ones_take_the_rest() {
    let nested = cell("%%time\n%%px\n1");
    assert_eq!(nested.wraps, [CellMagic::Time, CellMagic::Px(PxOptions::default())]);
    let file = cell("%%writefile -a \"a b.txt\"\n%vars\n}");
    let body = "%vars\n}\n".to_owned();
    let expect = CellMagic::WriteFile { path: "a b.txt".to_owned(), append: true, body };
    assert_eq!((file.wraps, file.parts), (vec![expect], vec![]));
}

#[test]
fn line_magics_are_typed() {
    let options = PxOptions { targets: Some("0".to_owned()), ..PxOptions::default() };
    let code = "println!(\"-a  b\")".to_owned();
    assert_eq!(magics("%px -t 0 println!(\"-a  b\")"), [Magic::Px { options, code }]);
    assert_eq!(
        magics("%cluster start -n 4 --detach"),
        [Magic::Cluster(Cluster::Start { n: Some(4), detach: true, cluster_id: None })]
    );
    let detached = Cluster::Start { n: None, detach: true, cluster_id: Some("big".to_owned()) };
    assert_eq!(magics("%cluster start --detach --cluster-id big"), [Magic::Cluster(detached)]);
    let attach = Cluster::Attach { to: "big".to_owned() };
    assert_eq!(magics("%cluster attach big"), [Magic::Cluster(attach)]);
    assert_eq!(magics("%cluster"), [Magic::Cluster(Cluster::Status)]);
    assert_eq!(
        magics("%cluster start -n4"),
        [Magic::Cluster(Cluster::Start { n: Some(4), detach: false, cluster_id: None })]
    );
    assert_eq!(magics("%px_cancel 7"), [Magic::PxCancel { submission: Some(7) }]);
    assert_eq!(
        magics("%env A=b c"),
        [Magic::Env(Env::Set { name: "A".to_owned(), value: "b c".to_owned() })]
    );
    assert_eq!(magics(":help px"), [Magic::Help { topic: Some("px".to_owned()) }]);
    assert_eq!(magics("!ls -l | wc"), [Magic::Shell { command: "ls -l | wc".to_owned() }]);
    assert_eq!(magics("%snapshot off"), [Magic::Snapshot(Some(Snapshots::Never))]);
    assert_eq!(magics(":opt 2"), [Magic::Opt(Some(Some(2)))]);
    assert_eq!(magics(":fmt {:#?}"), [Magic::Fmt { format: "{:#?}".to_owned() }]);
}

#[test]
fn code_behind_a_cell_magic_is_not_dropped() {
    check_problem("%%time let q = 3;", 1, "or write %time let q = 3;");
    check_problem(
        "\n%%timeit -n 2 'a' - -b\n1",
        2,
        "no argument 'a' - -b; put code on the lines below",
    );
    check_problem("%%time\n%%px -t 0 -b 1 + 1\n1", 2, "or write %px 1 + 1");
    check_problem("%%bash ls -l\nls", 1, "no argument ls -l; put code on the lines below");
    check_problem("%%opt 3 let zz = 1; zz", 1, "not 3 let zz = 1; zz");
}

#[test]
fn what_is_wrong_is_named_with_what_was_meant() {
    check_problem("%%xp\n1", 1, "did you mean %%px?");
    check_problem("1;\n%vras", 2, "did you mean %vars?");
    check_problem("%%px --target 0", 1, "did you mean --targets?");
    check_problem("%cluster strat", 1, "did you mean start?");
    check_problem(":dpe x", 1, "did you mean :dep?");
    check_problem("%qqqqqq", 1, "%lsmagic");
    check_problem("%%px -t", 1, "needs a value");
    check_problem("%%px -a -b", 1, "contradict");
    check_problem("%%px extra", 1, "no argument extra");
    check_problem("%%px -o 1x", 1, "name of a variable");
    check_problem("%px", 1, "needs code");
    check_problem("1;\n%%px\n2", 2, "first line");
    check_problem("%%vars", 1, "there is no %%vars");
    check_problem("---\n[dependencies]", 1, "---");
    check_problem("%cluster start -n 0", 1, "how many");
    check_problem("%cluster start --cluster-id x", 1, "belongs to start --detach");
    check_problem("%cluster attach", 1, "a cluster's id");
    check_problem("%px -t 'x", 1, "never closed");
}

#[test]
fn every_magic_of_the_table_is_read_and_explained() {
    for spec in MAGICS {
        let text = help(Some(spec.name)).expect("it is in the table");
        assert!(text.contains(spec.summary));
        for sign in ["%", "%%", ":"] {
            let text = format!("{sign}{} 1", spec.name);
            if let Err(problem) = read(&text, &|_| false) {
                assert!(!problem.message.contains("is not known as"), "{}", problem.message);
            }
        }
    }
    assert!(help(Some("%vrs")).expect_err("no magic").contains("%vars"));
    assert!(list().contains("%%bash") && help(None).is_ok());
}

#[test]
fn any_prefix_of_anything_is_read() {
    let text = "%%px -t \"é\" --out x=\n:dep é = { \"\n%env é=\n!é\n%px -é\n---\n%\n%%\n:\n!";
    for end in text.char_indices().map(|(at, _)| at) {
        let _ = read(&text[..end], &|_| false);
        let _ = read(&text[end..], &|_| false);
    }
}
