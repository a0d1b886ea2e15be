//! Polls that wait when their node is asked to end: they end before anything else does.

use crate::node::Node;

impl Node {
    /// From now on no poll waits: those that do end empty. What is being taken is answered.
    pub fn end_polls(&self) {
        self.polls_ended.send_replace(true);
    }

    pub(crate) fn polls_ended(&self) -> bool {
        *self.polls_ended.borrow()
    }

    /// Returns when no poll may wait any more.
    pub(crate) async fn end_of_polls(&self) {
        // Its sender lives in the node.
        let _ = self.polls_ended.subscribe().wait_for(|ended| *ended).await;
    }
}
