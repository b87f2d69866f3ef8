//! The house rules about the tests that other people's programs run, in Python: they neither sleep
//! nor skip, and nothing in `src` knows which of them is running.
use std::collections::BTreeSet;
use std::fs;

use super::{files, report, root};

/// The only file that lets time pass.
const SLEEPS: &str = "tests/harness/deadline.py";
/// The only file that may leave a test out, and how: where a program that hardly any machine has is
/// not installed, with that reason.
const SKIPS: (&str, &str) = ("tests/clients/test_launchers.py", "@pytest.mark.skipif(");

const BANNED: &[&str] =
    &["time.sleep(", "wait_for_timeout(", "mark.skip", "pytest.skip(", "mark.xfail"];

#[test]
fn tidy_python_tests_neither_sleep_nor_skip() {
    let mut complaints = Vec::new();
    for path in files(&["tests"]).iter().filter(|path| path.ends_with(".py")) {
        let text = fs::read_to_string(root().join(path)).expect("a listed file can be read");
        for (index, line) in text.lines().enumerate() {
            let may = path == SLEEPS || path == SKIPS.0 && line.starts_with(SKIPS.1);
            for word in BANNED.iter().filter(|word| !may && line.contains(**word)) {
                complaints.push(format!("{path}:{}: {word}: use eventually()", index + 1));
            }
        }
        if !text.starts_with("\"\"\"") {
            complaints.push(format!("{path}:1: starts without a docstring"));
        }
    }
    report(complaints);
}

#[test]
fn tidy_nothing_knows_which_upstream_test_runs() {
    let list = root().join("tests/stock/expected.txt");
    let list = fs::read_to_string(list).expect("the recorded list is there");
    let names: BTreeSet<&str> = list.lines().map(name_of_test).collect();
    assert!(names.contains("test_clear") && !names.contains(""), "the list is one of test ids");
    let mut complaints = Vec::new();
    for path in files(&["src"]) {
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        for (index, line) in text.lines().enumerate() {
            for word in words(line).filter(|word| names.contains(word)) {
                complaints.push(format!(
                    "{path}:{}: {word} is a test of ipyparallel: the product does not know it",
                    index + 1
                ));
            }
        }
    }
    report(complaints);
}

#[test]
fn tidy_upstream_tests_are_found_by_name() {
    assert_eq!(name_of_test("test_view.py::TestView::test_map[a::b]"), "test_map");
    assert_eq!(name_of_test("test_cluster.py::test_get_output"), "test_get_output");
    let found: Vec<&str> = words("if name == \"test_map\" {").collect();
    assert_eq!(found, ["if", "name", "test_map"]);
}

/// The function's name in the id of a test.
fn name_of_test(id: &str) -> &str {
    let id = id.split('[').next().unwrap_or(id);
    id.rsplit("::").next().unwrap_or(id)
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .filter(|word| !word.is_empty())
}
