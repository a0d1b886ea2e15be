//! What tests need inside the product: bugs that can be planted, steps at which a node can be made
//! to fail, and states that some test must reach.
//!
//! All of it exists only with the feature `probes`, which no release and no other build has. Without
//! it the four macros are constants (`false`, `()` or `Ok(())`), and the compiler removes them.
//!
//! - [`planted!`]: whether the named bug is in the program. One build holds all of them;
//!   `FLOTILLA_PLANTED` chooses one when it starts. [`plant`] says what each is and which test must
//!   fail because of it; `scripts/planted` sees to it that they do.
//! - [`failpoint!`] and [`failable!`]: a step at which the process can be made to end, to wait or (only
//!   `failable!`) to fail. `FLOTILLA_FAILPOINTS` says at which, and so does the admin page
//!   `/probes`. [`point`] lists them; `scripts/failpoints` crashes a node at each.
//! - [`sometimes!`]: notes that an interesting state was reached. [`sight`] lists them.
//! - [`skip()`]: what a test says that cannot be made on this machine. The only thing here that every
//!   build has; no program calls it.
//!
//! Invariants:
//! - A name that is not known ends the program at its start: a misspelt bug would be one that every
//!   test misses.
//! - What was reached is known although the process is killed in the next moment: `FLOTILLA_PROBES_SEEN`
//!   names a file to which each process adds a line for everything that it reaches first.
//!
//! Not here: whatever decides what a bug does. That is written where the bug would be.
//! This crate depends on nothing, so that every other one can depend on it.

pub mod plant;
pub mod point;
pub mod sight;
mod skip;

#[cfg(feature = "probes")]
mod action;
#[cfg(feature = "probes")]
mod active;

pub use plant::Plant;
pub use point::Point;
pub use sight::Sight;
pub use skip::skip;

#[cfg(feature = "probes")]
pub use active::{Decide, begin, decide_with, is_planted, may_fail, reach, report, saw, set};

/// Whether this is a build in which anything here does anything.
pub const ENABLED: bool = cfg!(feature = "probes");

/// Whether a bug is planted, by its name in [`Plant`].
#[macro_export]
macro_rules! planted {
    ($plant:ident) => {
        $crate::is_planted($crate::Plant::$plant)
    };
}

/// A step at which the process may end or wait, by its name in [`Point`].
#[macro_export]
macro_rules! failpoint {
    ($point:ident) => {
        $crate::reach($crate::Point::$point)
    };
}

/// A step that may also fail: an [`std::io::Result`].
#[macro_export]
macro_rules! failable {
    ($point:ident) => {
        $crate::may_fail($crate::Point::$point)
    };
}

/// A state was reached, by its name in [`Sight`].
#[macro_export]
macro_rules! sometimes {
    ($sight:ident) => {
        $crate::saw($crate::Sight::$sight)
    };
}

#[cfg(not(feature = "probes"))]
mod inert {
    use crate::{Plant, Point, Sight};

    /// Reads what is asked for; ends the program when that is not known. Nothing in this build.
    #[inline(always)]
    pub const fn begin() {}

    /// For [`crate::planted!`].
    #[inline(always)]
    pub const fn is_planted(_: Plant) -> bool {
        false
    }

    /// For [`crate::failpoint!`].
    #[inline(always)]
    pub const fn reach(_: Point) {}

    /// For [`crate::failable!`].
    ///
    /// # Errors
    /// When it was told to; never in this build.
    #[inline(always)]
    pub const fn may_fail(_: Point) -> std::io::Result<()> {
        Ok(())
    }

    /// See [`decide_with`].
    pub type Decide = Box<dyn Fn(Point) -> std::io::Result<()> + Send + Sync>;

    /// Decides what happens at every point. There are none in this build.
    pub fn decide_with(_: Decide) {}

    /// For [`crate::sometimes!`].
    #[inline(always)]
    pub const fn saw(_: Sight) {}

    /// What was reached, as JSON. Empty in this build.
    pub const fn report() -> String {
        String::new()
    }

    /// Changes what failpoints do; see the crate.
    ///
    /// # Errors
    /// When it is not understood; always in this build.
    pub fn set(_: &str) -> Result<(), String> {
        Err("this build has no probes".into())
    }
}
#[cfg(not(feature = "probes"))]
pub use inert::{Decide, begin, decide_with, is_planted, may_fail, reach, report, saw, set};
