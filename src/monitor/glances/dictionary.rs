//! Python dictionaries as text, such as `{'total': 12.5, 'name': None}`.
//!
//! Owns as much of that notation as Glances 2 writes into cells: flat, with text keys. Called for the old columns.

use rustc_hash::FxHashMap;

/// The entries whose value is a number. Text, `None`, `True` and nested values are passed over; what is no dictionary
/// has no entries.
pub(super) fn numbers(text: &str) -> FxHashMap<String, f64> {
    let mut found = FxHashMap::default();
    let inner = text
        .trim()
        .strip_prefix('{')
        .and_then(|text| text.strip_suffix('}'));
    for entry in entries(inner.unwrap_or_default()) {
        let Some((key, value)) = split_key(entry) else {
            continue;
        };
        // Python 2 writes long integers with an L.
        let value = value.trim().trim_end_matches('L');
        if let Ok(number) = value.parse::<f64>() {
            found.insert(key.to_owned(), number);
        }
    }
    found
}

/// Splits at commas outside of quotes and brackets.
fn entries(text: &str) -> Vec<&str> {
    let mut entries = Vec::new();
    let (mut start, mut depth) = (0, 0_i32);
    let mut quote = None;
    let mut is_escaped = false;
    for (position, character) in text.char_indices() {
        if let Some(open) = quote {
            match character {
                _ if is_escaped => is_escaped = false,
                '\\' => is_escaped = true,
                _ if character == open => quote = None,
                _ => {}
            }
            continue;
        }
        match character {
            '\'' | '"' => quote = Some(character),
            '{' | '[' | '(' => depth += 1,
            '}' | ']' | ')' => depth -= 1,
            ',' if depth == 0 => {
                entries.push(text.get(start..position).unwrap_or_default());
                start = position + 1;
            }
            _ => {}
        }
    }
    entries.push(text.get(start..).unwrap_or_default());
    entries
}

/// `'key': value`, also `u'key'` as Python 2 writes it.
fn split_key(entry: &str) -> Option<(&str, &str)> {
    let entry = entry.trim();
    let entry = entry.strip_prefix('u').unwrap_or(entry);
    let quote = entry
        .chars()
        .next()
        .filter(|first| matches!(first, '\'' | '"'))?;
    let (key, rest) = entry.get(1..)?.split_once(quote)?;
    Some((key, rest.trim_start().strip_prefix(':')?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_and_the_rest_passed_over() {
        let found = numbers(
            "{'total': 12.5, u'rx': 10L, 'name': 'a, b: {', 'none': None, 'in': {'x': 1}, \"tx\": 3}",
        );
        let mut found: Vec<_> = found.into_iter().collect();
        found.sort_by(|one, other| one.0.cmp(&other.0));
        let expected = [("rx", 10.0), ("total", 12.5), ("tx", 3.0)];
        assert_eq!(
            found,
            expected.map(|(key, number)| (key.to_owned(), number))
        );
    }

    #[test]
    fn what_is_no_dictionary_has_no_entries() {
        for text in [
            "", "None", "{}", "{", "'a': 1", "[1, 2]", "{1: 2}", "{'a' 1}",
        ] {
            assert!(numbers(text).is_empty(), "{text}");
        }
    }
}
