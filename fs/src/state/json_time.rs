//! Times as `status` and `restore` print them.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;

/// A time as in every JSON text of the mount: in UTC, to the millisecond, as RFC 3339 writes it.
/// date(1) and jq read it.
pub fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // Rounded down, so that a time never lies in the future.
    let whole = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(whole).map_or_else(|_| whole.to_string(), |time| format!("{time:.3}"))
}

/// A duration in milliseconds, to the microsecond.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_down() {
        assert_eq!(milliseconds(Duration::from_nanos(1_234_567)), 1.234);
        let time = SystemTime::UNIX_EPOCH + Duration::from_micros(86_401_500_999);
        assert_eq!(timestamp(time), "1970-01-02T00:00:01.500Z");
    }
}
