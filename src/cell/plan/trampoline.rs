//! A crate of one function: a helper of the `prust` crate for one type, so that a worker can be
//! asked for what no client has compiled. It names no variable and serves all of its type.

use std::collections::BTreeSet;

use super::leaf::{ENTRY, roots};
use super::{CratePlan, QUIET, libraries, scope};
use crate::cell::facade;
use crate::cell::map::Source;
use crate::cell::mentions::mentions_of_text;
use crate::cell::namespace::Namespace;

/// What the function does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Makes a variable of encoded bytes.
    Push,
    /// Gives a variable in plain data.
    Pull,
}

/// The crate whose function [`ENTRY`] goes that way with a type of this namespace.
pub fn trampoline(namespace: &Namespace, way: Way, type_text: &str) -> CratePlan {
    let mut names = mentions_of_text(type_text);
    let named_units = names.iter().filter(|name| namespace.items.unit(name).is_some()).cloned();
    let named_units: Vec<String> = named_units.collect();
    names.insert("prust".to_owned());
    let mut scope = scope(namespace, &[], names);
    let mut inner = BTreeSet::new();
    if let Some(set) = &namespace.set {
        inner.extend(facade::roots(type_text, set).into_iter().cloned());
        if !inner.is_empty() && !scope.set {
            scope.text.push_str(&libraries(set));
            scope.set = true;
        }
    }
    let helper = match way {
        Way::Push => "push",
        Way::Pull => "pull_plain",
    };
    let mut source = Source::default();
    source.ours(QUIET).ours(&roots(namespace)).ours(&scope.text).ours(&format!(
        "#[unsafe(no_mangle)]\npub fn {ENTRY}(payload: &[u8]) -> ::core::result::Result<\
         ::std::vec::Vec<u8>, ::prust_runtime::frame::Failure> {{\n\
         ::prust::{helper}::<{type_text}>(payload)\n}}\n"
    ));
    let units: BTreeSet<String> = scope.units.into_iter().chain(named_units).collect();
    let units = units.into_iter().collect();
    CratePlan { source, units, api: scope.api, set: scope.set, inner }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trampoline_names_its_type_and_no_variable() {
        let plan = trampoline(&Namespace::default(), Way::Pull, "std::vec::Vec<i64>");
        assert!(plan.api && !plan.set && plan.units.is_empty());
        let call = "::prust::pull_plain::<std::vec::Vec<i64>>(payload)";
        assert!(plan.source.text.contains(call), "{}", plan.source.text);
    }
}
