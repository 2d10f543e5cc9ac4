//! The open nodes among those that are steady while they are open, and the instant of each. An
//! inode has one content at a time, because the kernel caches it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::node::{Node, Of};

/// The open nodes.
#[derive(Default)]
pub struct OpenNodes {
    /// A leaf lock.
    nodes: Mutex<HashMap<Node, OpenState>>,
    changed: Condvar,
}

enum OpenState {
    /// How many handles have the node open, and with which instant.
    Open(usize, Of),
    /// The last handle is closed, and the kernel must still drop the contents. Opens wait, so that
    /// none reads meanwhile.
    Closing,
}

/// One open of a node. Dropping it closes the node, but only [`OpenedNode::close`] makes the kernel
/// drop its contents.
pub struct OpenedNode(Option<(Arc<OpenNodes>, Node)>);

/// The work that is left after a last close. Opens of the node wait until this is dropped.
pub struct Closing {
    nodes: Arc<OpenNodes>,
    node: Node,
}

impl OpenNodes {
    /// The instant with which `node` is open.
    pub fn of(&self, node: Node) -> Option<Of> {
        match self.nodes.lock().get(&node) {
            Some(OpenState::Open(_, of)) => Some(*of),
            _ => None,
        }
    }

    /// Opens `node` with the instant of `of`. `None` if it is open with another instant. Waits
    /// until a closing node is closed.
    pub fn open(self: &Arc<Self>, node: Node, of: Of) -> Option<OpenedNode> {
        let mut nodes = self.nodes.lock();
        loop {
            match nodes.get_mut(&node) {
                Some(OpenState::Closing) => self.changed.wait(&mut nodes),
                Some(OpenState::Open(handles, with)) if *with == of => {
                    *handles += 1;
                    break;
                }
                Some(OpenState::Open(..)) => return None,
                None => {
                    nodes.insert(node, OpenState::Open(1, of));
                    break;
                }
            }
        }
        Some(OpenedNode(Some((Arc::clone(self), node))))
    }

    /// Counts one handle less. Returns whether it was the last one. The node is then closing.
    fn close(&self, node: Node) -> bool {
        match self.nodes.lock().get_mut(&node) {
            Some(OpenState::Open(handles, _)) if *handles > 1 => {
                *handles -= 1;
                false
            }
            Some(state @ OpenState::Open(..)) => {
                *state = OpenState::Closing;
                true
            }
            Some(OpenState::Closing) | None => false,
        }
    }
}

impl OpenedNode {
    /// Closes the node. Returns the work that is left if this was the last open of it.
    pub fn close(mut self) -> Option<Closing> {
        self.end()
    }

    fn end(&mut self) -> Option<Closing> {
        let (nodes, node) = self.0.take()?;
        nodes.close(node).then(|| Closing { nodes, node })
    }
}

impl Drop for OpenedNode {
    fn drop(&mut self) {
        drop(self.end());
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
        assert!(nodes.of(node).is_none());
        let (first, second) = (nodes.open(node, one).unwrap(), nodes.open(node, one).unwrap());
        assert!(nodes.open(node, two).is_none());
        assert_eq!(nodes.of(node), Some(one));
        assert!(first.close().is_none(), "one of two");
        let closing = second.close().unwrap();
        assert!(nodes.of(node).is_none());
        let next = std::thread::scope(|scope| {
            let next = scope.spawn(|| nodes.open(node, two));
            std::thread::sleep(Duration::from_millis(20));
            assert!(!next.is_finished(), "still closing");
            drop(closing);
            next.join().unwrap().unwrap()
        });
        assert_eq!(nodes.of(node), Some(two));
        drop(next);
        assert!(nodes.of(node).is_none() && nodes.open(node, one).is_some(), "a drop closes it too");
    }
}
