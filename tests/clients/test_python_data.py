"""Data between a Python ipyparallel.Client and Rust engines: push, pull, scatter, gather, through either controller."""

import re
import sys
from contextlib import contextmanager

import ipyparallel
import numpy
import pytest

from harness.cluster import Cluster
from harness.home import remove, short_folder

N = 3
WAIT = 120
STOCK = [sys.executable, "-m", "ipyparallel.controller", "--ping=250"]


@contextmanager
def connected(home, controller=None):
    """A client and its cluster, gone afterwards also when a test has failed."""
    folder = short_folder()
    try:
        with Cluster(folder / "profile", home.environ, N, controller=controller) as cluster:
            client = ipyparallel.Client(str(cluster.file("client")), timeout=20)
            try:
                client.wait_for_engines(N, timeout=WAIT, interactive=False)
                yield client, cluster
            finally:
                client.close()
    finally:
        remove(folder)


@pytest.fixture(scope="module")
def both(home):
    with connected(home) as both:
        yield both


@pytest.fixture(scope="module")
def client(both):
    return both[0]


@pytest.fixture
def engine(client):
    client.clear(block=True)
    return client[0]


def refused(call):
    """The name and the words of the remote error that `call` ends with."""
    with pytest.raises(ipyparallel.RemoteError) as caught:
        call()
    return caught.value.ename, caught.value.evalue


def test_plain_data_comes_back_as_it_was(engine):
    values = {
        "whole": -5,
        "large": 2**64 - 1,
        "larger": -(2**100),
        "yes": True,
        "half": 0.5,
        "text": "héllo",
        "raw": b"\x00\xff",
        "long_raw": b"z" * 5000,
        "nothing": None,
        "empty": [],
        "numbers": [3, 1, 2],
        "some": [1, None],
        "words": ["a", ""],
        "rows": [[1, 2], []],
        "pair": (1, "a", [2.0]),
        "table": {"b": [1], "a": []},
    }
    engine.push(values, block=True)
    names = list(values)
    pulled = engine.pull(names, block=True)
    assert pulled == list(values.values())
    assert [type(value) for value in pulled] == [type(value) for value in values.values()]


def test_rust_sees_typed_variables(engine):
    engine.push({"n": 7, "xs": [1.5, 2], "names": {"a": "x"}, "maybe": [None, 4]}, block=True)
    engine["raw"] = b"ab"
    code = """
        let n: i64 = n;
        let xs: Vec<f64> = xs;
        let names: std::collections::BTreeMap<String, String> = names;
        let maybe: Vec<Option<i64>> = maybe;
        let raw: Vec<u8> = raw;
        n + maybe.iter().flatten().sum::<i64>() + xs.len() as i64 + names["a"].len() as i64 + raw.len() as i64
    """
    result = engine.execute(code, silent=False)
    assert result.wait(WAIT) and result.wait_for_output(WAIT)
    assert result.get().execute_result["data"]["text/plain"] == "16"


def test_arrays_come_back_as_arrays(engine):
    arrays = [
        numpy.arange(5),
        numpy.linspace(0, 1, 2000),
        numpy.zeros(0),
        numpy.arange(6, dtype=numpy.int32).reshape(2, 3),
        numpy.arange(6).reshape(2, 3).T,
        numpy.zeros((0, 3)),
        numpy.array([True, False]),
        numpy.array([250, 5], dtype=numpy.uint8),
        numpy.array([1.5], dtype=numpy.float32),
    ]
    for array in arrays:
        engine["array"] = array
        back = engine["array"]
        assert isinstance(back, numpy.ndarray)
        assert (back.dtype, back.shape) == (array.dtype, array.shape)
        assert numpy.array_equal(back, array)
    engine["mixed"] = {"m": numpy.arange(3)}
    assert numpy.array_equal(engine["mixed"]["m"], numpy.arange(3))
    engine["swapped"] = numpy.arange(3, dtype=">i4")
    assert numpy.array_equal(engine["swapped"], numpy.arange(3))
    engine["single"] = numpy.float32(2.5)
    assert engine["single"] == 2.5


def test_an_array_changed_in_rust_is_an_array(engine):
    engine["a"] = numpy.arange(4.0)
    engine.execute("for x in a.iter_mut() { *x *= 2.0; } a.push(9.0);", block=True)
    assert numpy.array_equal(engine["a"], numpy.array([0.0, 2.0, 4.0, 6.0, 9.0]))


def test_what_rust_has_made_is_pythons_nearest(engine):
    code = """
        #[derive(serde::Serialize, serde::Deserialize)]
        enum Shape { Dot, Circle { r: f64 } }
        let xs = vec![1.5f64, 2.5];
        let raw = vec![1u8, 2];
        let pair = (1i8, "a".to_owned());
        let shapes = vec![Shape::Dot, Shape::Circle { r: 0.5 }];
    """
    engine.execute(code, block=True)
    assert engine["xs"] == [1.5, 2.5]
    assert engine["raw"] == b"\x01\x02"
    assert engine["pair"] == (1, "a")
    assert engine["shapes"] == ["Dot", {"Circle": {"r": 0.5}}]


@pytest.fixture(params=["ours", "stock"])
def anywhere(request, home):
    """A client of our controller, or of ipyparallel's."""
    if request.param == "ours":
        yield request.getfixturevalue("client")
    else:
        with connected(home, STOCK) as (client, _):
            yield client


def test_scatter_compute_and_gather(anywhere):
    client = anywhere
    view = client[:]
    numbers = numpy.arange(1_000_000)
    view.scatter("a", numbers, block=True)
    view.execute("let s: i64 = a.iter().sum();", block=True)
    assert sum(view["s"]) == numbers.sum()
    gathered = view.gather("a", block=True)
    assert gathered.dtype == numbers.dtype and numpy.array_equal(gathered, numbers)
    waiting = view.scatter("b", range(2), block=False)
    waiting.get(WAIT)
    assert view.gather("b", block=False).get(WAIT) == [0, 1]
    view.update({"c": 5})
    assert view.get("c") == [5] * N
    assert view.use_pickle().get(WAIT) == [None] * N
    broadcast = client.broadcast_view()
    broadcast.push({"d": [1, 2]}, block=True)
    assert broadcast.pull("d", block=True) == [[1, 2]] * N


def test_a_hundred_megabytes_travel(engine):
    numbers = numpy.arange(13_000_000, dtype=numpy.float64)
    engine.push({"numbers": numbers}, block=True)
    assert numpy.array_equal(engine.pull("numbers", block=True), numbers)


def test_a_rust_client_and_a_python_client_share_variables(kernel):
    assert kernel.run("%cluster start -n 2").error is None
    file = re.search(r"connection file (\S+\.json)", kernel.run("%cluster status").shown).group(1)
    client = ipyparallel.Client(file, timeout=20)
    try:
        client.wait_for_engines(2, timeout=WAIT, interactive=False)
        client[:].scatter("a", numpy.arange(9), block=True)
        cell = kernel.run('Client::connect()?.direct_view(..).gather::<i64>("a").get()?')
        assert cell.text.strip() == "[0, 1, 2, 3, 4, 5, 6, 7, 8]"
        cell = kernel.run('Client::connect()?.direct_view(..).push("from_rust", &vec![0.5f64, 1.5]).get()?;')
        assert cell.error is None
        assert client[:]["from_rust"] == [[0.5, 1.5]] * 2
        # The notebook learns of variables that others have made when one of its cells runs there.
        assert kernel.run("%%px\n()").error is None
        cell = kernel.run("%%px\na.iter().sum::<i64>()")
        assert cell.error is None and ": 10" in cell.shown and ": 26" in cell.shown
    finally:
        client.close()


def test_a_name_that_is_not_there_is_a_name_error(engine):
    assert refused(lambda: engine["nowhere"]) == ("NameError", "name 'nowhere' is not defined")
    engine["here"] = "x"
    engine.execute("drop(here);", block=True)
    ename, evalue = refused(lambda: engine["here"])
    assert ename == "NameError" and "'here'" in evalue and "moved" in evalue
    with pytest.raises(ipyparallel.CompositeError):
        engine.client[:]["nowhere"]


def test_what_rust_has_no_type_for_says_so(engine):
    engine["kept"] = 1
    for value, words in [
        ([1, "a"], "a list of i64 and String"),
        ({"a": 1, "b": "x"}, "a dictionary of i64 and String"),
        ({1, 2}, "a set"),
        (2 + 3j, "a complex number"),
        (2**200, "more than 128 bits"),
        (numpy.array(["a"]), ".tolist()"),
        (numpy.array([1j]), "<c16"),
        (ipyparallel.Reference("kept"), "a Reference"),
        (pytest.raises, "a Python function"),
    ]:
        ename, evalue = refused(lambda value=value: engine.push({"kept": value}, block=True))
        assert ename == "TypeError" and "`kept`" in evalue and words in evalue
    assert engine["kept"] == 1


def test_names_that_rust_cannot_have_are_refused(engine):
    engine["v"] = [1]
    for call in (
        lambda: engine["v[0]"],
        lambda: engine.push({"type": 1}, block=True),
        lambda: engine.push({"a.b": 1}, block=True),
    ):
        ename, evalue = refused(call)
        assert ename == "SyntaxError" and "no name of a Rust variable" in evalue
    engine.execute("const LIMIT: i64 = 3;", block=True)
    ename, evalue = refused(lambda: engine.push({"LIMIT": 4}, block=True))
    assert ename == "NameError" and "`LIMIT` is an item" in evalue


def test_a_type_that_serde_does_not_know_is_named(engine):
    engine.execute("struct Plain(u8); let plain = Plain(1);", block=True)
    ename, evalue = refused(lambda: engine["plain"])
    assert ename == "NotSerializable" and "`plain`, a `Plain`" in evalue and "Serialize" in evalue
    assert "unit_" not in evalue


def test_other_python_functions_stay_refused(engine):
    ename, evalue = refused(lambda: engine.apply_sync(sorted, [2, 1]))
    assert ename == "UnsupportedOperation" and "`builtins.sorted`" in evalue
    ename, evalue = refused(lambda: engine.apply_sync(lambda: 1))
    assert ename == "UnsupportedOperation" and "push" in evalue
