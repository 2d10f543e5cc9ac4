#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::json;

use crate::checkpoint::elf_core::*;
use crate::checkpoint::fake::{FakeCheckpoint, byte_at};

const PAGE_AT: u64 = 0x7f00_0000_0000;

/// A process of one thread, without memory so far.
fn fake(filter: &str) -> FakeCheckpoint {
    let mut fake = FakeCheckpoint::of(&[(7, 0)]);
    let zeros =
        |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), json!(0))).collect::<serde_json::Map<_, _>>();
    let with = |mut fields: serde_json::Map<String, serde_json::Value>, more: serde_json::Value| {
        fields.insert("tid".into(), json!(7));
        fields.extend(more.as_object().unwrap().clone());
        serde_json::Value::Object(fields)
    };
    fake.record(
        b"VDSO",
        json!({"tid": 7, "parts": [["[vvar]", 0x1000, 0x5000], ["[vdso]", 0x5000, 0x7000]], "sha256": ""}),
    );
    let addresses = [
        "start_code",
        "end_code",
        "start_data",
        "end_data",
        "start_brk",
        "brk",
        "start_stack",
        "arg_start",
        "arg_end",
        "env_start",
        "env_end",
        "exe",
        "personality",
        "hole",
    ];
    fake.record(b"MMAP", with(zeros(&addresses), json!({"auxv": [6, 4096, 0, 0], "arg_end": 12})));
    let identity = json!({"tid": 7, "comm": b"seven", "clear_child_tid": 0, "robust_list": [0, 0], "rseq": [0, 0, 0], "altstack": [0, 0, 0]});
    fake.record(b"IDEN", identity);
    let sched =
        ["policy", "flags", "priority", "runtime_ns", "deadline_ns", "period_ns", "util_min", "util_max", "ioprio"];
    fake.record(b"SCHD", with(zeros(&sched), json!({"nice": -3, "cpus": []})));
    let sets = ["inheritable", "permitted", "effective", "bounding", "ambient", "securebits"];
    let ids = json!({"uids": [1000, 1, 2, 3], "gids": [100, 1, 2, 3], "groups": [], "no_new_privs": false});
    fake.record(b"CRED", with(zeros(&sets), ids));
    fake.record(b"PRCT", json!({"tid": 7, "settings": {}, "files": {"coredump_filter": filter}}));
    let mut pending = vec![0; 256];
    (pending[0], pending[128]) = (10, 64);
    fake.record_with(b"SIGQ", json!({"tid": 7, "private": 1, "shared": 1}), pending);
    let names = "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base ds es fs gs";
    let general: serde_json::Map<_, _> =
        names.split(' ').zip(100..).map(|(name, n)| (name.to_owned(), json!(n))).collect();
    let registers = json!({"tid": 7, "general": general, "blocked": 6, "xcr0": 7, "asleep": null, "shown": [1, 2]});
    fake.record_with(b"REGS", registers, vec![0xab; 832]);
    fake
}

fn core(fake: FakeCheckpoint) -> Core {
    Core::new(&Arc::new(fake.view()), 7).unwrap()
}

fn whole(core: &Core) -> Vec<u8> {
    let mut bytes = vec![0xee; core.len() as usize + 10];
    let len = core.read_at(0, &mut bytes).unwrap();
    assert_eq!(len as u64, core.len());
    bytes.truncate(len);
    bytes
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn half(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// p_offset, p_vaddr, p_filesz, p_memsz of all program headers.
fn headers(bytes: &[u8]) -> Vec<[u64; 4]> {
    let count = match u16::from_le_bytes([bytes[56], bytes[57]]) {
        0xffff => half(bytes, word(bytes, 40) as usize + 44) as usize,
        count => usize::from(count),
    };
    (0..count).map(|n| [8, 16, 32, 40].map(|field| word(bytes, 64 + n * 56 + field))).collect()
}

/// Name, type and description.
fn notes(bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
    let [mut at, _, len, _] = headers(bytes)[0].map(|word| word as usize);
    let end = at + len;
    let mut found = Vec::new();
    while at < end {
        let [name, desc] = [0, 4].map(|field| half(bytes, at + field) as usize);
        let name_at = at + 12;
        let desc_at = name_at + name.next_multiple_of(4);
        let text = String::from_utf8(bytes[name_at..name_at + name - 1].to_vec()).unwrap();
        found.push((text, half(bytes, at + 8), bytes[desc_at..desc_at + desc].to_vec()));
        at = desc_at + desc.next_multiple_of(4);
    }
    found
}

#[test]
fn notes_stand_in_the_kernels_order_with_its_structs() {
    let notes = notes(&whole(&core(fake("00000033"))));
    let kinds: Vec<_> = notes.iter().map(|(name, kind, desc)| (name.as_str(), *kind, desc.len())).collect();
    let expected = [
        ("CORE", 1, 336),
        ("CORE", 3, 136),
        ("CORE", 0x5349_4749, 128),
        ("CORE", 6, 32),
        ("CORE", 0x4649_4c45, 16),
        ("CORE", 2, 512),
        ("LINUX", 0x202, 832),
        ("LINUX", 0x205, 16),
    ];
    assert_eq!(kinds, expected);
    let status = &notes[0].2;
    assert_eq!((word(status, 16), word(status, 24)), (1 << 9, 6), "pending for the thread, blocked");
    assert_eq!([32, 36, 40, 44].map(|at| half(status, at)), [7, 1, 7, 7]);
    // r15, rax, orig_rax, rip, gs.
    assert_eq!([0, 10, 15, 16, 26].map(|n| word(status, 112 + n * 8)), [100, 1, 2, 116, 126]);
    let info = &notes[1].2;
    assert_eq!((&info[..4], half(info, 16), half(info, 20), half(info, 24)), (&[0, b'R', 0, 253][..], 1000, 100, 7));
    assert_eq!((&info[40..46], &info[56..]), (&b"seven\0"[..], &[0; 80][..]), "its arguments are nowhere");
    assert_eq!((&notes[5].2[415..417], &notes[6].2[..4]), (&[0xab, 0][..], &[0xab; 4][..]));
    assert_eq!(notes[7].2, [2_u32, 256, 576, 0].map(u32::to_le_bytes).concat(), "PKRU is not in this state");
}

#[test]
fn contents_and_holes_are_told_as_they_are_read() {
    let mut fake = fake("00000033");
    let far = PAGE_AT + (3 << 20);
    let pages = [(PAGE_AT + 0x1000, 2), (PAGE_AT + 0x5000, 1), (far, 1)];
    let source = fake.area(7, (PAGE_AT, PAGE_AT + (9 << 20)), "ANON", &pages, &[]);
    let core = core(fake);
    let bytes = whole(&core);
    // The notes, the vDSO in two parts, and the mapping in two parts.
    let loads = &headers(&bytes)[3..];
    let first = bytes.len() as u64 - 0x7000;
    assert_eq!(loads[0], [first, PAGE_AT, 0x6000, 3 << 20]);
    assert_eq!(loads[1], [first + 0x6000, far, 0x1000, 6 << 20]);
    for (address, pages) in pages {
        let at = (if address < far { first + address - PAGE_AT } else { first + 0x6000 }) as usize;
        let expected: Vec<u8> = (address..address + pages * 4096).map(|at| byte_at(source, at)).collect();
        assert!(bytes[at..at + expected.len()] == expected);
    }
    // A read at any offset gives the same bytes, holes read as zeros, and data and holes alternate.
    for at in (0..bytes.len()).step_by(997) {
        let mut part = [0xee; 5000];
        let len = core.read_at(at as u64, &mut part).unwrap();
        assert!(part[..len] == bytes[at..(at + 5000).min(bytes.len())]);
    }
    let (mut at, mut stored) = (0, 0);
    while let Some(data) = core.seek(at, true).unwrap() {
        assert!(bytes[at as usize..data as usize].iter().all(|byte| *byte == 0), "{at:#x}..{data:#x}");
        at = core.seek(data, false).unwrap().unwrap();
        stored += at - data;
    }
    assert_eq!((at, stored), (core.len(), core.stored().unwrap()));
    assert_eq!(stored, first + 4 * 4096);
    assert_eq!((core.seek(core.len(), true).unwrap(), core.seek(core.len(), false).unwrap()), (None, None));
    assert_eq!(core.seek(first, true).unwrap(), Some(first + 0x1000));
    assert_eq!(core.seek(first + 0x1000, false).unwrap(), Some(first + 0x3000));
}

#[test]
fn what_is_not_asked_for_is_not_there() {
    let len = |filter: &str| {
        let mut fake = fake(filter);
        fake.area(7, (PAGE_AT, PAGE_AT + 0x4000), "ANON", &[(PAGE_AT, 1)], &[]);
        let bytes = whole(&core(fake));
        headers(&bytes).last().unwrap()[2..].to_vec()
    };
    assert_eq!((len("00000033"), len("00000032")), (vec![0x4000, 0x4000], vec![0, 0x4000]));
}

#[test]
fn a_file_that_is_mapped_has_no_zeros_in_place_of_its_pages() {
    let mut fake = fake("00000033");
    fake.area(7, (PAGE_AT, PAGE_AT + 0x5000), "FILE", &[(PAGE_AT + 0x1000, 1), (PAGE_AT + 0x3000, 1)], &[]);
    let bytes = whole(&core(fake));
    let loads: Vec<_> = headers(&bytes)[3..].iter().map(|load| [load[1] - PAGE_AT, load[2], load[3]]).collect();
    assert_eq!(loads, [[0, 0, 0x1000], [0x1000, 0x1000, 0x2000], [0x3000, 0x1000, 0x2000]]);
    assert_eq!(word(&notes(&bytes)[4].2, 0), 1);
}

#[test]
fn more_mappings_than_the_header_can_tell() {
    for (mappings, sections) in [(0xffff - 4, 0), (0xffff - 3, 1), (70_000, 1)] {
        let mut fake = fake("00000033");
        for n in 0..mappings {
            fake.area(7, (PAGE_AT + n * 0x2000, PAGE_AT + n * 0x2000 + 0x1000), "ANON", &[], &[]);
        }
        let core = core(fake);
        let bytes = whole(&core);
        assert_eq!(headers(&bytes).len() as u64, mappings + 3, "with the notes and two parts of the vDSO");
        assert_eq!((u64::from(bytes[60]), word(&bytes, 40) != 0), (sections, sections == 1));
        assert!(headers(&bytes).windows(2).skip(1).all(|pair| pair[0][1] < pair[1][1]));
    }
}

#[test]
fn who_is_not_there_has_none() {
    let view = Arc::new(fake("00000033").view());
    let error = Core::new(&view, 8).map(drop).unwrap_err();
    assert_eq!(error.kind(), crate::error::Kind::NoProcess);
}
