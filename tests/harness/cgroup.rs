//! A cgroup for a test, cgroups(7).

use std::fs;
use std::path::{Path, PathBuf};

use crate::wait;

/// A cgroup of its own in the v2 hierarchy. Drop kills every process that is left in it and removes
/// it.
#[derive(Debug)]
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes a new one, named after a test.
    pub fn new(name: &str) -> Cgroup {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let top = mounts
            .lines()
            .find(|line| line.split(' ').nth(2) == Some("cgroup2"))
            .expect("cgroup v2 is mounted somewhere");
        let dir = Path::new(top.split(' ').nth(1).unwrap()).join(format!("ckptfs-test-{name}-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        Cgroup(dir)
    }

    /// Makes a new one in the hierarchy that has `controller`, of whichever version.
    pub fn controlled(controller: &str, name: &str) -> Cgroup {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let words: Vec<Vec<&str>> = mounts.lines().map(|line| line.split(' ').collect()).collect();
        let has = |list: &str, by: &[char]| list.split(by).any(|word| word.trim() == controller);
        let top = words.iter().find(|mount| mount[2] == "cgroup" && has(mount[3], &[',']));
        let dir = match top {
            Some(mount) => PathBuf::from(mount[1]),
            None => {
                let unified = |mount: &&Vec<&str>| {
                    let controllers = fs::read_to_string(Path::new(mount[1]).join("cgroup.controllers"));
                    mount[2] == "cgroup2" && has(&controllers.unwrap_or_default(), &[' '])
                };
                let mount = words.iter().find(unified).expect("some hierarchy has the controller");
                let dir = PathBuf::from(mount[1]);
                fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}")).unwrap();
                dir
            }
        };
        let dir = dir.join(format!("ckptfs-test-{name}-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        Cgroup(dir)
    }

    /// Limits the memory of its processes, and leaves them no swap.
    pub fn limit_memory(&self, bytes: u64) {
        let names = ["memory.max", "memory.limit_in_bytes"];
        let name = names.into_iter().find(|name| self.0.join(name).exists()).expect("a memory controller");
        self.write(name, &bytes.to_string());
        for (name, text) in [("memory.swap.max", "0".to_owned()), ("memory.memsw.limit_in_bytes", bytes.to_string())] {
            let _not_there = fs::write(self.0.join(name), text);
        }
    }

    /// Makes another one below it.
    pub fn below(&self, name: impl AsRef<Path>) -> Cgroup {
        let dir = self.0.join(name);
        fs::create_dir(&dir).unwrap();
        Cgroup(dir)
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes to one of its control files.
    pub fn write(&self, file: &str, text: &str) {
        fs::write(self.0.join(file), text).unwrap();
    }

    /// The text of one of its control files, trimmed.
    pub fn read(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap().trim().to_owned()
    }

    /// Moves a process into it.
    pub fn add(&self, pid: i32) {
        self.write("cgroup.procs", &pid.to_string());
    }

    /// The processes in it, in ascending order.
    pub fn pids(&self) -> Vec<i32> {
        let mut pids: Vec<i32> = self.read("cgroup.procs").lines().map(|line| line.parse().unwrap()).collect();
        pids.sort_unstable();
        pids
    }

    /// Whether all its processes are frozen.
    pub fn is_frozen(&self) -> bool {
        self.read("cgroup.events").lines().any(|line| line == "frozen 1")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for (file, text) in [("cgroup.kill", "1"), ("cgroup.freeze", "0")] {
            let _gone_perhaps = fs::write(self.0.join(file), text);
        }
        let _removed = wait::poll(wait::LONG, || fs::remove_dir(&self.0).ok());
    }
}
