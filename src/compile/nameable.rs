//! Whether later cells can name the types of a cell's variables. A type may be private where it is
//! declared, or belong to a crate that cells cannot name; rustc is asked, once for each type.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use super::cell::{Cell, Compiler, Failed};
use super::leaf::leaf_name;
use super::rustc::CrateType;
use crate::cell::diagnostic::{self, Book};
use crate::cell::facade;
use crate::cell::mir::Types;
use crate::cell::plan::leaf::{self, LeafSlots};
use crate::cell::plan::shape::Shape;
use crate::cell::rustc_json;
use crate::cell::{Namespace, mir};

/// Types known to be nameable; when there are more, all are asked for again.
const NAMEABLE_MAX: usize = 10_000;

impl Compiler {
    /// Numbers of the variables whose types no later cell can name.
    pub(super) async fn unnameable(
        &self,
        namespace: &Namespace,
        cell: Cell<'_>,
        slots: &LeafSlots,
        types: &Types,
        shape: &Shape,
    ) -> Result<BTreeSet<usize>, Failed> {
        let set_key = namespace.set.as_ref().map(|set| set.key.as_str()).unwrap_or_default();
        let known_as = |type_text: &str| format!("{set_key} {type_text}");
        let (inside, asked): (Vec<_>, Vec<(usize, &str)>) = {
            let known = self.shared.nameable.lock().unwrap_or_else(PoisonError::into_inner);
            let texts = types.puts.iter().map(|(number, text)| (*number, text.as_str()));
            let open = texts.filter(|(_, text)| mir::unwritable(text).is_none());
            let open = open.filter(|(_, text)| mir::may_be_private(text));
            // The leaf itself has written these.
            let open = open.filter(|(number, text)| shape.spelling(*number, text).is_none());
            let open = open.filter(|(_, text)| !known.contains(&known_as(text)));
            let set = namespace.set.as_ref();
            open.partition(|(_, text)| set.is_some_and(|set| facade::begins_inside(text, set)))
        };
        let mut refused: BTreeSet<usize> = inside.into_iter().map(|(number, _)| number).collect();
        if asked.is_empty() {
            return Ok(refused);
        }
        let plan = leaf::naming(namespace, slots, &asked);
        let name = leaf_name(namespace, &plan, 0);
        let set = self.set_of(namespace.set.as_ref())?;
        let kind = CrateType::Cdylib;
        let call = self.call(&name, &name, kind, &plan, set.as_deref(), namespace, 0);
        let (ended, _) = self.build(&name, &call, &plan).await?;
        let file = call.source.display().to_string();
        let book = Book { file: &file, label: cell.label, text: cell.text, map: &plan.source.map };
        let messages = rustc_json::read(&ended.stderr);
        let errors = messages.iter().filter(|message| message.level == "error");
        refused.extend(errors.filter_map(|message| diagnostic::slot_of(message, &[book])?.1));
        let mut known = self.shared.nameable.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() > NAMEABLE_MAX {
            known.clear();
        }
        let good = asked.iter().filter(|(number, _)| !refused.contains(number));
        known.extend(good.map(|(_, text)| known_as(text)));
        Ok(refused)
    }
}
