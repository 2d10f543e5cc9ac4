//! `core`: gdb and similar tools find in it what they find in the process. The core file of a
//! stored image is the same file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ckptfs_tests::{Mounted, Spec, Victim, build, process, tool};

struct Debugged {
    victim: Victim,
    mount: Mounted,
}

impl Debugged {
    fn new() -> Self {
        let victim = Victim::ready(&Spec::c("debugged"));
        // The threads reach their system calls after the victim is ready.
        ckptfs_tests::wait::until("every thread sleeps", || {
            let tasks = fs::read_dir(format!("/proc/{}/task", victim.pid())).unwrap().flatten();
            let states: Vec<_> = tasks.map(|task| fs::read_to_string(task.path().join("stat")).unwrap()).collect();
            states.len() == 5 && states.iter().all(|stat| stat.contains(") S "))
        });
        let mount = Mounted::over(victim.pid());
        Self { victim, mount }
    }

    fn program(&self) -> PathBuf {
        self.victim.dir().join("debugged")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.mount.of(self.victim.pid(), name)
    }

    fn gdb(&self, commands: &[&str], of: &[&Path]) -> String {
        let mut argv: Vec<PathBuf> = ["gdb", "-nx", "-batch"].iter().map(PathBuf::from).collect();
        argv.extend(commands.iter().flat_map(|command| ["-ex".into(), PathBuf::from(command)]));
        argv.push(self.program());
        argv.extend(of.iter().map(|path| path.to_path_buf()));
        tool::run(&argv).success().text()
    }
}

/// Threads and frames, without what a core file does not have: the names of threads.
fn backtraces(text: &str) -> Vec<String> {
    let wanted =
        text.lines().filter(|line| line.starts_with('#') || line.starts_with("Thread ") && line.ends_with(':'));
    let line = |line: &str| match line.split_once(") \"") {
        Some((thread, _)) => format!("{thread})):"),
        None => line.to_owned(),
    };
    // The first frame appears twice: gdb also shows it for the selected thread.
    let all: Vec<String> = wanted.map(line).collect();
    let first = all.iter().position(|line| line.starts_with("Thread ")).unwrap_or_else(|| panic!("{text}"));
    all[first..].to_vec()
}

#[test]
fn gdb_sees_what_it_sees_attached() {
    let it = Debugged::new();
    let pid = it.victim.pid().to_string();
    let all = ["thread apply all bt", "thread apply all info registers rip rsp rax orig_rax xmm0 ymm1"];
    let attached = it.gdb(&all, &[Path::new("-p"), Path::new(&pid)]);
    let core = it.gdb(&all, &[&it.file("core")]);
    let (there, here) = (backtraces(&attached), backtraces(&core));
    assert_eq!(here.iter().filter(|line| line.starts_with("Thread ")).count(), 10, "{core}");
    for function in ["waits_for_condition", "sleeps_long", "polls_for_ever", "sits_deep", "main_waits"] {
        assert!(here.iter().any(|line| line.contains(function)), "no {function} in\n{core}");
    }
    assert_eq!(there, here, "attached:\n{attached}\ncore:\n{core}");
    // The first attach has interrupted the sleeping calls, and the kernel continues them by
    // restart_syscall. The core file must still show what gdb shows attached.
    let registers = |text: &str| -> Vec<String> {
        let lines =
            text.lines().filter(|line| ["rip ", "rsp ", "rax ", "orig_rax "].iter().any(|it| line.starts_with(it)));
        lines.map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")).collect()
    };
    let attached = it.gdb(&all, &[Path::new("-p"), Path::new(&pid)]);
    assert_eq!(registers(&attached), registers(&it.gdb(&all, &[&it.file("core")])));
    assert_eq!(registers(&attached).len(), 20);
}

#[test]
fn gdb_reads_memory_and_notes() {
    let it = Debugged::new();
    let commands = [
        "x/s changed",
        "x/s constant",
        "x/s heap",
        "x/s sparse+(40<<20)",
        "p *(sparse+(50<<20))",
        "x/s shared+4096",
        "x/3i main",
        "info auxv",
        "p $_siginfo.si_signo",
        "info proc mappings",
        "x/s hidden",
    ];
    let text = it.gdb(&commands, &[&it.file("core")]);
    for expected in [
        "<changed>:\t\"second words\"",
        "<constant>:\t\"never changed\"",
        "\"on the heap\"",
        "\"far inside\"",
        "= 0 '\\000'",
        "\"shared words\"",
        "AT_SYSINFO_EHDR",
        "AT_EXECFN            File name of executable",
        "$2 = 0",
        "debugged\n",
    ] {
        assert!(text.contains(expected), "no {expected:?} in\n{text}");
    }
    // The mapping has MADV_DONTDUMP.
    assert!(!text.contains("not for core files"), "{text}");
    let same =
        ["x/s changed", "x/s heap", "x/3i main", "x/s sparse+(40<<20)", "x/s shared+4096", "x/20xw $sp", "info auxv"];
    let pid = it.victim.pid().to_string();
    let told = |text: String| -> Vec<String> {
        let lines =
            text.lines().filter(|line| line.starts_with("0x") || line.contains("AT_") || line.starts_with("   "));
        lines.filter(|line| !line.contains(" in ")).map(str::to_owned).collect()
    };
    let attached = told(it.gdb(&same, &[Path::new("-p"), Path::new(&pid)]));
    assert_eq!(told(it.gdb(&same, &[&it.file("core")])), attached);
    assert!(attached.len() > 20, "{attached:?}");
}

/// The core files of a pinned snapshot and of a mounted image are the same as that of the live
/// process, and gdb shows the same for them.
#[test]
fn gdb_sees_the_same_in_what_is_kept() {
    let it = Debugged::new();
    let pinned = it.file("snapshots/now");
    fs::create_dir(&pinned).unwrap();
    let snap = it.mount.snap("snap");
    let _copied = tool::run(&[Path::new("cp"), &pinned.join("image"), &snap]).success();
    let stored = Mounted::with(&[Path::new("--image"), &snap]);
    let all = ["thread apply all bt", "x/s heap", "x/s shared+4096"];
    let backtraces_of = |core: &Path| {
        let text = it.gdb(&all, &[core]);
        assert!(text.contains("\"on the heap\"") && text.contains("\"shared words\""), "{text}");
        backtraces(&text)
    };
    let pid = it.victim.pid().to_string();
    let attached = backtraces(&it.gdb(&all, &[Path::new("-p"), Path::new(&pid)]));
    assert_eq!(backtraces_of(&pinned.join("core")), attached);
    assert_eq!(backtraces_of(&stored.of(it.victim.pid(), "core")), attached);
    fs::remove_dir(pinned).unwrap();
}

#[test]
fn tools_read_it_without_complaint() {
    let it = Debugged::new();
    let core = it.mount.snap("core");
    let script = r#"
        cp --sparse=auto "$1" "$2"
        file "$2" | grep -q "core file, x86-64.*from '.*debugged'"
        readelf -a -W "$2" > /dev/null
        eu-readelf -h -l -n "$2"
        eu-stack --core "$2" --executable "$3" | grep -q polls_for_ever
    "#;
    let told = tool::shell(script, &[&it.file("core"), &core, &it.program()]).success();
    assert_eq!(told.stderr, "");
    let text = told.text();
    for note in ["PRSTATUS", "PRPSINFO", "SIGINFO", "AUXV", "FILE", "FPREGSET", "X86_XSTATE"] {
        assert!(text.contains(&format!(" {note}\n")), "no {note} in\n{text}");
    }
    // The main thread comes first.
    let first = text.lines().find(|line| line.trim_start().starts_with("pid: ")).unwrap();
    assert!(first.trim().starts_with(&format!("pid: {}, ppid: ", it.victim.pid())), "{first}");
}

#[test]
fn its_size_is_true_and_holes_stay_holes() {
    let it = Debugged::new();
    let path = it.file("core");
    let bound = fs::metadata(&path).unwrap().len();
    let held = File::open(&path).unwrap();
    let facts = held.metadata().unwrap();
    assert!(bound >= facts.len() && facts.len() > 4096, "{} bytes, but stat said {bound} before the open", facts.len());
    assert!(facts.blocks() * 512 < facts.len(), "{} blocks of {} bytes", facts.blocks(), facts.len());
    drop(held);
    // The tools inherit a descriptor of the shell, so they share its instant.
    let script = r#"
        exec 9< "$1"
        cp --sparse=auto "$1" "$2"
        cat "$1" | cmp - "$2"
        test "$(stat -c %s "$2")" = "$(stat -L -c %s /dev/fd/9)"
        test "$(du -k "$2" | cut -f1)" -le "$(($(stat -L -c %b /dev/fd/9) / 2 + 16))"
        for skip in 1 4095 4096 100001; do
            dd if="$1" bs=1 skip=$skip count=9000 status=none | cmp - <(dd if="$2" bs=1 skip=$skip count=9000 status=none)
        done
    "#;
    let _equal = tool::shell(script, &[path, it.mount.snap("copy")]).success();
}

#[test]
fn a_stored_image_gives_the_same_core() {
    let it = Debugged::new();
    let snap = it.mount.snap("snap");
    // The tools inherit a descriptor of the shell, so they share its instant.
    let script = r#"
        exec 9< "$1/image"
        cat "$1/image" > "$2"
        cp --sparse=auto "$1/core" "$2.live"
        "$3" core "$2" > "$2.stored"
        cmp "$2.live" "$2.stored"
        test "$(du -k "$2.stored" | cut -f1)" -le "$(($(du -k "$2.live" | cut -f1) + 16))"
        "$3" core --pid "$4" "$2" | cmp - "$2.live"
        printf before > "$2.appended"
        "$3" core "$2" >> "$2.appended"
        tail -c +7 "$2.appended" | cmp - "$2.live"
        head -c 3000000 /dev/urandom > "$2.full"
        "$3" core "$2" 1<> "$2.full"
        head -c "$(stat -c %s "$2.live")" "$2.full" | cmp - "$2.live"
        test ! -s "$2.err"
    "#;
    let pid = it.victim.pid().to_string();
    let folder = it.file("");
    let args = [folder.as_path(), &snap, &build::ckptfs(), Path::new(&pid)];
    let told = tool::shell(script, &args).success();
    assert_eq!(told.stderr, "");
    let run = |script: &str, image: &Path| tool::shell(script, &[build::ckptfs().as_path(), image]);
    run("\"$1\" core --pid 1 \"$2\"", &snap).fails_with(&format!("pid 1 is not in it: there are {pid}"));
    run("cat \"$2\" | \"$1\" core /dev/stdin", &snap).fails_with("is no regular file");
    let cut = it.mount.snap("cut");
    fs::write(&cut, &fs::read(&snap).unwrap()[..10_000]).unwrap();
    run("\"$1\" core \"$2\"", &cut).fails_with("offset 10000: the image is truncated");
    // The process continues and is undisturbed.
    assert!(process::is_alive(it.victim.pid()));
}
