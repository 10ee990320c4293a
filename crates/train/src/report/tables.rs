//! Numbers and tables as the pages write them.

use metrics::{Estimate, Interval};

/// A table in Markdown, the first column to the left and the numbers to the right.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let rule = format!("|---{}|\n", "|---:".repeat(head.len().saturating_sub(1)));
    rows.iter().fold(line(&head) + &rule, |table, row| table + &line(row))
}

pub fn score(value: f64) -> String {
    format!("{value:.3}")
}

pub fn signed(value: f64) -> String {
    format!("{value:+.3}")
}

/// An interval of scores.
pub fn span(interval: Interval) -> String {
    format!("{:.3} to {:.3}", interval.low, interval.high)
}

/// An interval of differences.
pub fn signed_span(interval: Interval) -> String {
    format!("{:+.3} to {:+.3}", interval.low, interval.high)
}

/// A value with its interval in a sentence.
pub fn with_span(estimate: &Estimate) -> String {
    format!("{:.3} [{:.3}, {:.3}]", estimate.value, estimate.interval.low, estimate.interval.high)
}

/// The same for a difference.
pub fn signed_with_span(estimate: &Estimate) -> String {
    format!("{:+.3} [{:+.3}, {:+.3}]", estimate.value, estimate.interval.low, estimate.interval.high)
}

/// Of a share.
pub fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

/// With thousands set apart.
pub fn count(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        let cases = [(7, "7"), (100, "100"), (1000, "1,000"), (1_234_567, "1,234,567")];
        cases.iter().for_each(|(n, text)| assert_eq!(count(*n), *text));
    }

    #[test]
    fn a_table_has_a_rule_as_wide_as_its_head() {
        let rows = [vec!["x".to_owned(), "1".to_owned()]];
        assert_eq!(table(&["a", "b"], &rows), "| a | b |\n|---|---:|\n| x | 1 |\n");
    }
}
