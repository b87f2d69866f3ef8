//! Types of crates behind a facade. rustc writes `facade::inner::T` where `facade` gives `inner`
//! under another name, and no path in the text of the type can be written. A path that begins at
//! the crate itself can, where cells are given that crate.

use super::namespace::CrateSet;

/// The ways to write a type that names crates of the set on its paths, each path begun at one of
/// them: `a::inner::T` is `::inner::T`. Where a path has several such names, the first one is tried
/// first. None of them has to be a type: rustc is asked.
pub fn spellings(type_text: &str, set: &CrateSet) -> Vec<String> {
    let first = begun(type_text, |path| crates(path, set).next());
    let last = begun(type_text, |path| crates(path, set).last());
    let mut spellings = vec![first, last];
    spellings.dedup();
    spellings.retain(|spelling| spelling != type_text);
    spellings
}

/// The text with each path that begins at a crate behind others written so that it is no other's.
pub fn rooted(text: &str, set: &CrateSet) -> String {
    begun(text, |path| crates(path, set).next().filter(|at| *at == 0))
}

/// The crates of the set that paths of a spelled type begin at.
pub fn roots<'a>(type_text: &str, set: &'a CrateSet) -> Vec<&'a String> {
    let starts = paths(type_text).filter_map(|(_, path)| path.strip_prefix("::"));
    let starts: Vec<&str> = starts.filter_map(|path| path.split("::").next()).collect();
    let all = set.inner.iter().chain(&set.crates);
    all.filter(|name| starts.contains(&name.as_str())).collect()
}

/// The crates of the set that paths in rustc's text of a type begin at.
pub fn beginnings<'a>(type_text: &str, set: &'a CrateSet) -> Vec<&'a String> {
    let starts: Vec<&str> =
        paths(type_text).filter_map(|(_, path)| path.split("::").next()).collect();
    let all = set.inner.iter().chain(&set.crates);
    all.filter(|name| starts.contains(&name.as_str())).collect()
}

/// The crates of the set that paths in rustc's text of a type lead through.
pub fn within<'a>(type_text: &str, set: &'a CrateSet) -> Vec<&'a String> {
    let spelled = spellings(type_text, set);
    let mut names: Vec<&String> = spelled.iter().flat_map(|text| roots(text, set)).collect();
    names.dedup();
    names
}

/// Whether rustc's text of a type has a path that begins at a crate that no cell can name.
pub fn begins_inside(type_text: &str, set: &CrateSet) -> bool {
    paths(type_text).any(|(_, path)| crates(path, set).next() == Some(0))
}

/// Writes each path anew that `at` finds a beginning in.
fn begun(type_text: &str, at: impl Fn(&str) -> Option<usize>) -> String {
    let mut text = String::new();
    let mut done = 0;
    for (start, path) in paths(type_text) {
        if let Some(at) = at(path) {
            text.push_str(&type_text[done..start]);
            text.push_str("::");
            text.push_str(&path[at..]);
            done = start + path.len();
        }
    }
    text + &type_text[done..]
}

/// Where the names of crates begin that a path leads through; not at its beginning, where cells can
/// name it.
fn crates(path: &str, set: &CrateSet) -> impl Iterator<Item = usize> {
    let mut at = 0;
    let segments: Vec<&str> = path.split("::").collect();
    let n_before = if segments[0].is_empty() { 0 } else { segments.len() - 1 };
    let starts = segments.into_iter().take(n_before).filter_map(move |segment| {
        let start = at;
        at += segment.len() + "::".len();
        let within = if start == 0 { [].as_slice() } else { &set.crates };
        set.inner.iter().chain(within).any(|name| name == segment).then_some(start)
    });
    starts.collect::<Vec<_>>().into_iter()
}

/// The paths in a type, and where they stand.
fn paths(type_text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_path = |letter: char| letter.is_alphanumeric() || "_:#".contains(letter);
    let mut at = 0;
    type_text.split_inclusive(move |letter| !is_path(letter)).filter_map(move |piece| {
        let start = at;
        at += piece.len();
        let path = piece.trim_end_matches(|letter| !is_path(letter));
        path.contains("::").then_some((start, path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> CrateSet {
        let inner = ["chan", "log", "serde_core"].map(str::to_owned).into();
        CrateSet {
            crates: vec!["facade".to_owned(), "plain".to_owned()],
            inner,
            ..CrateSet::default()
        }
    }

    #[test]
    fn paths_begin_at_the_crate_behind_the_facade() {
        let one = |text: &str| spellings(text, &set()).join(" or ");
        assert_eq!(
            one("(i32, std::vec::Vec<facade::chan::Sender<facade::deep::log::Level>>)"),
            "(i32, std::vec::Vec<::chan::Sender<::log::Level>>)"
        );
        assert_eq!(one("chan::Sender<i32>"), "::chan::Sender<i32>");
        assert_eq!(one("facade::chan::log::Level"), "::chan::log::Level or ::log::Level");
        assert_eq!(one("facade::plain::T"), "::plain::T");
        for plain in
            ["facade::T", "facade::channel::Sender<'static>", "::chan::Sender", "std::log", "chan"]
        {
            assert_eq!(one(plain), "");
        }
        assert_eq!(one("<T as a::log::B>::C"), "<T as ::log::B>::C");
    }

    #[test]
    fn a_spelled_type_says_which_crates_it_needs() {
        assert_eq!(roots("Vec<::chan::S<a::log::L, ::plain::T>>", &set()), ["chan", "plain"]);
        assert_eq!(
            beginnings("Vec<chan::S<facade::log::L, ::plain::T>>", &set()),
            ["chan", "facade"]
        );
        assert_eq!(within("(u8, facade::chan::log::Level)", &set()), ["chan", "log"]);
        assert_eq!(
            rooted("f as fn(chan::S, a::log::L) -> facade::T", &set()),
            "f as fn(::chan::S, a::log::L) -> facade::T"
        );
        assert!(begins_inside("(u8, chan::Sender<u8>)", &set()));
        assert!(!begins_inside("(u8, facade::chan::Sender<u8>, ::chan::Sender)", &set()));
    }
}
