//! Everyday types of the standard library as people write them. The compiler is asked for full
//! paths, because later cells write the types of variables; nobody wants to read those.

/// Types that everybody knows by their last name, and modules they are in.
const TYPES: [(&str, &[&str]); 10] = [
    ("result", &["Result"]),
    ("option", &["Option"]),
    ("string", &["String"]),
    ("vec", &["Vec"]),
    ("boxed", &["Box"]),
    ("rc", &["Rc"]),
    ("sync", &["Arc", "Mutex", "RwLock"]),
    ("cell", &["RefCell", "Cell"]),
    ("collections", &["HashMap", "HashSet", "BTreeMap", "BTreeSet", "VecDeque", "BinaryHeap"]),
    ("pin", &["Pin"]),
];

/// `std::vec::Vec<std::string::String>` reads `Vec<String>`.
pub(super) fn everyday(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("std::") {
        let (before, found) = rest.split_at(at);
        out.push_str(before);
        let path = &found["std::".len()..];
        let inside = out.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
        match (inside, known(path)) {
            (false, Some(skipped)) => rest = &path[skipped..],
            _ => {
                out.push_str("std::");
                rest = path;
            }
        }
    }
    out.push_str(rest);
    out
}

/// How much of `vec::Vec<..` is not the name.
fn known(path: &str) -> Option<usize> {
    let (module, rest) = path.split_once("::")?;
    let (_, names) = TYPES.iter().find(|(known, _)| *known == module)?;
    let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
    names.contains(&&rest[..end]).then_some(module.len() + "::".len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyday_types_lose_their_paths_and_others_keep_them() {
        let check = |text: &str, read: &str| assert_eq!(everyday(text), read);
        check(
            "expected `std::vec::Vec<std::string::String>`, found `std::io::Error`",
            "expected `Vec<String>`, found `std::io::Error`",
        );
        check("unused `std::result::Result` that", "unused `Result` that");
        check("unresolved import `std::vec::Vecc`", "unresolved import `std::vec::Vecc`");
        check("`my_std::vec::Vec`, `my::std::vec::Vec`", "`my_std::vec::Vec`, `my::std::vec::Vec`");
        check("std::", "std::");
    }
}
