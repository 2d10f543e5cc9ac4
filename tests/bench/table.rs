//! Medians, and the cells of a Markdown table: the ratio first, its two values in brackets.

use std::time::Duration;

/// The middle value. Of an even number of values it is the upper one of the two in the middle.
pub fn median<T: Copy + PartialOrd>(values: impl IntoIterator<Item = T>) -> T {
    let mut values: Vec<T> = values.into_iter().collect();
    values.sort_by(|left, right| left.partial_cmp(right).expect("numbers"));
    values[values.len() / 2]
}

/// "1.20 (24.0 : 20.0 ms)"
pub fn times(left: Duration, right: Duration) -> String {
    let ratio = left.as_secs_f64() / right.as_secs_f64();
    format!("{ratio:.2} ({} : {} ms)", ms(left), ms(right))
}

/// "0.80 (3.2 : 4.0 GB/s)"
pub fn rates(left: f64, right: f64) -> String {
    format!("{:.2} ({:.2} : {:.2} GB/s)", left / right, left / 1e9, right / 1e9)
}

/// Milliseconds with three significant digits.
pub fn ms(time: Duration) -> String {
    let value = time.as_secs_f64() * 1e3;
    match value {
        0.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// "256 MiB", "2 GiB"
pub fn size(mib: u64) -> String {
    if mib.is_multiple_of(1024) { format!("{} GiB", mib / 1024) } else { format!("{mib} MiB") }
}

/// A row.
pub fn row<S: AsRef<str>>(cells: &[S]) {
    let cells: Vec<&str> = cells.iter().map(AsRef::as_ref).collect();
    println!("| {} |", cells.join(" | "));
}

/// The head of a table.
pub fn head(cells: &[&str]) {
    println!();
    row(cells);
    row(&vec!["---"; cells.len()]);
}
