//! The daemon's own memory stays small, whatever a process holds; and the number of questions that
//! a listing of the mount costs.

use std::fs;

use ckptfs_tests::{Mounted, Spec, Victim, process, tool, wait};

/// The most memory that the daemon may use.
const MOST_KIB: u64 = 64 << 10;

/// A python program that makes something, and then sleeps.
fn holder(program: &str) -> Victim {
    let program = format!("import time\n{program}\nopen('ready', 'w').close()\ntime.sleep(3600)");
    let victim = Victim::start(&Spec::command("python3").arg("-c").arg(program));
    wait::until("it has everything", || victim.dir().join("ready").exists());
    victim
}

/// Reads what the mount shows of a process. The daemon's memory has never been larger than it may
/// be.
fn is_shown_with_little_memory(victim: &Victim) {
    let mount = Mounted::over(victim.pid());
    let files = ["image", "info.json", "maps"].map(|name| mount.of(victim.pid(), name));
    let args: Vec<_> = [mount.snap("copy")].into_iter().chain(files).collect();
    let _quiet = tool::shell(r#"cat "$2" > "$1"; cat "$3" "$4" > /dev/null"#, &args).success();
    let verified =
        tool::run(&[ckptfs_tests::build::ckptfs().into_os_string(), "verify".into(), args[0].clone().into()]);
    assert!(verified.success().text().contains("whole"));
    let most = process::status(mount.daemon(), "VmHWM").unwrap();
    let most: u64 = most.split_whitespace().next().unwrap().parse().unwrap();
    assert!(most < MOST_KIB, "the daemon used {most} KiB");
}

#[test]
fn contents_of_pipes() {
    let victim = holder(
        r"
import fcntl, os
for _ in range(300):
    reader, writer = os.pipe()
    assert fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 1 << 20) == 1 << 20
    assert os.write(writer, b'full' * (1 << 18)) == 1 << 20",
    );
    is_shown_with_little_memory(&victim);
}

#[test]
fn very_many_mappings() {
    let victim = holder(
        r"
import ctypes, mmap
libc = ctypes.CDLL(None)
memory = mmap.mmap(-1, 20000 << 12, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
for page in range(0, 20000, 2):
    ctypes.memset(start + (page << 12), 1, 8)
    assert libc.mprotect(ctypes.c_void_p(start + (page << 12)), ctypes.c_size_t(4096), 1) == 0",
    );
    let maps = fs::read_to_string(format!("/proc/{}/maps", victim.pid())).unwrap();
    assert!(maps.lines().count() > 20_000, "{} mappings", maps.lines().count());
    is_shown_with_little_memory(&victim);
}

#[test]
fn very_many_threads() {
    let victim = holder(
        r"
import threading
for _ in range(1000):
    threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()",
    );
    assert_eq!(process::status(victim.pid(), "Threads").as_deref(), Some("1001"));
    is_shown_with_little_memory(&victim);
}

/// `ls -l` asks for each file twice, by its whole path. The daemon gets no request for an extended
/// attribute but the first, and few for names that it knows already.
#[test]
fn a_listing_costs_few_requests() {
    let victim = holder("import os\nif os.fork() == 0: os.fork()");
    let mount = Mounted::over(victim.pid());
    let script = r#"
        strace -f -qq -e trace=writev -o "$2" -p "$3" & tracer=$!
        until grep -q "^TracerPid:.*[1-9]" "/proc/$3/status"; do sleep 0.01; done
        ls -lR "$1" | grep -c "^[-d]r"
        kill "$tracer"; wait "$tracer" || true
    "#;
    let args = [mount.path(), mount.snap("replies"), mount.daemon().to_string().into()];
    let listed: usize = tool::shell(script, &args).success().text().trim().parse().unwrap();
    let replies = fs::read_to_string(mount.snap("replies")).unwrap().lines().count();
    assert!(listed > 120, "only {listed} files");
    assert!(replies < listed * 7, "{replies} replies for {listed} files");
}
