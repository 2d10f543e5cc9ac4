//! The notes of a core file, in the kernel's order (`write_note_info` in fs/binfmt_elf.c):
//! NT_PRSTATUS of the first thread, the notes of the whole process, the first thread's other
//! registers, the other threads, and last the layout of the extended state.
//!
//! Registers are those that gdb shows if it is attached. Fields that the image lacks are zero: CPU
//! times, process flags, and the signal of death, because the process did not die.

use std::collections::BTreeMap;

use object::elf;

use crate::checkpoint::view::View;
use crate::error::{Context, Error, Kind, Result};
use crate::image::frame::Tag;
use crate::image::record_set::RecordView;
use crate::kind::record_sort::{Role, Subject};
use crate::memory::vdso::{self, Vdso};
use crate::pstree::record::{self, Ended};
use crate::records;
use crate::sys::memory::PAGE;
use crate::sys::pid::Pid;
use crate::sys::ptrace::SIGINFO_LEN;
use crate::task::{address_space, creds, prctl, registers, registrations, sched, signals};

/// The coredump_filter of a process that has no record of it (MMF_DUMP_FILTER_DEFAULT).
const DEFAULT_FILTER: u64 = 0x33;
/// Where the extended state holds each component; since Linux 6.12.
const NT_X86_XSAVE_LAYOUT: elf::NoteType = elf::NoteType(0x205);
/// sizeof(struct user_fpregs_struct): the legacy area of XSAVE.
const FPREGS: usize = 512;
/// Behind this offset the legacy area holds no registers.
const FPREGS_USED: usize = 416;
/// sizeof(pr_psargs).
const ARGUMENTS: usize = 80;
/// sizeof(pr_fname).
const NAME: usize = 16;

/// The records of one process.
pub struct CoreProcess<'a> {
    /// Its id.
    pub pid: Pid,
    told: &'a record::Process,
    /// Records of its tasks.
    records: BTreeMap<(Tag, Pid), RecordView<'a>>,
    /// Records of open files, by id.
    files: BTreeMap<u32, RecordView<'a>>,
}

impl<'a> CoreProcess<'a> {
    /// The process `pid` of `view`.
    pub fn find(view: &'a View, pid: Pid) -> Result<Self> {
        let gone = |why: &str| Error::new(Kind::NoProcess, format!("pid {pid}{why}"));
        let told = view.tree()?.processes.iter().find(|process| process.pid == pid && !process.is_placeholder());
        let told = told.ok_or_else(|| gone(" is not in the image"))?;
        if let Some(Ended { status, .. }) = told.ended {
            return Err(gone(&format!(" has ended (status {status:#x}): there is nothing left of it")));
        }
        let (mut of_tasks, mut files) = (BTreeMap::new(), BTreeMap::new());
        for record in view.records().records() {
            let Some(sort) = records::sort(record.tag) else { continue };
            if !matches!(sort.role, Role::Task | Role::OpenFile) {
                continue;
            }
            match Subject::of(Some(sort.role), &record)? {
                Subject::OpenFile(id) => {
                    files.insert(id, record);
                }
                Subject::Task(tid) if told.threads.contains(&tid) => {
                    of_tasks.insert((record.tag, tid), record);
                }
                _ => {}
            }
        }
        Ok(Self { pid, told, records: of_tasks, files })
    }

    fn record(&self, tag: Tag, tid: Pid) -> Result<&RecordView<'a>> {
        let missing = || Error::damaged(format!("pid {} task {tid}: no record {tag}", self.pid));
        self.records.get(&(tag, tid)).ok_or_else(missing)
    }

    /// The record of an open file, by its id.
    pub fn file(&self, id: u32) -> Option<&RecordView<'a>> {
        self.files.get(&id)
    }

    /// Its vDSO.
    pub fn vdso(&self) -> Result<Vdso> {
        self.record(vdso::TAG, self.pid)?.body()
    }

    /// The bits of its coredump_filter (core(5)).
    pub fn coredump_filter(&self) -> Result<u64> {
        let told = prctl::coredump_filter(self.record(prctl::TAG, self.told.representative())?)?;
        Ok(told.unwrap_or(DEFAULT_FILTER))
    }

    /// The threads that have not ended. The first one represents the process.
    fn threads(&self) -> impl Iterator<Item = Pid> {
        let ended = usize::from(self.told.leader_ended.is_some());
        self.told.threads.iter().copied().skip(ended)
    }
}

/// All notes of a process.
pub fn encode(view: &View, process: &CoreProcess<'_>) -> Result<Vec<u8>> {
    let mut notes = Notes::default();
    for (n, tid) in process.threads().enumerate() {
        let registers = process.record(registers::TAG, tid)?;
        notes.add("CORE", elf::NT_PRSTATUS, &status(process, tid)?);
        if n == 0 {
            notes.add("CORE", elf::NT_PRPSINFO, &info(view, process)?);
            notes.add("CORE", elf::NT_SIGINFO, &siginfo(process));
            let auxv = program(process)?.auxv;
            notes.add("CORE", elf::NT_AUXV, &auxv.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>());
            notes.add("CORE", elf::NT_FILE, &files(view, process)?);
        }
        let mut legacy = registers.blob.to_vec();
        legacy.resize(FPREGS, 0);
        legacy[FPREGS_USED..].fill(0);
        notes.add("CORE", elf::NT_FPREGSET, &legacy);
        notes.add("LINUX", elf::NT_X86_XSTATE, registers.blob);
    }
    let layout = xsave_layout(view, process)?;
    if !layout.is_empty() {
        notes.add("LINUX", NT_X86_XSAVE_LAYOUT, &layout);
    }
    Ok(notes.0)
}

/// An array of struct x86_xfeat_component, arch/x86/include/uapi/asm/elf.h: type, size, offset,
/// flags.
fn xsave_layout(view: &View, process: &CoreProcess<'_>) -> Result<Vec<u8>> {
    let has = registers::shown(process.record(registers::TAG, process.told.representative())?)?.components;
    let layout = view.tree()?.xsave.iter().filter(|(number, ..)| has.checked_shr(*number).unwrap_or(0) & 1 == 1);
    Ok(layout.flat_map(|&(number, size, offset)| [number, size, offset, 0]).flat_map(u32::to_le_bytes).collect())
}

fn program(process: &CoreProcess<'_>) -> Result<address_space::Program> {
    // The record of the memory is there for a process that shares memory, too.
    address_space::program(process.record(address_space::TAG, process.told.representative())?)
}

#[derive(Default)]
struct Notes(Vec<u8>);

impl Notes {
    /// struct elf64_note, name and description, each padded to 4 bytes.
    fn add(&mut self, name: &str, kind: elf::NoteType, desc: &[u8]) {
        for word in [name.len() as u32 + 1, desc.len() as u32, kind.0] {
            self.0.extend_from_slice(&word.to_le_bytes());
        }
        for bytes in [&[name.as_bytes(), &[0]].concat()[..], desc] {
            self.0.extend_from_slice(bytes);
            self.0.resize(self.0.len().next_multiple_of(4), 0);
        }
    }
}

/// A struct of the kernel, field after field.
#[derive(Default)]
struct NoteFields(Vec<u8>);

impl NoteFields {
    fn add<const N: usize>(&mut self, field: [u8; N]) -> &mut Self {
        self.0.extend_from_slice(&field);
        self
    }

    fn ids(&mut self, process: &record::Process, tid: Pid) -> &mut Self {
        let record::Process { ppid, pgid, sid, .. } = process;
        self.add(tid.to_le_bytes()).add(ppid.to_le_bytes()).add(pgid.to_le_bytes()).add(sid.to_le_bytes())
    }
}

/// struct elf_prstatus, include/linux/elfcore.h.
fn status(process: &CoreProcess<'_>, tid: Pid) -> Result<Vec<u8>> {
    let shown = registers::shown(process.record(registers::TAG, tid)?)?;
    let pending = signals::pending(process.record(signals::QUEUES, tid)?)?;
    let signal = signal(process);
    let mut fields = NoteFields::default();
    // pr_info: si_signo, si_code, si_errno.
    fields.add(signal.to_le_bytes()).add([0; 8]);
    // pr_cursig, and to the next word.
    fields.add((signal as i16).to_le_bytes()).add([0; 2]);
    fields.add(pending.to_le_bytes()).add(shown.blocked.to_le_bytes());
    fields.ids(process.told, tid);
    // pr_utime, pr_stime, pr_cutime, pr_cstime.
    fields.add([0; 4 * 16]);
    fields.0.extend(shown.general.iter().flat_map(|word| word.to_le_bytes()));
    // pr_fpvalid, and to the next word.
    fields.add(1_i32.to_le_bytes()).add([0; 4]);
    Ok(fields.0)
}

/// The signal that stopped it, if any.
fn signal(process: &CoreProcess<'_>) -> i32 {
    process.told.stopped_by.unwrap_or(0)
}

fn siginfo(process: &CoreProcess<'_>) -> Vec<u8> {
    let mut info = signal(process).to_le_bytes().to_vec();
    info.resize(SIGINFO_LEN, 0);
    info
}

/// struct elf_prpsinfo, include/linux/elfcore.h.
fn info(view: &View, process: &CoreProcess<'_>) -> Result<Vec<u8>> {
    let speaker = process.told.representative();
    let nice = sched::nice(process.record(sched::TAG, speaker)?)?;
    let (uid, gid) = creds::real_ids(process.record(creds::TAG, speaker)?)?;
    let mut name = registrations::name(process.record(registrations::TAG, speaker)?)?;
    name.resize(NAME, 0);
    let mut fields = NoteFields::default();
    // pr_state, pr_sname, pr_zomb, pr_nice: the letters are "RSDTZW".
    let (state, letter) = if process.told.stopped_by.is_some() { (3, b'T') } else { (0, b'R') };
    fields.add([state, letter, 0, nice as i8 as u8]).add([0; 4]);
    // pr_flag.
    fields.add([0; 8]);
    fields.add(uid.to_le_bytes()).add(gid.to_le_bytes()).ids(process.told, process.pid);
    fields.0.extend(name);
    fields.0.extend(arguments(view, process)?);
    Ok(fields.0)
}

/// pr_psargs: the arguments, separated by spaces.
fn arguments(view: &View, process: &CoreProcess<'_>) -> Result<[u8; ARGUMENTS]> {
    let arguments = program(process)?.arguments;
    let len = arguments.end.saturating_sub(arguments.start).min(ARGUMENTS as u64 - 1) as usize;
    let mut text = [0; ARGUMENTS];
    match view.read_memory(process.pid, arguments.start, &mut text[..len]) {
        Ok(()) => text[..len].iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b' '),
        // The arguments lie where nothing is mapped, or is mapped any more.
        Err(error) if error.kind() == Kind::NotFound => text.fill(0),
        Err(error) => return Err(error).on(|| format!("pid {}: its arguments", process.pid)),
    }
    Ok(text)
}

/// NT_FILE: which files are mapped where (`fill_files_note`).
fn files(view: &View, process: &CoreProcess<'_>) -> Result<Vec<u8>> {
    let areas = view.memory()?.of_process(process.pid)?;
    let mapped: Vec<_> = areas.iter().map(|area| &area.vma).filter(|vma| vma.file.is_some()).collect();
    let mut words = vec![mapped.len() as u64, PAGE];
    words.extend(mapped.iter().flat_map(|vma| [vma.start, vma.end, vma.offset / PAGE]));
    let mut bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
    for vma in mapped {
        bytes.extend_from_slice(vma.name());
        bytes.push(0);
    }
    Ok(bytes)
}
