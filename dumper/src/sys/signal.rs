//! Names of signals, signal(7).

use nix::sys::signal::Signal;

/// SIGRTMIN of the C library, which keeps the first two real-time signals for itself.
const RTMIN: i32 = 34;

/// The name of a signal for a sentence: "SIGTERM", "SIGRTMIN+3".
pub fn name(signal: i32) -> String {
    match Signal::try_from(signal) {
        Ok(signal) => signal.as_str().to_owned(),
        Err(_) if signal == RTMIN => "SIGRTMIN".to_owned(),
        Err(_) if signal > RTMIN && signal <= 64 => format!("SIGRTMIN+{}", signal - RTMIN),
        Err(_) => format!("signal {signal}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_kill_1() {
        let shown = [9, 34, 37, 64, 32, 0, 70].map(name);
        assert_eq!(shown, ["SIGKILL", "SIGRTMIN", "SIGRTMIN+3", "SIGRTMIN+30", "signal 32", "signal 0", "signal 70"]);
    }
}
