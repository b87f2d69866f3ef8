//! Words that were probably meant by others.

/// The names that rustc would find similar to a word that nobody knows, the nearest one of them.
pub fn similar<T>(word: &str, known: impl Iterator<Item = (String, T)>) -> Option<(String, T)> {
    let letters = word.chars().count();
    let near = known.map(|(name, of)| (distance(word, &name), name, of));
    let near = near.filter(|(distance, name, _)| *distance <= letters.max(3) / 3 && name != word);
    near.min_by_key(|(distance, ..)| *distance).map(|(_, name, of)| (name, of))
}

/// How many letters have to be changed, added, removed or swapped with their neighbour.
pub fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(40).collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = changed.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_by_a_third_of_its_letters_is_similar() {
        let known = || ["area", "perimeter", "x"].map(|name| (name.to_owned(), ())).into_iter();
        let found = |word| similar(word, known()).map(|(name, ())| name);
        assert_eq!(found("aera").as_deref(), Some("area"));
        assert_eq!(found("perimter").as_deref(), Some("perimeter"));
        assert_eq!(found("arrow"), None);
        assert_eq!(found("area"), None);
    }
}
