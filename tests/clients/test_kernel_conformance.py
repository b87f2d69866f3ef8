"""Jupyter's own conformance tests, with every attribute that they know."""

import unittest

import jupyter_kernel_test
import pytest


class PrustKernel(jupyter_kernel_test.KernelTests):
    kernel_name = "prust"
    language_name = "rust"
    file_extension = ".rs"
    code_hello_world = 'println!("hello, world");'
    code_stderr = 'eprintln!("to stderr");'
    completion_samples = [
        {"text": "%clus", "matches": {"%cluster"}},
        {"text": "%%p", "matches": {"%%px"}},
        {"text": "%%px --targ", "matches": {"--targets"}},
    ]
    complete_code_samples = ["1 + 1", "let x = 1;", "fn f() -> u8 { 3 }", "%px 1 + 1", "// only a remark", ""]
    incomplete_code_samples = ["fn f() {", "let x = (1,", 'println!("a', "struct S {", "/* open"]
    invalid_code_samples = ["let x = );", "fn f() }", "1 + ]"]
    code_page_something = "%quickref"
    code_generate_error = 'panic!("as asked")'
    code_execute_result = [
        {"code": "6*7", "result": "42"},
        {"code": 'String::from("rust")', "result": '"rust"'},
        {"code": "vec![1, 2, 3]", "result": "[1, 2, 3]"},
    ]
    code_display_data = [
        {"code": 'prust::display(&prust::html("<b>bold</b>"));', "mime": "text/html"},
        {"code": 'prust::display(&prust::svg("<svg xmlns=\'http://www.w3.org/2000/svg\'/>"));', "mime": "image/svg+xml"},
        {"code": "prust::display_debug(&vec![1]);", "mime": "text/plain"},
    ]
    supported_history_operations = ("tail", "range", "search")
    code_history_pattern = "6?7"
    code_inspect_sample = "Vec"
    code_clear_output = "prust::clear_output();"


class PrustWelcome(jupyter_kernel_test.IopubWelcomeTests):
    kernel_name = "prust"
    support_iopub_welcome = True


@pytest.fixture(scope="module", autouse=True)
def in_the_private_home(home):
    return home


def test_no_attribute_of_the_conformance_tests_is_left_out():
    base = jupyter_kernel_test.KernelTests
    unset = [
        name
        for name, default in vars(base).items()
        if not name.startswith("_")
        and not callable(default)
        and not isinstance(default, (property, classmethod))
        and name != "maxDiff"
        and getattr(PrustKernel, name) == default
        and not hasattr(unittest.TestCase, name)
    ]
    assert unset == []
