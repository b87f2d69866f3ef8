"""How long cells take in two kernels, sample by sample in turn, so that both meet the same machine."""

import statistics
import time

from harness.kernel import Kernel

SAMPLES = 9

ITEMS = """
#[derive(Debug, Clone, PartialEq)]
pub struct Series{n} {{
    pub values: Vec<f64>,
    pub label: String,
    pub unit: Option<u32>,
}}

impl Series{n} {{
    pub fn ramp(len: usize) -> Self {{
        Series{n} {{ values: (0..len).map(|i| i as f64 / {n}.5).collect(), label: format!("ramp {{len}}"), unit: None }}
    }}
    pub fn mean(&self) -> f64 {{ self.values.iter().sum::<f64>() / self.values.len().max(1) as f64 }}
}}

pub fn histogram{n}(len: usize) -> Result<std::collections::BTreeMap<u64, usize>, std::num::ParseIntError> {{
    let width: u64 = "10".parse()?;
    let mut counts = std::collections::BTreeMap::new();
    for value in Series{n}::ramp(len).values {{ *counts.entry(value as u64 / width).or_insert(0) += 1; }}
    Ok(counts)
}}
"""

# Row -> the cell for sample `n`, and whether it has to succeed. No two samples are the same text.
ROWS = {
    "1+1": (lambda n: f"1 + {n}", True),
    "let": (lambda n: f"let list{n} = vec![{n}, 2, 3];", True),
    "expression over a variable": (lambda n: f"list{n}.iter().sum::<i32>() + {n}", True),
    "fn": (lambda n: f"fn count{n}(top: u64) -> u64 {{ (0..top).filter(|x| x % {n + 2} == 0).count() as u64 }}", True),
    "item cell": (lambda n: ITEMS.format(n=n), True),
    "type error": (lambda n: f'let wrong{n}: i32 = "{n}";', False),
}


def start(name, cwd):
    """Starts a kernel and returns it with the seconds until it was ready."""
    begin = time.perf_counter()
    kernel = Kernel(name, cwd=cwd)
    return kernel, time.perf_counter() - begin


def took(kernel, code, succeeds):
    """Seconds from sending a cell to its reply and idle."""
    begin = time.perf_counter()
    cell = kernel.run(code, stop_on_error=False)
    seconds = time.perf_counter() - begin
    assert (cell.status == "ok") == succeeds, f"{code}\n{cell.error or cell.shown}"
    return seconds


def measure(names, cwd):
    """Kernel name -> row -> median seconds. A kernel that cannot be measured has its reason under the row None."""
    kernels, table = {}, {name: {} for name in names}
    for name in names:
        try:
            kernels[name], table[name]["kernel start"] = start(name, cwd)
            took(kernels[name], "0 + 0", True)
        except Exception as error:
            table[name] = {None: f"{type(error).__name__}: {error}"}
    try:
        for row, (code, succeeds) in ROWS.items():
            samples = {name: [] for name in kernels}
            for n in range(1, SAMPLES + 1):
                for name, kernel in kernels.items():
                    samples[name].append(took(kernel, code(n), succeeds))
            for name, seconds in samples.items():
                table[name][row] = statistics.median(seconds)
    finally:
        for kernel in kernels.values():
            kernel.close()
    return table
