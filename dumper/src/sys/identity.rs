//! What the kernel permits another user. A thread takes the user's identity and makes the call, so
//! no rule of the kernel is written down a second time.

use std::os::unix::fs::MetadataExt;

use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_keep_capabilities, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use crate::error::{Doing, Error, Kind, Result};
use crate::sys::pid::Pid;
use crate::sys::pidfd::PidFd;
use crate::sys::proc::read_text;
use crate::sys::proc::status::Fields;

/// A user as the kernel sees it: ids, groups and capabilities. It holds values and no number of a
/// process, which may belong to another one later.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// The filesystem user id.
    pub uid: u32,
    /// The filesystem group id.
    pub gid: u32,
    groups: Vec<u32>,
    /// Capabilities in the user namespace of the daemon. A user of another one has none there.
    capabilities: u64,
    /// The user namespace, if it is known and not the daemon's.
    elsewhere: Option<Namespace>,
}

/// Device and inode of a file in /proc/PID/ns.
type Namespace = (u64, u64);

impl Identity {
    /// The user with these ids and groups, and these capabilities in the daemon's user namespace.
    pub fn new(uid: u32, gid: u32, groups: Vec<u32>, capabilities: u64) -> Identity {
        Identity { uid, gid, groups, capabilities, elsewhere: None }
    }

    /// The user that makes a request: `uid` and `gid` come with the request. `thread` waits for the
    /// answer, so until then its number is its own, and its identity does not change. A thread that
    /// cannot be seen from here (0: another pid namespace) has no groups and no capabilities.
    pub fn of_request(thread: Pid, uid: u32, gid: u32) -> Identity {
        let of_ids = Identity::new(uid, gid, Vec::new(), 0);
        let Ok(status) = Fields::read(&format!("/proc/{thread}/status")) else { return of_ids };
        let (there, here) = (user_namespace(thread), user_namespace("self"));
        // A security module may hide the namespace of a mightier thread from this daemon. Its map
        // shows then whether it is the same one: only root can give a namespace the map of this
        // one.
        let is_here = if there.is_some() { there == here } else { id_maps(thread) == id_maps("self") };
        // No process is in the namespace that stands for one that is hidden.
        let elsewhere = (!is_here).then(|| there.unwrap_or_default());
        // The thread may act with credentials that are not its own (io_uring, overlayfs).
        let acts_as_itself = |line: &str, id: u32| status.numbers(line).get(3) == Some(&u64::from(id));
        let is_itself = acts_as_itself("Uid", uid) && acts_as_itself("Gid", gid);
        let groups = status.numbers("Groups").into_iter().filter_map(|group| u32::try_from(group).ok());
        let capabilities = if is_itself && is_here { status.hex("CapEff") } else { 0 };
        Identity { groups: groups.collect(), capabilities, elsewhere, ..of_ids }
    }

    /// The user that a task is, as the kernel checks it when the task opens a file. The task must
    /// not run meanwhile.
    pub fn of_task(tid: Pid) -> Result<Identity> {
        let status = Fields::read(&format!("/proc/{tid}/status"))?;
        let id = |line: &str| status.numbers(line).get(3).and_then(|id| u32::try_from(*id).ok());
        let missing = || Error::os(format_args!("reading the credentials of pid {tid}"), libc::EIO);
        let groups = status.numbers("Groups").into_iter().filter_map(|group| u32::try_from(group).ok());
        let (uid, gid) = (id("Uid").ok_or_else(missing)?, id("Gid").ok_or_else(missing)?);
        Ok(Identity::new(uid, gid, groups.collect(), status.hex("CapEff")))
    }

    /// Whether it may do all that this daemon may. Then the kernel need not be asked.
    pub fn is_as_mighty(&self) -> bool {
        let own = capabilities(None).map_or(u64::MAX, |own| own.effective.bits());
        self.elsewhere.is_none() && self.uid == rustix::process::geteuid().as_raw() && own & !self.capabilities == 0
    }

    /// Whether it may read any file (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH; capabilities(7)).
    pub fn reads_any_file(&self) -> bool {
        let overrides = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
        CapabilitySet::from_bits_retain(self.capabilities).intersects(overrides)
    }

    /// Runs `question` on a thread that has this identity. The thread has the descriptors of this
    /// process.
    pub fn ask<T: Send>(&self, question: impl FnOnce() -> T + Send) -> Result<T> {
        let doing = || format!("acting as user {}", self.uid);
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("ask".into());
            let asked = thread.spawn_scoped(scope, || self.assume().map(|()| question())).doing(doing)?;
            asked.join().unwrap_or_else(|_| Err(Error::os(doing(), libc::EIO)))
        })
    }

    /// Whether it may read the memory of `pid` as a debugger may (ptrace(2), PTRACE_MODE_ATTACH):
    /// its ids, its capabilities, whether the process is dumpable, and the security modules decide.
    /// To be called by [`Identity::ask`].
    pub fn open_memory(&self, pid: Pid) -> Result<()> {
        self.in_namespace_of(pid)?;
        std::fs::File::open(format!("/proc/{pid}/mem")).map(drop).doing(|| format!("opening /proc/{pid}/mem"))
    }

    /// Whether it may send signals to `target` (kill(2)). To be called by [`Identity::ask`].
    pub fn signals(&self, target: &PidFd) -> Result<()> {
        self.in_namespace_of(target.pid()).map_err(|error| error.kind_is(Kind::System(libc::EPERM)))?;
        target.kill(0)
    }

    /// The kernel would decide by the user namespace of the thread that asks, which is the
    /// daemon's. A user of another one may do nothing outside of it.
    fn in_namespace_of(&self, pid: Pid) -> Result<()> {
        if self.elsewhere.is_some() && user_namespace(pid) != self.elsewhere {
            return Err(Error::os(format!("pid {pid}: in another user namespace than the caller"), libc::EACCES));
        }
        Ok(())
    }

    /// Makes the calling thread this user. There is no way back.
    ///
    /// Only the effective user id is this user's (and with it the filesystem user id). The kernel
    /// lets a user send signals to a thread, and trace it, by its real and saved ids: those are ids
    /// that no user has, or a user could kill the daemon meanwhile.
    fn assume(&self) -> Result<()> {
        let doing = || format!("taking the identity of user {}", self.uid);
        let nobodys = Uid::from_raw_unchecked(last_uid()?);
        let (uid, gid) = (Uid::from_raw_unchecked(self.uid), Gid::from_raw_unchecked(self.gid));
        let groups: Vec<Gid> = self.groups.iter().map(|&group| Gid::from_raw_unchecked(group)).collect();
        set_keep_capabilities(true).doing(doing)?;
        set_thread_groups(&groups).doing(doing)?;
        set_thread_res_gid(gid, gid, gid).doing(doing)?;
        set_thread_res_uid(nobodys, uid, nobodys).doing(doing)?;
        let left = capabilities(None).doing(doing)?.permitted;
        let left = left & CapabilitySet::from_bits_retain(self.capabilities);
        let sets = CapabilitySets { effective: left, permitted: left, inheritable: CapabilitySet::empty() };
        set_capabilities(None, sets).doing(doing)
    }
}

/// The user namespace of a process or thread.
fn user_namespace(process: impl std::fmt::Display) -> Option<Namespace> {
    let facts = std::fs::metadata(format!("/proc/{process}/ns/user")).ok()?;
    Some((facts.dev(), facts.ino()))
}

/// The maps of the user namespace of a process or thread.
fn id_maps(process: impl std::fmt::Display) -> Option<[String; 2]> {
    let map = |name: &str| read_text(&format!("/proc/{process}/{name}")).ok();
    Some([map("uid_map")?, map("gid_map")?])
}

/// The last user id of this user namespace (user_namespaces(7), `uid_map`).
fn last_uid() -> Result<u32> {
    let map = read_text("/proc/self/uid_map")?;
    let last = |line: &str| {
        let numbers: Vec<u64> = line.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
        u32::try_from(numbers.first()? + numbers.get(2)? - 1).ok()
    };
    map.lines().filter_map(last).max().ok_or_else(|| Error::os("reading /proc/self/uid_map", libc::EINVAL))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sys::pidfd::PidFd;
    use std::process::{Child, Command};

    const NOBODY: u32 = 65534;

    /// A process that sleeps. Drop kills it.
    struct Sleeper(Child);

    impl Sleeper {
        fn of(arguments: &[&str]) -> Sleeper {
            let (program, arguments) = arguments.split_first().unwrap();
            let child = Command::new(program).args(arguments).spawn().unwrap();
            let sleeper = Sleeper(child);
            let stat = format!("/proc/{}/stat", sleeper.pid());
            while !std::fs::read_to_string(&stat).unwrap().contains("(sleep) S ") {
                std::thread::yield_now();
            }
            sleeper
        }

        fn pid(&self) -> Pid {
            self.0.id() as Pid
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn nobody(with: &[&str]) -> Sleeper {
        let drop_to = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
        Sleeper::of(&[&drop_to, with, &["sleep", "300"]].concat())
    }

    fn reads(who: &Identity, pid: Pid) -> bool {
        who.ask(|| who.open_memory(pid)).unwrap().is_ok()
    }

    fn signals(who: &Identity, pid: Pid) -> bool {
        let target = PidFd::open(pid).unwrap();
        who.ask(|| who.signals(&target)).unwrap().is_ok()
    }

    #[test]
    fn a_user_may_what_the_kernel_lets_it() {
        let (own, of_root) = (nobody(&[]), Sleeper::of(&["sleep", "300"]));
        let who = Identity::of_request(own.pid(), NOBODY, NOBODY);
        assert_eq!(who, Identity::new(NOBODY, NOBODY, Vec::new(), 0));
        assert!(!who.is_as_mighty() && !who.reads_any_file());
        assert!(reads(&who, own.pid()) && signals(&who, own.pid()));
        assert!(!reads(&who, of_root.pid()) && !signals(&who, of_root.pid()));
        let other_group = Identity { gid: 7, ..who.clone() };
        assert!(!reads(&other_group, own.pid()), "ptrace(2) asks for the group as well");
        let root = Identity::of_request(of_root.pid(), 0, 0);
        assert!(root.is_as_mighty() && reads(&root, own.pid()) && signals(&root, own.pid()));
        let weak_root = Identity::new(0, 0, Vec::new(), 0);
        assert!(!weak_root.is_as_mighty() && !reads(&weak_root, own.pid()) && !reads(&weak_root, of_root.pid()));
        // The thread that asked has ended, and this one is as it was.
        assert_eq!(rustix::process::geteuid().as_raw(), 0);
    }

    #[test]
    fn capabilities_of_another_user_namespace_count_for_nothing() {
        let (inside, outside) = (nobody(&["unshare", "-U", "-r"]), nobody(&[]));
        let who = Identity::of_request(inside.pid(), NOBODY, NOBODY);
        assert!(who.capabilities == 0 && who.elsewhere.is_some());
        assert!(reads(&who, inside.pid()) && !reads(&who, outside.pid()));
        let claims_root = Identity::of_request(inside.pid(), 0, 0);
        assert!(!claims_root.is_as_mighty());
        let other_ids = Identity::of_request(std::process::id() as Pid, NOBODY, NOBODY);
        assert_eq!(other_ids.capabilities, 0, "a thread with other ids than the request's acts for another user");
    }

    /// The thread is a thread of the daemon, and a signal to it would kill the daemon.
    #[test]
    fn the_user_may_not_signal_the_thread_that_asks() {
        let who = Identity::new(NOBODY, NOBODY, Vec::new(), 0);
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (go, may_go) = std::sync::mpsc::channel::<()>();
        let answers = std::thread::scope(|scope| {
            scope.spawn(|| {
                who.ask(move || {
                    ready.send(nix::unistd::gettid().as_raw()).unwrap();
                    let _ = may_go.recv();
                })
            });
            let script = format!("kill -0 {}", is_ready.recv().unwrap());
            let signal = |user: &str| Command::new("setpriv").args([user, "sh", "-c", &script]).status();
            let answers = ["--reuid=65534", "--reuid=0"].map(signal);
            go.send(()).unwrap();
            answers.map(|answer| answer.unwrap().success())
        });
        assert_eq!(answers, [false, true]);
    }
}
