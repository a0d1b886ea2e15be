//! From the library's errors to `io::Error`, with what was done and where.

use std::fmt;
use std::io;

use rocksdb::ErrorKind;

/// A failed call. Corruption becomes `InvalidData`: the caller must stop, not retry. So does a file
/// that should be there and is not.
pub(super) fn failed(what: impl fmt::Display) -> impl FnOnce(rocksdb::Error) -> io::Error {
    move |err| {
        let kind = match err.kind() {
            ErrorKind::Corruption => io::ErrorKind::InvalidData,
            ErrorKind::IOError if err.as_ref().contains("No such file") => {
                io::ErrorKind::InvalidData
            }
            ErrorKind::InvalidArgument | ErrorKind::NotSupported => io::ErrorKind::InvalidInput,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, format!("state store, {what}: {err}"))
    }
}

/// Bytes that passed the checksum and are still not what they should be.
pub(super) fn invalid(what: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("state store, {what}"))
}

/// Nothing is damaged, but this build cannot read it.
pub(super) fn unsupported(what: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("state store, {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_data_says_where() {
        let err = invalid(format_args!("hidden row of queue {}", 7));
        assert_eq!(err.kind(), io::ErrorKind::InvalidData);
        assert_eq!(err.to_string(), "state store, hidden row of queue 7");
    }
}
