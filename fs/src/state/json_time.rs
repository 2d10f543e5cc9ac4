//! Times as `status` and `restore` print them.

use std::time::{Duration, SystemTime};

/// A time as in every JSON text of the mount: seconds since the epoch, to the millisecond (`date -d
/// @TIME`).
pub fn seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as f64 / 1000.0
}

/// A duration in milliseconds, to the microsecond.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}
