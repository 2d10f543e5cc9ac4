//! /proc/PID/stat.

use crate::error::{Error, Result};
use crate::sys::pid::Pid;
use crate::sys::proc::read_text;

/// The unit of times in /proc: USER_HZ of x86-64, whatever the kernel's own HZ.
pub const TICKS_PER_SECOND: u64 = 100;

/// `/proc/PID/stat`: the fields behind the command name by their number in proc_pid_stat(5).
#[derive(Clone, Debug)]
pub struct Stat {
    fields: Vec<u64>,
    /// The name (`comm`), which need not be text.
    pub name: String,
    /// The state as one letter.
    pub state: char,
}

impl Stat {
    /// Reads the file of a process or thread, e.g. `/proc/1/task/1/stat`.
    pub fn read(path: &str) -> Result<Self> {
        Self::parse(&read_text(path)?).ok_or_else(|| Error::os(format_args!("parsing {path}"), libc::EIO))
    }

    /// Parses the single line. The name may hold spaces and parentheses.
    pub fn parse(text: &str) -> Option<Self> {
        let (before, rest) = text.rsplit_once(')')?;
        let (_, name) = before.split_once('(')?;
        let mut words = rest.split_ascii_whitespace();
        let state = words.next()?.chars().next()?;
        // Negative fields (nice, tpgid) keep their two's complement.
        let fields = words
            .map(|word| word.parse().or_else(|_| word.parse::<i64>().map(i64::cast_unsigned)).unwrap_or(0))
            .collect();
        Some(Self { fields, name: name.to_owned(), state })
    }

    /// A field by its number in the man page, from 4 (ppid) on.
    pub fn field(&self, number: usize) -> u64 {
        self.fields.get(number.wrapping_sub(4)).copied().unwrap_or(0)
    }

    /// Whether this task has ended. Other threads of its process may live.
    pub fn is_ended_task(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }

    /// Whether the whole process has ended and waits to be reaped. A leader can be a zombie while
    /// other threads live.
    pub fn is_zombie_process(&self) -> bool {
        self.state == 'Z' && self.threads() <= 1
    }

    /// Parent.
    pub fn ppid(&self) -> Pid {
        self.field(4) as Pid
    }

    /// Whether the task is in its exit (`PF_EXITING`, include/linux/sched.h). It may have no memory
    /// and no descriptors any more.
    pub fn is_exiting(&self) -> bool {
        const PF_EXITING: u64 = 0x4;
        self.field(9) & PF_EXITING != 0
    }

    /// Whether it is a kernel thread, which has no program.
    pub fn is_kernel_thread(&self) -> bool {
        // include/linux/sched.h.
        const PF_KTHREAD: u64 = 0x0020_0000;
        self.field(9) & PF_KTHREAD != 0
    }

    /// How many threads the process has.
    pub fn threads(&self) -> u64 {
        self.field(20)
    }

    /// When it started, in ticks after boot ([`TICKS_PER_SECOND`]).
    pub fn started(&self) -> u64 {
        self.field(22)
    }

    /// The signal sent to the parent at the end: 0 for a snapshot child.
    pub fn exit_signal(&self) -> u64 {
        self.field(38)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_may_hold_parentheses() {
        let stat = Stat::parse("12 (a) R (b)) S 7 8 9 0 -1 4194560").unwrap();
        assert_eq!(stat.name, "a) R (b)");
        assert_eq!((stat.state, stat.ppid(), stat.field(5), stat.field(8).cast_signed()), ('S', 7, 8, -1));
    }
}
