//! Values that must not be shown or written.
//!
//! Owns the list (values of the service's environment, tokens) and taking them out of a text. Every text that leaves the
//! flow passes through here: steps, the machine-readable log, the ledger, failures, log lines of the service.

use crate::results::masked;

/// What stands for a secret.
const MASK: &str = "***";

/// Shorter values are no secrets, and hiding them would make texts unreadable: `1`, `true`, `dev`.
const SHORTEST_BYTES: usize = 6;

/// The values to hide.
#[derive(Debug, Clone, Default)]
pub struct Secrets(Vec<String>);

impl Secrets {
    /// Hides these values from now on, and each line of those that have several, because texts are shown line by line.
    /// Values and lines of fewer than six bytes are not hidden.
    pub fn add(&mut self, values: impl IntoIterator<Item = String>) {
        let long = |value: &str| value.trim().len() >= SHORTEST_BYTES;
        for value in values.into_iter().filter(|value| long(value)) {
            let lines = value.lines().map(str::trim).filter(|line| long(line));
            self.0.extend(lines.map(str::to_owned));
            self.0.push(value);
        }
        // A value that contains another one goes first.
        self.0.sort_by_key(|value| std::cmp::Reverse(value.len()));
        self.0.dedup();
    }

    /// The text without them, and without what looks like a secret by its name (`token=…`, `https://user:…@`).
    pub fn hide(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.0 {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), MASK);
            }
        }
        masked(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_hidden_wherever_they_stand() {
        let mut secrets = Secrets::default();
        secrets.add([
            "s3cr3t-value".to_owned(),
            "1".to_owned(),
            "s3cr3t".to_owned(),
        ]);
        assert_eq!(secrets.hide("x s3cr3t-value 1 s3cr3ty"), "x *** 1 ***y");
    }

    #[test]
    fn a_line_of_a_value_is_hidden_too() {
        let mut secrets = Secrets::default();
        secrets.add(["-- key --\nMIIEvQIBADANBg\nx\n".to_owned()]);
        assert_eq!(secrets.hide("at MIIEvQIBADANBg: x"), "at ***: x");
    }

    #[test]
    fn what_its_name_calls_a_secret_is_hidden_too() {
        let text = Secrets::default().hide("cannot pull https://joe:pw@registry/x");
        assert_eq!(text, "cannot pull https://***@registry/x");
    }
}
