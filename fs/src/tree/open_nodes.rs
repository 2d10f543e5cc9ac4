//! The nodes that are steady while they are open, and of which instant they are: an inode has one content at a time, because the kernel
//! keeps it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::node::{Node, Of};

/// Which are open.
#[derive(Default)]
pub struct OpenNodes {
    /// A leaf lock.
    nodes: Mutex<HashMap<Node, OpenState>>,
    changed: Condvar,
}

enum OpenState {
    /// By so many handles, with the instant of whom.
    Open(usize, Of),
    /// The last handle is closed, and the kernel is to forget the contents: opens wait, so that nobody reads meanwhile.
    Closing,
}

/// What is left to be done behind a last close; opens wait until it is dropped.
pub struct Closing {
    nodes: Arc<OpenNodes>,
    node: Node,
}

impl OpenNodes {
    /// Whose instant `node` is open with.
    pub fn of(&self, node: Node) -> Option<Of> {
        match self.nodes.lock().get(&node) {
            Some(OpenState::Open(_, of)) => Some(*of),
            _ => None,
        }
    }

    /// One handle more on `node`, with the instant of `of`; whether that is the one it is open with. Waits until what is closing is closed.
    pub fn open(&self, node: Node, of: Of) -> bool {
        let mut nodes = self.nodes.lock();
        loop {
            match nodes.get_mut(&node) {
                Some(OpenState::Closing) => self.changed.wait(&mut nodes),
                Some(OpenState::Open(handles, with)) if *with == of => {
                    *handles += 1;
                    return true;
                }
                Some(OpenState::Open(..)) => return false,
                None => {
                    nodes.insert(node, OpenState::Open(1, of));
                    return true;
                }
            }
        }
    }

    /// One handle less on `node`; what is to be done if it was the last one.
    pub fn close(self: &Arc<Self>, node: Node) -> Option<Closing> {
        let mut nodes = self.nodes.lock();
        match nodes.get_mut(&node) {
            Some(OpenState::Open(handles, _)) if *handles > 1 => *handles -= 1,
            Some(state @ OpenState::Open(..)) => {
                *state = OpenState::Closing;
                return Some(Closing { nodes: Arc::clone(self), node });
            }
            _ => {}
        }
        None
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.nodes.nodes.lock().remove(&self.node);
        self.nodes.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::node::File;
    use crate::process::ProcId;
    use std::time::Duration;

    #[test]
    fn one_instant_at_a_time_and_none_while_it_is_closing() {
        let nodes = Arc::new(OpenNodes::default());
        let (one, two) = (Of::Live(ProcId { pid: 1, start: 1 }), Of::Live(ProcId { pid: 1, start: 2 }));
        let node = Node::File(Of::CONTAINER, File::Image);
        assert!(nodes.of(node).is_none() && nodes.close(node).is_none());
        assert!(nodes.open(node, one) && nodes.open(node, one) && !nodes.open(node, two));
        assert_eq!(nodes.of(node), Some(one));
        assert!(nodes.close(node).is_none(), "one of two");
        let closing = nodes.close(node).unwrap();
        assert!(nodes.of(node).is_none());
        std::thread::scope(|scope| {
            let next = scope.spawn(|| nodes.open(node, two));
            std::thread::sleep(Duration::from_millis(20));
            assert!(!next.is_finished(), "still closing");
            drop(closing);
            assert!(next.join().unwrap());
        });
        assert_eq!(nodes.of(node), Some(two));
    }
}
