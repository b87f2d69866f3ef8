//! The crate around a cell's items: a library that later cells link.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::{CratePlan, head, new_imports, scope};
use crate::cell::map::Source;
use crate::cell::namespace::{Namespace, Unit, hex};
use crate::cell::split::Split;

/// The unit for the cell's items; `None` when it has none.
pub fn unit(namespace: &Namespace, cell: &str, split: &Split) -> Option<CratePlan> {
    if split.items.is_empty() {
        return None;
    }
    let names = split.items.iter().flat_map(|item| item.mentions.iter().cloned()).collect();
    let defined: BTreeSet<String> =
        split.items.iter().filter_map(|item| Some(item.provides.as_ref()?.name.clone())).collect();
    let scope = scope(namespace, &new_imports(split), names, &defined);
    let mut source = Source::default();
    head(namespace, cell, split, &mut source);
    source.ours(&scope.text);
    for (range, _) in &split.imports {
        source.user(cell, range.clone()).ours("\n");
    }
    for item in &split.items {
        source.user_edited(cell, item.range.clone(), &item.edits).ours("\n");
    }
    Some(CratePlan { source, units: scope.units, api: scope.api })
}

/// The namespace's record of a compiled unit. Its name is a hash of all that went into it.
pub fn record(
    namespace: &Namespace,
    cell: &str,
    label: &str,
    split: &Split,
    plan: &CratePlan,
) -> Unit {
    let mut digest = Sha256::new();
    digest.update(plan.source.text.as_bytes());
    digest.update(plan.units.join(",").as_bytes());
    digest.update(namespace.set.as_deref().unwrap_or_default().as_bytes());
    let mut needs: BTreeSet<String> = plan.units.iter().cloned().collect();
    for unit in plan.units.iter().filter_map(|name| namespace.unit(name)) {
        needs.extend(unit.needs.iter().cloned());
    }
    Unit {
        name: format!("unit_{}", hex(&digest.finalize()[..12])),
        provides: split.items.iter().filter_map(|item| item.provides.clone()).collect(),
        needs: needs.into_iter().collect(),
        implicit: split.items.iter().any(|item| item.implicit),
        cell: label.to_owned(),
        text: cell.to_owned(),
        generated: plan.source.text.clone(),
        map: plan.source.map.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::Delta;

    #[test]
    fn a_unit_imports_only_what_it_mentions() {
        let first = "struct A;";
        let split = Split::read(first);
        let mut namespace = Namespace::default();
        let plan = unit(&namespace, first, &split).expect("it has an item");
        let record = record(&namespace, first, "In[1]", &split, &plan);
        let name = record.name.clone();
        namespace.apply(&Delta { units: vec![record], ..Delta::default() });
        let second = unit(&namespace, "fn f(_: A) {}", &Split::read("fn f(_: A) {}"));
        assert_eq!(second.expect("it has an item").units, [name]);
        let third = unit(&namespace, "fn g() {}", &Split::read("fn g() {}"));
        assert!(third.expect("it has an item").units.is_empty());
    }
}
