//! Files that hold large values: each is removed when the last submission that needs it lets go.

use super::event::Effect;
use super::state::State;
use super::submission::Submission;
use prust::mapped::Mapped;
use std::collections::HashMap;
use std::path::Path;

/// How many submissions need each file.
#[derive(Debug, Default)]
pub(super) struct Files(HashMap<String, usize>);

impl Files {
    /// Notes that a submission needs these files, each of them once. Files outside of the shared
    /// folder are not ours to remove, whatever an engine says.
    pub(super) fn hold(
        &mut self,
        folder: Option<&str>,
        submission: &mut Submission,
        stretches: &[Mapped],
    ) {
        let is_ours = |path: &str| {
            let path = Path::new(path);
            folder.is_some_and(|folder| path.parent() == Some(Path::new(folder)))
        };
        for stretch in stretches {
            if is_ours(&stretch.path) && !submission.files.contains(&stretch.path) {
                submission.files.push(stretch.path.clone());
                *self.0.entry(stretch.path.clone()).or_default() += 1;
            }
        }
    }

    /// Whether nobody needs it any more.
    fn release(&mut self, path: &str) -> bool {
        let Some(uses) = self.0.get_mut(path) else { return false };
        *uses -= 1;
        let is_last = *uses == 0;
        if is_last {
            self.0.remove(path);
        }
        is_last
    }
}

impl State {
    /// A submission lets go of its files.
    pub(super) fn release(&mut self, paths: Vec<String>) {
        for path in paths {
            if self.files.release(&path) {
                self.effects.push(Effect::Remove { path });
            }
        }
    }
}
