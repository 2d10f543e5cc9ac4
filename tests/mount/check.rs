//! `ckptfs check`, the file `check` and `ckptfs ps` say beforehand what would refuse a dump. They
//! stop no process.

use std::fs;

use ckptfs_tests::{Event, Mounted, Spec, Victim, build, process, tool, wait};

/// A process with a listening socket and a pidfd, and a child with a socket. It closes all of them
/// when the file `go` appears.
const HOLDERS: &str = r"
import os, socket, time
def wait(path):
    while not os.path.exists(path):
        time.sleep(0.01)
tcp = socket.socket(); tcp.bind(('127.0.0.1', 0)); tcp.listen()
process = os.pidfd_open(os.getpid())
if os.fork() == 0:
    tcp.close(); os.close(process)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    open('child', 'w').close()
    wait('go')
    udp.close(); open('child.closed', 'w').close()
else:
    wait('child')
    open('ready', 'w').close()
    wait('go')
    tcp.close(); os.close(process); open('closed', 'w').close()
time.sleep(3600)
";

fn holders() -> Victim {
    let victim = Victim::start(&Spec::command("python3").arg("-c").arg(HOLDERS));
    wait::until("the holders hold", || victim.dir().join("ready").exists());
    victim
}

fn check(pids: &[i32]) -> tool::Output {
    let pids = pids.iter().map(|pid| pid.to_string().into());
    let words: Vec<std::ffi::OsString> = [build::ckptfs().into(), "check".into()].into_iter().chain(pids).collect();
    tool::run(&words)
}

/// Each of the three lines is there once, and only those.
#[test]
fn check_lists_everything_at_once() {
    let victim = holders();
    let pid = victim.pid();
    let child = process::children(pid)[0];
    let mount = Mounted::over(pid);
    let found = check(&[pid]);
    assert_eq!(found.code, 1, "{}{}", found.text(), found.stderr);
    let text = found.text();
    let begins = |line: &str| text.lines().filter(|it| it.starts_with(line)).count() == 1;
    assert!(begins(&format!("pid {pid} fd 3: TCP socket 127.0.0.1:")), "{text}");
    assert!(begins(&format!("pid {pid} fd 4: a pidfd ")), "{text}");
    assert!(begins(&format!("pid {child} fd 3: UDP socket ")) || begins(&format!("pid {child} fd 5: UDP")), "{text}");
    assert_eq!(text.lines().count(), 3, "{text}");
    assert_eq!(fs::read_to_string(mount.of(pid, "check")).unwrap(), text);
    // A tree within another one is not named twice.
    assert_eq!(check(&[pid, child]).text(), text);
    let of_child = check(&[child]).text();
    assert_eq!(of_child.lines().count(), 1, "{of_child}");
    // The dump ends with the first of the lines.
    tool::run(&["cat".into(), mount.of(pid, "image")]).fails_with("Operation not supported");
    let told = mount.status()["last_error"][pid.to_string()].as_str().unwrap().to_owned();
    assert_eq!(text.lines().next(), Some(&*told));
    fs::write(victim.dir().join("go"), "").unwrap();
    wait::until("all is closed", || ["closed", "child.closed"].iter().all(|name| victim.dir().join(name).exists()));
    let found = check(&[pid]).success();
    assert!(found.stdout.is_empty(), "{}", found.text());
    assert_eq!(fs::read_to_string(mount.of(pid, "check")).unwrap(), "");
    mount.dump(pid, &mount.snap("closed"));
}

/// Its tracer has it, so nobody else could stop it: a look needs no stop.
#[test]
fn check_looks_at_a_process_that_cannot_be_stopped() {
    let victim = Victim::ready(&Spec::c("counter"));
    let pid = victim.pid();
    let mut tracer = tool::command(&["strace", "-f", "-o", "/dev/null", "-p", &pid.to_string()]).spawn().unwrap();
    wait::until("it is traced", || process::status(pid, "TracerPid").is_some_and(|tracer| tracer != "0"));
    let by = process::status(pid, "TracerPid").unwrap();
    let found = check(&[pid]);
    assert_eq!(found.text(), format!("pid {pid}: it is traced already, by pid {by} (strace)\n"), "{}", found.stderr);
    process::kill(by.parse().unwrap(), nix::sys::signal::Signal::SIGTERM);
    tracer.wait().unwrap();
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ready(2));
    victim.go(2);
    assert_eq!(victim.event(2), Event::Ok);
    victim.finish();
}

#[test]
fn check_without_a_process() {
    check(&[2_000_000_000]).fails_with("pid 2000000000: no such process");
    let victim = Victim::ready(&Spec::c("threads_count"));
    let tasks = fs::read_dir(format!("/proc/{}/task", victim.pid())).unwrap();
    let tids = tasks.map(|task| task.unwrap().file_name().to_str().unwrap().parse::<i32>().unwrap());
    let thread = tids.into_iter().find(|tid| *tid != victim.pid()).unwrap();
    check(&[thread]).fails_with(&format!("pid {thread}: a thread of process {}, not a process", victim.pid()));
    // With no pid it looks at every process, also at that of a tree without a mount.
    let holders = holders();
    let found = check(&[]);
    assert_eq!(found.code, 1);
    assert!(found.text().contains(&format!("\npid {} fd 4: a pidfd ", holders.pid())), "{}", found.text());
}

#[test]
fn ps_lists_trees_and_what_blocks_them() {
    let (good, bad) = (Victim::ready(&Spec::c("fork_one")), holders());
    let (over_good, over_bad) = (Mounted::over(good.pid()), Mounted::over(bad.pid()));
    let ps = || tool::run(&[build::ckptfs().as_os_str(), "ps".as_ref()]).success().text();
    let row = |pid: i32| {
        let begin = format!("{pid} ");
        let text = ps();
        let row = text.lines().find(|line| line.trim_start().starts_with(&begin)).map(str::to_owned);
        row.unwrap_or_else(|| panic!("no {pid} in\n{text}"))
    };
    let words = |row: String| row.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let before = words(row(good.pid()));
    assert_eq!((&*before[2], &*before[3], &*before[4]), ("-", "fork_one", "yes"));
    over_good.dump(good.pid(), &over_good.snap("good"));
    let dumped = over_good.status()["last_dump"][good.pid().to_string()].as_str().unwrap().to_owned();
    assert_eq!(words(row(good.pid()))[2], dumped);
    let child = process::children(good.pid())[0];
    assert!(row(child).contains("   fork_one  "), "below its parent: {}", row(child));
    let blocked = row(bad.pid());
    let reason = format!("  no: pid {} fd 3: TCP socket 127.0.0.1:", bad.pid());
    assert!(blocked.contains(&reason) && blocked.ends_with(" (and 2 more)"), "{blocked}");
    assert!(ps().contains(&format!("{}\n", over_bad.path().display())));
    good.go(1);
    assert_eq!(good.event(1), Event::Ok);
    good.finish();
}

/// Of a process of another user only its owner and root may see it.
#[test]
fn check_is_for_the_owner() {
    let victim = Victim::ready(&Spec::c("worker").user(65534));
    let mount = Mounted::over(victim.pid());
    let as_user = |uid: &str, name: &str| {
        tool::run(&[
            "setpriv".into(),
            "--reuid".into(),
            uid.into(),
            "--regid".into(),
            uid.into(),
            "--clear-groups".into(),
            "cat".into(),
            mount.of(victim.pid(), name),
        ])
    };
    assert!(as_user("65534", "check").success().stdout.is_empty());
    as_user("65533", "check").fails_with("Permission denied");
    victim.go(1);
    victim.finish();
}
