//! `after` and `follow` of a task: sets of earlier tasks, with ipyparallel's meaning of `all`,
//! `success` and `failure`.

use std::collections::BTreeSet;

use serde::Deserialize;

/// What became of an earlier task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Open,
    Succeeded,
    Failed,
}

/// Earlier tasks that have to end first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Dependency {
    pub(crate) ids: BTreeSet<String>,
    pub(crate) all: bool,
    pub(crate) success: bool,
    pub(crate) failure: bool,
}

/// The forms a dependency has on the wire.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Spec {
    One(String),
    Many(Vec<String>),
    Full {
        #[serde(default)]
        dependencies: Vec<String>,
        #[serde(default = "yes")]
        all: bool,
        #[serde(default = "yes")]
        success: bool,
        #[serde(default)]
        failure: bool,
    },
}

fn yes() -> bool {
    true
}

impl Dependency {
    /// Reads a dependency; an error if it could be met by nothing.
    pub(crate) fn read(spec: Option<Spec>) -> Result<Self, String> {
        let (ids, all, success, failure) = match spec {
            None => (Vec::new(), true, true, false),
            Some(Spec::One(id)) => (vec![id], true, true, false),
            Some(Spec::Many(ids)) => (ids, true, true, false),
            Some(Spec::Full { dependencies, all, success, failure }) => {
                (dependencies, all, success, failure)
            }
        };
        if !success && !failure {
            return Err("must depend on at least one of successes or failures".to_owned());
        }
        Ok(Self { ids: ids.into_iter().collect(), all, success, failure })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Whether the dependency is met, given what became of each of its tasks.
    pub(crate) fn is_met(&self, fate: impl Fn(&str) -> Fate) -> bool {
        self.is_empty() || self.quantify(|id| self.counts(fate(id)))
    }

    /// Whether the dependency can never be met any more.
    pub(crate) fn is_unreachable(&self, fate: impl Fn(&str) -> Fate) -> bool {
        let hopeless = |id: &str| fate(id) != Fate::Open && !self.counts(fate(id));
        let mut ids = self.ids.iter();
        match () {
            () if self.is_empty() => false,
            () if self.all => ids.any(|id| hopeless(id)),
            () => ids.all(|id| hopeless(id)),
        }
    }

    /// Whether a task that ended like this counts for the dependency.
    pub(crate) fn counts(&self, fate: Fate) -> bool {
        match fate {
            Fate::Open => false,
            Fate::Succeeded => self.success,
            Fate::Failed => self.failure,
        }
    }

    /// `all` or `any` of the tasks, as the dependency says.
    pub(crate) fn quantify(&self, test: impl Fn(&str) -> bool) -> bool {
        let mut ids = self.ids.iter();
        if self.all { ids.all(|id| test(id)) } else { ids.any(|id| test(id)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Dependency {
        Dependency::read(Some(serde_json::from_str(text).unwrap())).unwrap()
    }

    fn fate(id: &str) -> Fate {
        match id.as_bytes()[0] {
            b's' => Fate::Succeeded,
            b'f' => Fate::Failed,
            _ => Fate::Open,
        }
    }

    #[track_caller]
    fn check(text: &str, met: bool, unreachable: bool) {
        let dependency = read(text);
        assert_eq!((dependency.is_met(fate), dependency.is_unreachable(fate)), (met, unreachable));
    }

    #[test]
    fn dependencies_are_met_and_lost_as_in_ipyparallel() {
        check("[]", true, false);
        check(r#"["s1", "s2"]"#, true, false);
        check(r#"["s1", "o1"]"#, false, false);
        check(r#"["o1", "f1"]"#, false, true);
        check(r#"{"dependencies": ["o1", "f1"], "all": false}"#, false, false);
        check(r#"{"dependencies": ["f2", "f1"], "all": false}"#, false, true);
        check(r#"{"dependencies": ["o1", "f1"], "all": false, "failure": true}"#, true, false);
        check(r#"{"dependencies": ["s1"], "success": false, "failure": true}"#, false, true);
        check(r#""s1""#, true, false);
    }

    #[test]
    fn a_dependency_on_nothing_is_refused() {
        let spec = serde_json::from_str(r#"{"dependencies": ["a"], "success": false}"#).unwrap();
        assert!(Dependency::read(Some(spec)).is_err());
    }
}
