//! The words every other crate uses: ids, checked names, limits, queue attributes.
//!
//! Start with [`ids`] and [`limits`].
//!
//! Invariants:
//! - A value of a newtype here is valid by construction; nothing downstream checks it again.
//! - Every bound of the system lives in [`limits`].
//!
//! Not here: I/O, clocks, randomness, wire formats, AWS error codes.

pub mod attributes;
pub mod clock;
pub mod ids;
pub mod limits;
pub mod names;
pub mod permission;
