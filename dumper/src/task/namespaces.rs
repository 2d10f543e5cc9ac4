//! Namespaces. A thread may be in other namespaces than its process (unshare(2), setns(2)), and may
//! have others for its children. Apart from the time namespace the image holds none: processes are
//! restored in the namespaces of this program.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::refusals::Refusals;
use crate::sys::pid::Pid;

/// Namespaces that all threads of a process share. The kernel lets a process change them only while
/// it has a single thread.
const OF_PROCESS: [&str; 3] = ["pid", "user", "time"];

/// Namespaces that each thread can have of its own.
const OF_THREAD: [&str; 7] = ["mnt", "net", "ipc", "uts", "cgroup", "pid_for_children", "time_for_children"];

/// The namespaces of this program, and the time namespace of a tree.
pub struct Namespaces {
    /// The process that the rest of the tree has to be in one time namespace with.
    root: Pid,
    of_process: [Option<PathBuf>; 3],
    of_thread: [Option<PathBuf>; 7],
}

/// Its clocks are in the image, and it is the same for all processes of a tree. The namespace of
/// children, `time_for_children`, must be the same one.
const TIME: &str = "time";

/// Name and number of a namespace, `net:[4026531840]`. `None` if the kernel does not have its kind.
fn of(task: &str, space: &str) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{task}/ns/{space}")).ok()
}

impl Namespaces {
    /// Reads them. `root` is the first process of the tree. The image has the clocks of its time
    /// namespace ([`crate::pstree::clocks`]).
    pub fn for_tree(root: Pid) -> Self {
        let time = of(&root.to_string(), TIME);
        let own = |space: &str| if space.starts_with(TIME) { time.clone() } else { of("self", space) };
        Self { root, of_process: OF_PROCESS.map(own), of_thread: OF_THREAD.map(own) }
    }

    /// Refuses a process with a thread in another namespace. A sort of namespace is named once.
    ///
    /// This check must come before anything is done inside the process. If a process has left its
    /// pid namespace by unshare(2), its first child is the init of the new namespace. If a
    /// copy-on-write child became that init, its end would leave the namespace unable to create
    /// processes.
    pub fn refuse_others(&self, pid: Pid, tids: impl Iterator<Item = Pid>, refusals: &mut Refusals) -> Result<()> {
        let mut named = BTreeSet::new();
        for (at, tid) in tids.enumerate() {
            let task = format!("{pid}/task/{tid}");
            let mut refuse_other = |(space, own): (&&'static str, &Option<PathBuf>)| {
                if of(&task, space) == *own || !named.insert(*space) {
                    return Ok(());
                }
                if space.starts_with(TIME) {
                    return refusals.refuse(Error::unsupported(format!(
                        "pid {pid} task {tid}: in another {space} namespace than pid {}, which cannot be checkpointed",
                        self.root
                    )));
                }
                refusals.refuse(Error::unsupported(format!(
                    "pid {pid} task {tid}: in another {space} namespace than the daemon, which cannot be checkpointed yet"
                )))
            };
            if at == 0 {
                OF_PROCESS.iter().zip(&self.of_process).try_for_each(&mut refuse_other)?;
            }
            OF_THREAD.iter().zip(&self.of_thread).try_for_each(refuse_other)?;
        }
        Ok(())
    }
}
