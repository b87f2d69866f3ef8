//! A cell whose statements are timed: `%timeit`.

use super::cell::{Cell, Compiled, Compiler, Failed};
use crate::cell::Namespace;

impl Compiler {
    /// As [`Compiler::cell`], but the statements run `loops` times in each of `repeat`
    /// measurements, and leave no variable. Zero: chosen by the time that one run takes.
    ///
    /// # Errors
    /// [`Failed`]; nothing has changed then.
    pub async fn measured_cell(
        &self,
        namespace: &Namespace,
        cell: Cell<'_>,
        loops: u32,
        repeat: u32,
    ) -> Result<Compiled, Failed> {
        let mut split = self.split(cell);
        split.measure(loops, repeat);
        self.compile(namespace, cell, split, false).await
    }
}
