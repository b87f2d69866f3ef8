//! Which crates sets name, and what changes from one set to the next.

use super::*;

fn set(layers: &[&[&str]]) -> DependencySet {
    let file = |stem: &&str| PathBuf::from(format!("/deps/lib{stem}.rlib"));
    let layer = |held: &&[&str]| Layer {
        holds: held.iter().map(|stem| format!("lib{stem}.rlib")).collect(),
        ..Layer::default()
    };
    let one = |stem: &&str| Crate {
        package: (*stem).to_owned(),
        name: stem.split('-').next().unwrap_or_default().to_owned(),
        file: file(stem),
        proc_macro: false,
        local: false,
    };
    let crates = layers.iter().copied().flatten().map(one).collect();
    let externs = vec![("front".to_owned(), file(&"front-1"))];
    let layers = layers.iter().map(layer).collect();
    DependencySet { layers, crates, externs, ..DependencySet::default() }
}

#[test]
fn a_crate_behind_others_is_known_by_a_name_that_is_its_alone() {
    let inner = |set: &DependencySet| set.inner().map(|(name, _)| name).collect::<Vec<_>>();
    let first = set(&[&["front-1", "chan-1", "twice-1", "twice-2"]]);
    assert_eq!(inner(&first), ["chan"]);
    let later = set(&[&["front-1", "chan-1"], &["chan-2", "twice-1"]]);
    assert_eq!(inner(&later), ["chan", "twice"]);
}

#[test]
fn a_name_that_means_another_crate_is_lost() {
    let first = set(&[&["front-1", "chan-1"]]);
    let mut second = set(&[&["front-1", "chan-1"], &["chan-2"]]);
    second.externs.push(("chan".to_owned(), second.crates[2].file.clone()));
    assert_eq!(first.lost_in(&second), BTreeSet::from(["chan".to_owned()]));
    let mut third = second.clone();
    third.externs[1].1.clone_from(&second.crates[1].file);
    assert_eq!(first.lost_in(&third), BTreeSet::new());
    assert_eq!(second.lost_in(&third), BTreeSet::from(["chan".to_owned()]));
    let text = "0|prust-notebook v0.0.0 (/n)|\n1|front v1.0.0|\n2|chan v1.0.0|\n\
        1|chan v2.0.0|";
    let wanted = Table::from_iter([("chan".to_owned(), toml::Value::from("2"))]);
    let told = Some(Progress::Changes(BTreeSet::from(["chan".to_owned()])));
    assert_eq!(first.changes(&wanted, &Graph::read(text)), told);
    assert_eq!(first.changes(&Table::new(), &Graph::read(text)), None);
}
