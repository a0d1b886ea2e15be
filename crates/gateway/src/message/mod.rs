//! Messages on their way in: fields of a request to a checked [`draft::Draft`].

pub(crate) mod attributes;
pub(crate) mod characters;
pub(crate) mod digest;
pub(crate) mod draft;
pub(crate) mod keys;
