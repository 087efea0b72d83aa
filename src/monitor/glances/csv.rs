//! Records of a CSV file that is still being written.
//!
//! Owns quoting as Python's `csv.writer` does it (RFC 4180: `"` around cells with commas, quotes or line breaks, quotes
//! doubled) and where complete records end. Called by the sampler.

/// Takes the complete records off the front of `text`; what follows the last of them has to wait for more. At the end
/// of a finished file a line break completes the last record.
pub(super) fn take_records(text: &mut String) -> Vec<Vec<String>> {
    let mut records = Vec::new();
    let mut record = Vec::new();
    let mut cell = String::new();
    let mut is_quoted = false;
    let mut taken = 0;
    let mut characters = text.char_indices().peekable();
    while let Some((position, character)) = characters.next() {
        match character {
            '"' if is_quoted => {
                if characters.next_if(|(_, next)| *next == '"').is_some() {
                    cell.push('"');
                } else {
                    is_quoted = false;
                }
            }
            '"' if cell.is_empty() => is_quoted = true,
            ',' if !is_quoted => record.push(std::mem::take(&mut cell)),
            '\n' if !is_quoted => {
                if cell.ends_with('\r') {
                    cell.pop();
                }
                record.push(std::mem::take(&mut cell));
                let record = std::mem::take(&mut record);
                if record.iter().any(|cell| !cell.is_empty()) {
                    records.push(record);
                }
                taken = position + 1;
            }
            _ => cell.push(character),
        }
    }
    text.drain(..taken);
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(text: &str) -> (Vec<Vec<String>>, String) {
        let mut text = text.to_owned();
        let records = take_records(&mut text);
        (records, text)
    }

    #[test]
    fn quotes_commas_and_line_breaks_stay_in_their_cell() {
        let (found, rest) = records("a,\"b,\"\"c\"\"\",\r\n\r\n\"x\ny\",,z\nleft,\"ov");
        assert_eq!(found, [vec!["a", "b,\"c\"", ""], vec!["x\ny", "", "z"]]);
        assert_eq!(rest, "left,\"ov");
    }

    proptest::proptest! {
        #[test]
        fn any_split_gives_the_same_records(text in "[a,\"\n\r é]{0,60}", cut in 0usize..60) {
            let whole = format!("{text}\n");
            let (expected, _) = records(&whole);
            let cut = whole.floor_char_boundary(cut.min(whole.len()));
            let mut buffer = whole[..cut].to_owned();
            let mut found = take_records(&mut buffer);
            buffer.push_str(&whole[cut..]);
            found.extend(take_records(&mut buffer));
            proptest::prop_assert_eq!(found, expected);
        }
    }
}
