//! The only code that is ever put into another process: a loop that makes an array of system calls,
//! and the return to the program.
//!
//! It is entered with `rbx` = the array, `r12` = the number of calls, `r13` = stack pointer for
//! `rt_sigreturn` (behind the first word of a signal frame), `r14`/`r15` = the task's own tgid and
//! tid, `rbp` = the wake signal. Each element is eight words: number, six arguments, result. At the
//! end the task sends itself the wake signal (one that is ignored by default). A traced task stops
//! there, and the tracer reads the results. If the tracer has died in the meantime, the task
//! ignores the signal and returns through the signal frame to exactly where it was. An `int3` there
//! would kill it.
//!
//! After clone(2) (not clone3) the child takes another path. It names itself, so that even its
//! zombie is recognised as a snapshot child. It gives up all that it shares with its parent: the
//! descriptors, the session (a signal to the session would reach it), and the directory (which it
//! would keep busy). It sends itself the wake signal and, if it ever runs on from there, exits. Its
//! `rbx` is then the result of close_range(2): 0 if it has a descriptor table of its own.

use std::arch::global_asm;

global_asm!(
    ".pushsection .rodata.ckptfs_stub, \"a\", @progbits",
    ".global ckptfs_stub_begin, ckptfs_stub_done, ckptfs_stub_end",
    ".hidden ckptfs_stub_begin, ckptfs_stub_done, ckptfs_stub_end",
    "ckptfs_stub_begin:",
    "2: test r12, r12",
    "jz 3f",
    "mov rax, [rbx]",
    "mov rdi, [rbx + 8]",
    "mov rsi, [rbx + 16]",
    "mov rdx, [rbx + 24]",
    "mov r10, [rbx + 32]",
    "mov r8, [rbx + 40]",
    "mov r9, [rbx + 48]",
    "syscall",
    "cmp qword ptr [rbx], 56", // clone
    "jne 7f",
    "test rax, rax",
    "jz 4f",
    "7: mov [rbx + 56], rax",
    "add rbx, 64",
    "dec r12",
    "jmp 2b",
    "3: mov edi, r14d",
    "mov esi, r15d",
    "mov edx, ebp",
    "mov eax, 234", // tgkill
    "syscall",
    "ckptfs_stub_done:",
    "mov rsp, r13",
    "mov eax, 15", // rt_sigreturn
    "syscall",
    "ud2",
    "4: mov edi, 15", // PR_SET_NAME
    "lea rsi, [rip + 5f]",
    "mov eax, 157", // prctl
    "syscall",
    "xor edi, edi",
    "mov esi, 0xffffffff",
    "mov edx, 2",   // CLOSE_RANGE_UNSHARE
    "mov eax, 436", // close_range
    "syscall",
    "mov rbx, rax",
    "mov eax, 112", // setsid
    "syscall",
    "lea rdi, [rip + 6f]",
    "mov eax, 80", // chdir
    "syscall",
    "mov eax, 39", // getpid
    "syscall",
    "mov edi, eax",
    "mov esi, eax",
    "mov edx, ebp",
    "mov eax, 234", // tgkill
    "syscall",
    "xor edi, edi",
    "mov eax, 231", // exit_group
    "syscall",
    "ud2",
    "5: .asciz \"ckptfs-snapshot\"",
    "6: .asciz \"/\"",
    "ckptfs_stub_end:",
    ".popsection",
);

unsafe extern "C" {
    static ckptfs_stub_begin: u8;
    static ckptfs_stub_done: u8;
    static ckptfs_stub_end: u8;
}

/// The machine code, position-independent.
pub fn code() -> &'static [u8] {
    let begin = &raw const ckptfs_stub_begin;
    let end = &raw const ckptfs_stub_end;
    // SAFETY: both symbols delimit one read-only section of this binary.
    unsafe { std::slice::from_raw_parts(begin, end.addr() - begin.addr()) }
}

/// Offset of the instruction behind the call that wakes the tracer. A task is there when its batch
/// is complete.
pub fn done() -> u64 {
    let begin = &raw const ckptfs_stub_begin;
    let done = &raw const ckptfs_stub_done;
    (done.addr() - begin.addr()) as u64
}
