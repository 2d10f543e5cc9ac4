//! Message queues, msgget(2): the messages in their order, the capacity, the pids of the last
//! sender and the last receiver.
//!
//! A dump copies messages and does not receive them (MSG_COPY, CONFIG_CHECKPOINT_RESTORE). Only a
//! process with the right pid can become the last sender or receiver, and all pids of the image are
//! free when the restore begins. The times of the last operations become those of the restore.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::frame::{Record, Tag};
use crate::sys::clone::{self, Creator};
use crate::sys::errno;
use crate::sys::pid::Pid;
use crate::sys::remote::batch::Call;
use crate::sys::sysvipc::ipc_kind::IpcKind;
use crate::sys::sysvipc::msg::{self, Message};
use crate::sysv::kind::{Actors, DynSysv, IpcHead, IpcState, NoActors};
use crate::sysv::table::{IpcEntry, IpcTables, is_alive};
use crate::sysv::undo::Adjustment;

/// Table row.
pub struct MessageQueues;

/// A System V message queue. The blob holds the texts of the messages, one behind the other. Body:
/// [`MessageQueueBody`].
const TAG: Tag = Tag(*b"MSGQ");
/// How often other processes may change the queue while it is read.
const TRIES: usize = 5;
/// The most messages of one queue. To copy one, the kernel counts from the first. By default there
/// are never more.
const MESSAGES_MOST: usize = 16384;
/// How many calls are made in one go.
const AT_ONCE: usize = 500;

#[derive(Debug, Serialize, Deserialize)]
struct MessageQueueBody {
    #[serde(flatten)]
    head: IpcHead,
    /// The most bytes that it may hold.
    capacity: u64,
    last_sender: Pid,
    last_receiver: Pid,
    /// Type and length of each message. The texts are in the blob.
    messages: Vec<(i64, usize)>,
}

/// Reads a queue and copies its messages.
///
/// # Errors
/// EBUSY: other processes change it faster than it can be read. EIDRM: it has been removed.
fn read(entry: &IpcEntry, is_ours: bool) -> Result<(MessageQueueBody, Vec<Message>)> {
    let id = entry.name.id;
    let here = || IpcTables::read().find(IpcKind::Msg, id).cloned();
    for _ in 0..TRIES {
        let gone = || Error::os(format!("message queue {id}"), libc::EIDRM);
        let before = here().ok_or_else(gone)?;
        let mut room = msg::room(before.size);
        let mut messages = Vec::new();
        let longer = |error: &Error| error.errno() == Some(libc::E2BIG);
        let copied = loop {
            match msg::peek(id, messages.len(), &mut room) {
                Ok(Some(message)) => messages.push(message),
                // A process has sent a message that is longer than everything the queue held
                // before.
                Err(error) if longer(&error) => break false,
                end => break end?.is_none(),
            }
            if messages.len() > MESSAGES_MOST {
                return Err(Error::unsupported(format!(
                    "message queue {id}: more than {MESSAGES_MOST} messages are too many to be copied while the tree stands still"
                )));
            }
        };
        let capacity = msg::capacity(id)?;
        let lengths = messages.iter().map(|message| (message.kind, message.text.len())).collect();
        if copied
            && here().as_ref() == Some(&before)
            && let [last_sender, last_receiver] = before.users[..]
        {
            let head = IpcHead::of(entry, is_ours)?;
            return Ok((MessageQueueBody { head, capacity, last_sender, last_receiver, messages: lengths }, messages));
        }
    }
    Err(Error::os(format!("message queue {id} is changed by others too often to be read"), libc::EBUSY))
}

impl MessageQueueBody {
    fn shown(&self) -> String {
        format!("message queue {} (key {:#x})", self.head.name.id, self.head.name.key)
    }

    fn has_same_numbers(&self, now: &Self) -> bool {
        let numbers = |it: &Self| (it.capacity, it.last_sender, it.last_receiver);
        numbers(self) == numbers(now)
    }

    /// Empties the queue, makes the recorded process its last receiver, and sends all messages
    /// again. The recorded last sender sends the last one.
    fn fill(&self, messages: &[Message], actors: &mut dyn Actors) -> Result<()> {
        let id = self.head.name.id;
        let mut room = [0_u64; 1];
        let take = msg::take(id, room.as_mut_ptr() as u64);
        loop {
            let got = clone::call_as(Creator::own(0), &[take; AT_ONCE])?;
            if errno::errno(got) == Some(libc::ENOMSG) {
                break;
            }
            errno::check(got, || format!("{}: emptying it", self.shown()))?;
        }
        // A message without a text counts as one byte (msg_fits_inqueue in ipc/msg.c).
        let needed: usize = messages.iter().map(|message| message.text.len().max(1)).sum();
        let here = Creator::own(0);
        msg::set_owner(id, 0o600, here.uid, here.gid, self.capacity.max(needed as u64).max(1))?;
        if self.last_receiver != 0 {
            self.send(&[Message { kind: 1, text: Vec::new() }], self.last_sender, actors)?;
            let doing = format!("{}: receiving by pid {}", self.shown(), self.last_receiver);
            let inside = actors.act(self.last_receiver, &mut |calls| {
                let at = calls.put(&[0; 8]);
                let take = msg::take(id, at.0);
                calls.call(take.nr, take.args, doing.clone());
            })?;
            if !inside {
                errno::check(clone::call_as(Creator::own(self.last_receiver), &[take])?, || doing)?;
            }
        }
        let Some((last, others)) = messages.split_last() else { return Ok(()) };
        self.send(others, 0, actors)?;
        self.send(std::slice::from_ref(last), self.last_sender, actors)
    }

    fn send(&self, messages: &[Message], sender: Pid, actors: &mut dyn Actors) -> Result<()> {
        if messages.is_empty() {
            return Ok(());
        }
        let id = self.head.name.id;
        let doing = format!("{}: sending {} messages", self.shown(), messages.len());
        let laid: Vec<(Vec<u8>, usize)> = messages.iter().map(|it| (msg::encode(it), it.text.len())).collect();
        let inside = actors.act(sender, &mut |calls| {
            for (bytes, len) in &laid {
                let at = calls.put(bytes);
                let send = msg::send(id, at.0, *len);
                calls.call(send.nr, send.args, doing.clone());
            }
        })?;
        if !inside {
            let send = |(bytes, len): &(Vec<u8>, usize)| msg::send(id, bytes.as_ptr() as u64, *len);
            let calls: Vec<Call> = laid.iter().map(send).collect();
            errno::check(clone::call_as(Creator::own(sender), &calls)?, || doing)?;
        }
        Ok(())
    }

    fn messages(&self, blob: &[u8]) -> Result<Vec<Message>> {
        let mut messages = Vec::new();
        let mut rest = blob;
        for (kind, len) in &self.messages {
            let damaged = || Error::damaged(format!("{}: its messages do not add up", self.shown()));
            let (text, behind) = rest.split_at_checked(*len).ok_or_else(damaged)?;
            messages.push(Message { kind: *kind, text: text.to_vec() });
            rest = behind;
        }
        Ok(messages)
    }
}

impl DynSysv for MessageQueues {
    fn tag(&self) -> Tag {
        TAG
    }

    fn ipc_kind(&self) -> IpcKind {
        IpcKind::Msg
    }

    fn last_users(&self, entry: &IpcEntry) -> Result<Vec<Pid>> {
        Ok(entry.users.clone())
    }

    fn may_read(&self, entry: &IpcEntry) -> Result<()> {
        msg::capacity(entry.name.id).map(drop)
    }

    fn dump(&self, entry: &IpcEntry, is_ours: bool, _adjustments: &[Adjustment]) -> Result<Record> {
        let (body, messages) = read(entry, is_ours)?;
        Ok(Record::new(TAG, &body)?.with_blob(messages.into_iter().flat_map(|it| it.text).collect()))
    }

    fn make(&self, record: &Record) -> Result<IpcState> {
        let body: MessageQueueBody = record.body()?;
        let messages = body.messages(&record.blob)?;
        if let Some(there) = body.head.find(IpcKind::Msg, None)? {
            let is_others = !body.head.is_ours || there.users.iter().any(|pid| is_alive(*pid));
            return Ok(if is_others { IpcState::Others(body.shown()) } else { IpcState::Found });
        }
        let name = &body.head.name;
        let made = msg::make_queue(name.id, name.key, Creator { pid: 0, uid: name.cuid, gid: name.cgid })?;
        body.fill(&messages, &mut NoActors)?;
        Ok(IpcState::Made(made))
    }

    fn finish(&self, record: &Record, state: &IpcState, actors: &mut dyn Actors) -> Result<()> {
        let body: MessageQueueBody = record.body()?;
        if let IpcState::Found = state {
            let there = body.head.find(IpcKind::Msg, None)?;
            let now = there.map(|there| read(&there, true)).transpose()?;
            let messages = body.messages(&record.blob)?;
            // An unchanged queue is left alone. Emptying and filling it would leave another last
            // receiver behind.
            if now.is_none_or(|(now, texts)| !body.has_same_numbers(&now) || texts != messages) {
                body.fill(&messages, actors)?;
            }
        }
        let name = &body.head.name;
        match state {
            IpcState::Others(_) => Ok(()),
            _ => msg::set_owner(name.id, name.mode, name.uid, name.gid, body.capacity),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_queue_comes_back_with_its_messages() {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWIPC).unwrap();
        let name = serde_json::json!({
            "id": 0x1fff_0002, "key": 78, "mode": 0o640, "uid": 1, "gid": 2, "cuid": 3, "cgid": 4, "boot": crate::sys::proc::boot_id().unwrap(),
            "is_ours": true, "capacity": 20, "last_sender": 4_000_003, "last_receiver": 4_000_004,
            "messages": [[5, 3], [i64::MAX, 0], [1, 4]],
        });
        let record = Record::new(TAG, &name).unwrap().with_blob(b"onefour".to_vec());
        let check = || {
            let state = MessageQueues.make(&record).unwrap();
            assert!(!matches!(state, IpcState::Others(_)));
            MessageQueues.finish(&record, &state, &mut NoActors).unwrap();
            let there = IpcTables::read().find(IpcKind::Msg, 0x1fff_0002).unwrap().clone();
            let again = MessageQueues.dump(&there, true, &[]).unwrap();
            assert_eq!((again.json, again.blob), (record_of(&record).json, record.blob.clone()));
        };
        msg::make_queue(0x1fff_0002, 78, Creator { pid: 0, uid: 3, gid: 4 }).unwrap().keep();
        check();
        // Changed by a process that has ended.
        let mut room = [0_u64; 1];
        let take = msg::take(0x1fff_0002, room.as_mut_ptr() as u64);
        errno::check(clone::call_as(Creator::own(0), &[take]).unwrap(), || "").unwrap();
        check();
        let cut = record_of(&record).with_blob(b"onefou".to_vec());
        assert!(MessageQueues.make(&cut).unwrap_err().to_string().contains("do not add up"));
    }

    /// As this module writes it.
    fn record_of(record: &Record) -> Record {
        Record::new(TAG, &record.body::<MessageQueueBody>().unwrap()).unwrap()
    }
}
