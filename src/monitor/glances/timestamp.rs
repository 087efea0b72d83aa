//! The `timestamp` column: `2026-11-25 19:58:24`, local time without a zone.
//!
//! Owns its reading as seconds on a plain calendar: only differences have a meaning, and one over a change of the clocks
//! is an hour off. Called by the reader of finished files.

/// Seconds since the start of the year 0 on the Gregorian calendar; `None` for other texts.
pub(super) fn seconds(text: &str) -> Option<i64> {
    let text = text.trim();
    let (date, time) = text.split_once([' ', 'T'])?;
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    let valid = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 61;
    valid.then(|| ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

fn numbers(text: &str, separator: char) -> Option<[i64; 3]> {
    let mut parts = text
        .split(separator)
        .map(|part| part.parse::<i64>().ok().filter(|number| *number >= 0));
    let found = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(found)
}

/// Days before a date: years begin in March here, so that the leap day is the last of one.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // Months from March on have 31, 30, 31, 30, 31 days, over and over.
    year * 365 + leap_days + (153 * month + 2) / 5 + day
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_cross_days_months_and_leap_years() {
        let between = |from, to| seconds(to).unwrap() - seconds(from).unwrap();
        assert_eq!(between("2026-11-25 19:58:24", "2026-11-25 19:58:26"), 2);
        assert_eq!(between("2026-12-31 23:59:59", "2027-01-01 00:00:00"), 1);
        assert_eq!(
            between("2028-02-28 12:00:00", "2028-03-01 12:00:00"),
            2 * 86_400
        );
        assert_eq!(
            between("2027-02-28 12:00:00", "2027-03-01 12:00:00"),
            86_400
        );
        assert_eq!(
            between("2000-01-01 00:00:00", "2001-01-01 00:00:00"),
            366 * 86_400
        );
    }

    #[test]
    fn other_texts_are_none() {
        for text in [
            "",
            "2026-11-25",
            "2026-13-01 00:00:00",
            "a-b-c d:e:f",
            "2026-11-25 19:58",
            "-1-1-1 1:1:1",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
