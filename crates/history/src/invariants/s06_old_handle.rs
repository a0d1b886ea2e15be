//! S6. Case: an acknowledged delete with the handle of an earlier receive than the latest. Where it
//! is promised to act, the message must not come back; where it is promised to be ignored, S1 misses
//! the message if it acted. In FIFO queues such a delete must not be acknowledged while the message
//! is there: F8.
//!
//! Source: DeleteMessage leaves it open; [`OldHandles`] says what was chosen. Undecided: as S5, and
//! everything where nothing is promised. `e` as in S5.

use super::deleting::Age;
use crate::index::Index;
use crate::options::OldHandles;
use crate::verdict::Tally;

pub(super) fn check(index: &Index, tally: &mut Tally) {
    if index.promises().old_handles == OldHandles::Undefined {
        tally.skipped = Some("not promised".to_owned());
        return;
    }
    let old = |age: Age| age == Age::Old;
    super::s05_delete::check_deletes(index, tally, old, " (with an old handle)");
    if index.promises().old_handles == OldHandles::AreIgnored {
        let touches = index.touches.iter();
        let touches = touches.filter(|it| it.delivery != crate::index::NONE);
        tally.examined += touches
            .filter(|it| super::deleting::acts(index, it) == super::deleting::Acts::Never)
            .count() as u64;
    }
}
