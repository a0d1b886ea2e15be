use std::fmt;

/// What kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Data is not what was written.
    Corruption,
    /// The caller's fault.
    InvalidArgument,
    /// Not possible here.
    NotSupported,
    /// The disk's fault.
    IOError,
}

/// A failed call.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    text: String,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    /// What kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.text)
    }
}

impl AsRef<str> for Error {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl std::error::Error for Error {}
