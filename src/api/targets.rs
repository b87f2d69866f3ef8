//! Which engines a view means. A view is only a wish: it is resolved against the live engines when
//! work is submitted, so making one never fails.

use crate::EngineId;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Range, RangeFrom, RangeFull, RangeInclusive, RangeTo};

/// Engines by wish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Targets {
    All,
    /// Engine ids; a negative one counts from the end of the live ids.
    Ids(Vec<i64>),
    /// A slice of the list of live ids, as in Python.
    Slice {
        start: Option<i64>,
        stop: Option<i64>,
        step: i64,
    },
    /// A text that names no engines; the reason in words.
    Unreadable(String),
}

/// A target that is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TargetError {
    NoEngines,
    Unknown { id: i64, live: Vec<EngineId> },
    Nothing { wanted: String, live: Vec<EngineId> },
    Unreadable(String),
}

impl fmt::Display for TargetError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEngines => formatter.write_str("no engines are registered"),
            Self::Unknown { id, live } => {
                write!(formatter, "no engine {id}; live engines: {}", list(live))
            }
            Self::Nothing { wanted, live } => {
                write!(formatter, "{wanted} names no engine; live engines: {}", list(live))
            }
            Self::Unreadable(reason) => formatter.write_str(reason),
        }
    }
}

fn list(ids: &[EngineId]) -> String {
    if ids.is_empty() {
        return "none".to_owned();
    }
    ids.iter().map(EngineId::to_string).collect::<Vec<_>>().join(", ")
}

impl Targets {
    /// Reads `all`, `0`, `-1`, `0,2`, `0:3`, `::2`, each as `%%px --targets` takes it.
    pub fn read(text: &str) -> Self {
        let plain = text.trim().trim_start_matches('[').trim_end_matches(']').trim();
        if plain.eq_ignore_ascii_case("all") || plain == ".." {
            return Self::All;
        }
        let unreadable = || {
            Self::Unreadable(format!(
                "targets {text:?} are not understood; write all, 0, 0,2, 0:3 or ::2"
            ))
        };
        let number = |part: &str| part.trim().parse::<i64>().ok();
        if plain.contains(':') {
            let parts: Vec<&str> = plain.split(':').collect();
            let bound = |idx: usize| match parts.get(idx).map_or("", |part| part.trim()) {
                "" => Some(None),
                part => number(part).map(Some),
            };
            return match (parts.len(), bound(0), bound(1), bound(2)) {
                (2..=3, Some(start), Some(stop), Some(step)) if step != Some(0) => {
                    Self::Slice { start, stop, step: step.unwrap_or(1) }
                }
                _ => unreadable(),
            };
        }
        match plain.split(',').map(number).collect::<Option<Vec<_>>>() {
            Some(ids) => Self::Ids(ids),
            None => unreadable(),
        }
    }

    /// The engines meant, in the order asked for and each once. `live` is in ascending order.
    ///
    /// # Errors
    /// An id that is not live, or nothing meant at all.
    pub fn resolve(&self, live: &[EngineId]) -> Result<Vec<EngineId>, TargetError> {
        if let Self::Unreadable(reason) = self {
            return Err(TargetError::Unreadable(reason.clone()));
        }
        if live.is_empty() {
            return Err(TargetError::NoEngines);
        }
        let mut found: Vec<EngineId> = Vec::new();
        match self {
            Self::All | Self::Unreadable(_) => found.extend(live),
            Self::Ids(ids) => {
                for id in ids {
                    let engine = pick(*id, live)
                        .ok_or_else(|| TargetError::Unknown { id: *id, live: live.to_vec() })?;
                    if !found.contains(&engine) {
                        found.push(engine);
                    }
                }
            }
            Self::Slice { start, stop, step } => found.extend(slice(live, *start, *stop, *step)),
        }
        if found.is_empty() {
            return Err(TargetError::Nothing { wanted: self.to_string(), live: live.to_vec() });
        }
        Ok(found)
    }
}

impl fmt::Display for Targets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bound = |value: &Option<i64>| value.map_or(String::new(), |value| value.to_string());
        match self {
            Self::All => formatter.write_str("all"),
            Self::Ids(ids) => write!(formatter, "{ids:?}"),
            Self::Slice { start, stop, step: 1 } => {
                write!(formatter, "{}:{}", bound(start), bound(stop))
            }
            Self::Slice { start, stop, step } => {
                write!(formatter, "{}:{}:{step}", bound(start), bound(stop))
            }
            Self::Unreadable(reason) => formatter.write_str(reason),
        }
    }
}

fn pick(id: i64, live: &[EngineId]) -> Option<EngineId> {
    if id < 0 {
        let back = usize::try_from(id.unsigned_abs()).ok()?;
        return live.len().checked_sub(back).map(|idx| live[idx]);
    }
    live.iter().copied().find(|engine| i64::from(*engine) == id)
}

/// Python's `live[start:stop:step]`.
fn slice(live: &[EngineId], start: Option<i64>, stop: Option<i64>, step: i64) -> Vec<EngineId> {
    let n = live.len() as i64;
    let (low, high) = if step > 0 { (0, n) } else { (-1, n - 1) };
    let bound = |value: Option<i64>, otherwise: i64| match value {
        None => otherwise,
        Some(value) if value < 0 => value.saturating_add(n).clamp(low, high),
        Some(value) => value.clamp(low, high),
    };
    let (mut idx, end) = if step > 0 {
        (bound(start, 0), bound(stop, n))
    } else {
        (bound(start, n - 1), bound(stop, -1))
    };
    let mut out = Vec::new();
    while (step > 0 && idx < end) || (step < 0 && idx > end) {
        out.push(live[idx as usize]);
        idx = idx.saturating_add(step);
    }
    out
}

/// What `direct_view` and `targets` take: `..`, `0`, `[0, 2]`, `0..3`, `(..).step_by(2)`, `"::2"`,
/// `"all"`.
pub trait IntoTargets {
    fn into_targets(self) -> Targets;
}

impl IntoTargets for Targets {
    fn into_targets(self) -> Targets {
        self
    }
}

impl IntoTargets for &Targets {
    fn into_targets(self) -> Targets {
        self.clone()
    }
}

impl IntoTargets for RangeFull {
    fn into_targets(self) -> Targets {
        Targets::All
    }
}

impl IntoTargets for &str {
    fn into_targets(self) -> Targets {
        Targets::read(self)
    }
}

impl IntoTargets for String {
    fn into_targets(self) -> Targets {
        Targets::read(&self)
    }
}

fn cut(start: Option<i64>, stop: Option<i64>) -> Targets {
    Targets::Slice { start, stop, step: 1 }
}

macro_rules! numbers {
    ($($type:ty),*) => {
        $(impl IntoTargets for $type {
            fn into_targets(self) -> Targets {
                Targets::Ids(vec![self as i64])
            }
        }

        impl<const N: usize> IntoTargets for [$type; N] {
            fn into_targets(self) -> Targets {
                Targets::Ids(self.iter().map(|id| *id as i64).collect())
            }
        }

        impl IntoTargets for &[$type] {
            fn into_targets(self) -> Targets {
                Targets::Ids(self.iter().map(|id| *id as i64).collect())
            }
        }

        impl IntoTargets for Vec<$type> {
            fn into_targets(self) -> Targets {
                self.as_slice().into_targets()
            }
        }

        impl IntoTargets for &Vec<$type> {
            fn into_targets(self) -> Targets {
                self.as_slice().into_targets()
            }
        }

        impl IntoTargets for Range<$type> {
            fn into_targets(self) -> Targets {
                cut(Some(self.start as i64), Some(self.end as i64))
            }
        }

        impl IntoTargets for RangeInclusive<$type> {
            fn into_targets(self) -> Targets {
                cut(Some(*self.start() as i64), Some(*self.end() as i64 + 1))
            }
        }

        impl IntoTargets for RangeFrom<$type> {
            fn into_targets(self) -> Targets {
                cut(Some(self.start as i64), None)
            }
        }

        impl IntoTargets for RangeTo<$type> {
            fn into_targets(self) -> Targets {
                cut(None, Some(self.end as i64))
            }
        })*
    };
}

numbers!(i32, u32, i64, u64, usize);

/// `(..).step_by(2)`: every second engine.
pub trait EveryNth {
    fn step_by(self, step: usize) -> Targets;
}

impl EveryNth for RangeFull {
    fn step_by(self, step: usize) -> Targets {
        match i64::try_from(step) {
            Ok(step) if step > 0 => Targets::Slice { start: None, stop: None, step },
            _ => Targets::Unreadable(format!("a step of {step} names no engines")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(targets: impl IntoTargets, expect: &[EngineId]) {
        assert_eq!(targets.into_targets().resolve(&[0, 1, 3, 4]), Ok(expect.to_vec()));
    }

    #[track_caller]
    fn check_error(targets: impl IntoTargets, expect: &str) {
        let error = targets.into_targets().resolve(&[0, 1, 3, 4]).unwrap_err();
        assert_eq!(error.to_string(), expect);
    }

    #[test]
    fn every_way_to_name_engines_is_understood() {
        check(.., &[0, 1, 3, 4]);
        check("all", &[0, 1, 3, 4]);
        check(0, &[0]);
        check(3u32, &[3]);
        check([4, 0, 4], &[4, 0]);
        check(vec![1u32], &[1]);
        check(0..3, &[0, 1, 3]);
        check(1..=2, &[1, 3]);
        check(2.., &[3, 4]);
        check(..1, &[0]);
        check((..).step_by(2), &[0, 3]);
        check("::2", &[0, 3]);
        check("::-1", &[4, 3, 1, 0]);
        check("1:", &[1, 3, 4]);
        check("-1", &[4]);
        check("-2:", &[3, 4]);
        check("0, 3", &[0, 3]);
        check("[0,1]", &[0, 1]);
    }

    #[test]
    fn what_is_not_there_is_named_with_what_is() {
        check_error(7, "no engine 7; live engines: 0, 1, 3, 4");
        check_error("-5", "no engine -5; live engines: 0, 1, 3, 4");
        check_error(9..12, "9:12 names no engine; live engines: 0, 1, 3, 4");
        check_error(Vec::<u32>::new(), "[] names no engine; live engines: 0, 1, 3, 4");
        check_error("zero", "targets \"zero\" are not understood; write all, 0, 0,2, 0:3 or ::2");
        check_error("::0", "targets \"::0\" are not understood; write all, 0, 0,2, 0:3 or ::2");
        assert_eq!(Targets::All.resolve(&[]), Err(TargetError::NoEngines));
    }
}
