//! The Query protocol: parameters of a form or a query string in, XML out.
//!
//! `form` reads the parameters into a tree, `decode` makes typed requests of it, `xml` writes typed
//! responses, `names` knows what members are called here and in the requests and responses.

mod decode;
mod form;
mod names;
mod xml;

pub(crate) use decode::decode;
pub(crate) use form::Form;
pub(crate) use xml::{encode, encode_error};
