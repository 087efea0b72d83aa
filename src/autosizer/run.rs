//! What one run shares.
//!
//! Owns the run's id and the bundle that every step gets. Made by the flow's caller.

use std::time::{SystemTime, UNIX_EPOCH};

use super::cancel::Cancel;
use super::ledger::Ledger;
use super::steps::Steps;
use super::target::Service;

/// One run of the flow.
pub struct Run {
    /// `20261125-225653-3f9a1c`: when it began (UTC) and six random digits. The name of everything that is made.
    pub id: String,
    /// What is to be sized.
    pub service: Service,
    /// Shows what happens.
    pub steps: Steps,
    /// What was made.
    pub ledger: Ledger,
    /// Whether the user asked to stop. The flow watches it; steps need it only for loops that do not wait.
    pub cancel: Cancel,
}

impl Run {
    /// A new id.
    pub fn new_id() -> String {
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_secs());
        format!(
            "{}{:06x}",
            Self::time_of_id(seconds),
            fastrand::u32(..0x100_0000)
        )
    }

    /// The smallest id of a run that began at that time, in seconds since 1970: ids sort by time.
    #[cfg(feature = "aws")]
    pub(super) fn id_at(seconds: u64) -> String {
        format!("{}000000", Self::time_of_id(seconds))
    }

    /// Whether it has the form of an id.
    #[cfg(feature = "aws")]
    pub(super) fn is_id(text: &str) -> bool {
        const FORM: &str = "dddddddd-dddddd-xxxxxx";
        let fits = |(ours, form): (char, char)| match form {
            'd' => ours.is_ascii_digit(),
            'x' => ours.is_ascii_hexdigit(),
            other => ours == other,
        };
        text.len() == FORM.len() && text.chars().zip(FORM.chars()).all(fits)
    }

    fn time_of_id(seconds: u64) -> String {
        let (date, time) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = date_of(date);
        format!(
            "{year:04}{month:02}{day:02}-{:02}{:02}{:02}-",
            time / 3600,
            time / 60 % 60,
            time % 60,
        )
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar: counted in years that begin in
/// March, so that the leap day is the last of its year.
pub(super) fn date_of(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_around_leap_days() {
        assert_eq!(date_of(0), (1970, 1, 1));
        assert_eq!(date_of(11_016), (2000, 2, 29));
        assert_eq!(date_of(11_017), (2000, 3, 1));
        assert_eq!(date_of(20_782), (2026, 11, 25));
    }

    #[test]
    #[cfg(feature = "aws")]
    fn an_id_is_told_from_other_names() {
        assert!(Run::is_id(&Run::new_id()) && Run::is_id(&Run::id_at(0)));
        for other in [
            "",
            "check",
            "20261125-225653-3f9a1",
            "20261125-225653-3f9a1g",
            "2026112x-225653-3f9a1c",
        ] {
            assert!(!Run::is_id(other), "{other}");
        }
        assert!(Run::id_at(1_000_000_000) < Run::id_at(1_000_000_001));
    }

    #[test]
    fn ids_differ_and_sort_by_time() {
        let (first, second) = (Run::new_id(), Run::new_id());
        assert_ne!(first, second);
        assert_eq!(first.len(), "20261125-225653-3f9a1c".len());
    }
}
