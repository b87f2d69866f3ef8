//! How a map's items become tasks. Pure arithmetic.

use std::ops::Range;

/// Tasks per engine that an adaptive map aims at: the first chunks are this part of an engine's
/// share.
const SHARE_PARTS: u64 = 3;
/// Chunks stop shrinking at this part of an engine's share, so that a million items are not a
/// million tasks.
const SMALLEST_PARTS: u64 = 64;

/// One chunk per engine, in order, as even as can be; engines that would get nothing are left out
/// unless `keep_empty`.
pub(super) fn partition(n: u64, n_engines: u64, keep_empty: bool) -> Vec<Range<u64>> {
    let (size, larger) = (n / n_engines, n % n_engines);
    let mut start = 0;
    (0..n_engines)
        .map(|idx| {
            let end = start + size + u64::from(idx < larger);
            let chunk = start..end;
            start = end;
            chunk
        })
        .filter(|chunk| keep_empty || !chunk.is_empty())
        .collect()
}

/// Chunks of `size` items.
pub(super) fn fixed(n: u64, size: u64) -> Vec<Range<u64>> {
    let size = size.max(1);
    let ends = (1..=n.div_ceil(size)).map(|idx| (idx * size).min(n));
    ends.scan(0, |start, end| Some(std::mem::replace(start, end)..end)).collect()
}

/// Large chunks first, small ones last: each a part of what is left per engine.
pub(super) fn adaptive(n: u64, n_engines: u64) -> Vec<Range<u64>> {
    let n_engines = n_engines.max(1);
    let smallest = (n / (n_engines * SMALLEST_PARTS)).max(1);
    let mut chunks = Vec::new();
    let mut start = 0;
    while start < n {
        let size = ((n - start) / (n_engines * SHARE_PARTS)).max(smallest).min(n - start);
        chunks.push(start..start + size);
        start += size;
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(chunks: &[Range<u64>]) -> Vec<u64> {
        let mut next = 0;
        for chunk in chunks {
            assert_eq!(chunk.start, next, "chunks follow one another");
            next = chunk.end;
        }
        chunks.iter().map(|chunk| chunk.end - chunk.start).collect()
    }

    #[test]
    fn a_partition_is_even_and_in_order() {
        assert_eq!(sizes(&partition(10, 4, false)), [3, 3, 2, 2]);
        assert_eq!(sizes(&partition(2, 4, false)), [1, 1]);
        assert_eq!(sizes(&partition(2, 4, true)), [1, 1, 0, 0]);
        assert_eq!(sizes(&partition(0, 4, false)), [] as [u64; 0]);
    }

    #[test]
    fn an_explicit_size_is_kept() {
        assert_eq!(sizes(&fixed(7, 3)), [3, 3, 1]);
        assert_eq!(fixed(1000, 1).len(), 1000);
        assert_eq!(sizes(&fixed(2, 100)), [2]);
    }

    #[test]
    fn adaptive_chunks_shrink_and_stay_few() {
        let large = sizes(&adaptive(2_000_000, 4));
        assert!(large.is_sorted_by(|a, b| a >= b || *b == large[large.len() - 1]));
        assert!(large.len() < 120, "{} chunks", large.len());
        assert!(large[0] > 20 * large[large.len() - 1]);
        assert_eq!(large.iter().sum::<u64>(), 2_000_000);
        assert_eq!(sizes(&adaptive(5, 4)), [1; 5]);
        assert_eq!(sizes(&adaptive(0, 4)), [] as [u64; 0]);
        assert_eq!(sizes(&adaptive(3, 0)), [1, 1, 1]);
    }
}
