//! Which engine is next: those with room for a task, in the order of the scheme. Every step costs
//! the logarithm of their number.

use std::collections::{BTreeSet, HashMap};

use crate::{EngineId, Scheme};

/// How often a random scheme draws again when an engine does not fit, before it looks at all.
const DRAWS_MAX: usize = 16;

/// What an engine is chosen by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rank {
    /// Tasks in flight.
    pub(crate) load: usize,
    /// Rises with each task given out: the lowest was used longest ago.
    pub(crate) last_used: u64,
}

/// The engines with room for a task.
#[derive(Debug)]
pub(crate) struct Free {
    scheme: Scheme,
    random: Random,
    /// By load (if the scheme goes by it), by last use, by number.
    ordered: BTreeSet<(usize, u64, EngineId)>,
    /// The same engines in no order, to draw from.
    drawn: Vec<EngineId>,
    /// Rank and position in `drawn`; lookups only.
    known: HashMap<EngineId, (Rank, usize)>,
}

impl Free {
    pub(crate) fn new(scheme: Scheme, seed: u64) -> Self {
        Self {
            scheme,
            random: Random::new(seed),
            ordered: BTreeSet::new(),
            drawn: Vec::new(),
            known: HashMap::new(),
        }
    }

    /// Says what an engine is chosen by from now on; `None`: it has no room.
    pub(crate) fn set(&mut self, id: EngineId, rank: Option<Rank>) {
        match (rank, self.known.get(&id).copied()) {
            (Some(rank), Some((before, at))) => {
                if rank != before {
                    self.ordered.remove(&self.entry(id, before));
                    self.ordered.insert(self.entry(id, rank));
                    self.known.insert(id, (rank, at));
                }
            }
            (Some(rank), None) => {
                self.ordered.insert(self.entry(id, rank));
                self.known.insert(id, (rank, self.drawn.len()));
                self.drawn.push(id);
            }
            (None, Some((before, at))) => {
                self.ordered.remove(&self.entry(id, before));
                self.known.remove(&id);
                self.drawn.swap_remove(at);
                if let Some(moved) = self.drawn.get(at) {
                    self.known.get_mut(moved).expect("both lists hold the same").1 = at;
                }
            }
            (None, None) => (),
        }
    }

    /// Chooses among all engines with room that fit.
    pub(crate) fn choose(&mut self, fits: impl Fn(EngineId) -> bool) -> Option<EngineId> {
        match self.scheme {
            Scheme::LeastLoad | Scheme::Lru => {
                self.ordered.iter().map(|(.., id)| *id).find(|id| fits(*id))
            }
            Scheme::PlainRandom => self.draw(&fits, false),
            Scheme::TwoBin => {
                let two = [self.draw(&fits, false)?, self.draw(&fits, false)?];
                two.into_iter().min_by_key(|id| self.known[id].0.last_used)
            }
            Scheme::Weighted => {
                let two = [self.draw(&fits, true)?, self.draw(&fits, true)?];
                two.into_iter().min_by_key(|id| self.known[id].0.load)
            }
        }
    }

    /// Chooses among these engines, as far as they have room.
    pub(crate) fn choose_of(&mut self, ids: impl Iterator<Item = EngineId>) -> Option<EngineId> {
        let ids = ids.filter_map(|id| Some(self.entry(id, self.known.get(&id)?.0)));
        let ordered: BTreeSet<_> = ids.collect();
        if ordered.len() < 2 || matches!(self.scheme, Scheme::LeastLoad | Scheme::Lru) {
            return ordered.first().map(|(.., id)| *id);
        }
        let mut few = Self::new(self.scheme, self.random.next());
        for (.., id) in ordered {
            few.set(id, Some(self.known[&id].0));
        }
        few.choose(|_| true)
    }

    fn entry(&self, id: EngineId, rank: Rank) -> (usize, u64, EngineId) {
        let load = if self.scheme == Scheme::LeastLoad { rank.load } else { 0 };
        (load, rank.last_used, id)
    }

    /// Draws an engine; with weights, one of load 3 is as likely as a fourth of an idle one.
    fn draw(&mut self, fits: &impl Fn(EngineId) -> bool, weighted: bool) -> Option<EngineId> {
        for _ in 0..DRAWS_MAX {
            let id = *self.drawn.get(self.random.below(self.drawn.len()))?;
            let odds = if weighted { self.known[&id].0.load + 1 } else { 1 };
            if fits(id) && self.random.below(odds) == 0 {
                return Some(id);
            }
        }
        let fitting: Vec<_> = self.drawn.iter().copied().filter(|id| fits(*id)).collect();
        fitting.get(self.random.below(fitting.len())).copied()
    }
}

/// xorshift64*: small, seeded, the same everywhere. Nothing that needs secrecy is drawn from it.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `n`; 0 if there is none.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        let drawn = self.next() >> 33;
        usize::try_from(drawn).unwrap_or(0) % n.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(scheme: Scheme, loads: &[usize]) -> Free {
        let mut free = Free::new(scheme, 1);
        for (id, load) in (0..).zip(loads) {
            free.set(id, Some(Rank { load: *load, last_used: 100 - u64::from(id) }));
        }
        free
    }

    fn counts(scheme: Scheme, loads: &[usize]) -> Vec<usize> {
        let mut free = free(scheme, loads);
        let mut counts = vec![0; loads.len()];
        for _ in 0..10_000 {
            counts[free.choose(|_| true).unwrap() as usize] += 1;
        }
        counts
    }

    #[test]
    fn the_least_loaded_engine_is_next_and_of_equals_the_one_used_longest_ago() {
        assert_eq!(free(Scheme::LeastLoad, &[2, 1, 1]).choose(|_| true), Some(2));
        assert_eq!(free(Scheme::LeastLoad, &[2, 1, 1]).choose(|id| id != 2), Some(1));
        assert_eq!(free(Scheme::LeastLoad, &[2, 1, 1]).choose_of([0, 1].into_iter()), Some(1));
        assert_eq!(free(Scheme::Lru, &[0, 0, 9]).choose(|_| true), Some(2));
    }

    #[test]
    fn random_schemes_draw_as_their_names_say() {
        let plain = counts(Scheme::PlainRandom, &[0, 9]);
        assert!(plain.iter().all(|n| (4000..6000).contains(n)), "{plain:?}");
        // The better of two draws: three in four.
        let two = counts(Scheme::TwoBin, &[0, 9]);
        assert!((7000..8000).contains(&two[1]), "{two:?}");
        // An idle engine is drawn 10 of 11 times, and both draws must miss it.
        let weighted = counts(Scheme::Weighted, &[0, 9]);
        assert!((9700..10_000).contains(&weighted[0]), "{weighted:?}");
    }

    #[test]
    fn engines_come_and_go() {
        let mut free = free(Scheme::PlainRandom, &[0, 0, 0]);
        free.set(0, None);
        assert_eq!(free.drawn.len(), 2);
        for _ in 0..100 {
            assert_ne!(free.choose(|_| true), Some(0));
            assert_eq!(free.choose(|id| id == 2), Some(2));
            assert_eq!(free.choose_of([0, 1].into_iter()), Some(1));
        }
        free.set(1, None);
        free.set(2, None);
        assert_eq!(free.choose(|_| true), None);
        assert_eq!(free.choose_of([0, 1, 2].into_iter()), None);
    }
}
