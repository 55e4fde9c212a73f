//! The nearest known word to a misspelt one.

/// The candidate that `word` most likely meant: at most a third of its letters wrong.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = word.chars().count().max(3) / 3;
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|&(distance, _)| distance <= allowed)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// `; did you mean X?` when a candidate is near, otherwise the list of all of them after `lead`.
pub fn hint<'a, I>(word: &str, candidates: I, lead: &str) -> String
where
    I: IntoIterator<Item = &'a str> + Clone,
{
    if let Some(near) = nearest(word, candidates.clone()) {
        return format!("; did you mean `{near}`?");
    }
    let all: Vec<&str> = candidates.into_iter().collect();
    if all.is_empty() {
        format!("; {lead}: none")
    } else {
        format!("; {lead}: {}", all.join(", "))
    }
}

/// Edits between two words: insertions, deletions, substitutions, and swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        for j in 0..b.len() {
            let mut cost = (last[j] + usize::from(a[i] != b[j]))
                .min(last[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                cost = cost.min(before[j - 1] + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_edits_and_swaps() {
        assert_eq!(distance("lcore", "lcore"), 0);
        assert_eq!(distance("lcroe", "lcore"), 1);
        assert_eq!(distance("lcor", "lcore"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn suggests_only_what_is_near() {
        let keys = ["lcore", "queue", "port"];
        assert_eq!(nearest("lcroe", keys), Some("lcore"));
        assert_eq!(nearest("prot", keys), Some("port"));
        assert_eq!(nearest("banana", keys), None);
        assert_eq!(hint("lcroe", keys, "known"), "; did you mean `lcore`?");
        assert_eq!(hint("banana", keys, "known"), "; known: lcore, queue, port");
        assert_eq!(hint("banana", [], "known"), "; known: none");
    }
}
