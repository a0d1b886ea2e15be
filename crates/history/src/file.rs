//! The file: one line of JSON per request, after a line that says what it is and before one that
//! says that it is whole. Lines can be read with everything that reads lines, and a line that a
//! crash cut off is told apart from damage.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

use crate::options::Options;
use crate::record::Record;

/// The format that this build writes and reads.
pub const FORMAT: u32 = 2;
/// Begins every history.
const MAGIC: &str = "{\"flotilla_history\":";
/// Begins the last line, and no record's.
const END: &[u8] = b"{\"end\":";
/// No line is longer: a batch of ten with every name at its limit is far below.
const LINE_BYTES_MAX: u64 = 1_048_576;

/// First line of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Must stay first: [`FORMAT`].
    #[serde(rename = "flotilla_history")]
    pub format: u32,
    /// What was run: workload, seed, commit.
    #[serde(default)]
    pub label: String,
    /// Wall clock, in milliseconds since 1970, at 0 of the history's clock. `None`: server
    /// timestamps mean nothing to the checker (clocks were tampered with).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_zero_ms: Option<u64>,
    /// How the run wants to be judged.
    #[serde(default)]
    pub options: Options,
}

impl Default for Header {
    fn default() -> Self {
        Self {
            format: FORMAT,
            label: String::new(),
            wall_zero_ms: None,
            options: Options::default(),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct End {
    end: u64,
}

/// How a history ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Its last line is there and agrees.
    Whole,
    /// The writer did not get to the end: what was under way then is missing.
    Unfinished,
    /// So many bytes of a line that was not written to its end.
    Torn(u64),
}

/// What is wrong with a history.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("cannot read: {0}")]
    Io(#[from] io::Error),
    /// Something else.
    #[error("not a history of this program")]
    NotAHistory,
    /// Of another build.
    #[error("format {0} is not known")]
    UnknownFormat(u32),
    /// A whole line in the middle is not a record.
    #[error("line {line}: {error}")]
    Damaged {
        /// Counted from 1.
        line: u64,
        /// What the parser says.
        error: serde_json::Error,
    },
    /// There is a whole line after the end, or it counts other than there are.
    #[error("{found} records, but the end says {said}")]
    Miscounted {
        /// Records before the last line.
        found: u64,
        /// What the last line says.
        said: u64,
    },
    /// A line is longer than any record can be.
    #[error("line {line} is too long")]
    TooLong {
        /// Counted from 1.
        line: u64,
    },
}

/// Writes the first line.
///
/// # Errors
/// When the sink fails.
pub fn write_header(header: &Header, sink: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *sink, header)?;
    sink.write_all(b"\n")
}

/// Writes a request's line.
///
/// # Errors
/// When the sink fails.
pub fn write_record(record: &Record, sink: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *sink, record)?;
    sink.write_all(b"\n")
}

/// Writes the last line, after so many records.
///
/// # Errors
/// When the sink fails.
pub fn write_end(records: u64, sink: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *sink, &End { end: records })?;
    sink.write_all(b"\n")
}

/// Reads a history record by record; the memory is that of one line.
pub struct Reader<R> {
    source: R,
    header: Header,
    line: Vec<u8>,
    lines: u64,
    records: u64,
    tail: Option<Tail>,
}

impl<R: BufRead> Reader<R> {
    /// Reads the first line.
    ///
    /// # Errors
    /// When it is not that of a history, or of one that this build cannot read.
    pub fn new(mut source: R) -> Result<Self, ReadError> {
        #[derive(Deserialize)]
        struct Version {
            flotilla_history: u32,
        }
        let mut line = Vec::new();
        io::Read::take(&mut source, LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if !line.starts_with(MAGIC.as_bytes()) || line.last() != Some(&b'\n') {
            return Err(ReadError::NotAHistory);
        }
        let damaged = |error| ReadError::Damaged { line: 1, error };
        // The version alone first: nothing else of another format can be relied upon.
        let version: Version = serde_json::from_slice(&line).map_err(damaged)?;
        if version.flotilla_history != FORMAT {
            return Err(ReadError::UnknownFormat(version.flotilla_history));
        }
        let header = serde_json::from_slice(&line).map_err(damaged)?;
        Ok(Self { source, header, line, lines: 1, records: 0, tail: None })
    }

    /// The first line.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How it ended, once [`read`](Self::read) has found the end.
    pub fn tail(&self) -> Option<Tail> {
        self.tail
    }

    /// The next record; `None` at the end.
    ///
    /// # Errors
    /// When what is there is neither a record nor the end nor the beginning of a cut-off line.
    pub fn read(&mut self) -> Result<Option<Record>, ReadError> {
        if self.tail.is_some() {
            return Ok(None);
        }
        self.line.clear();
        let source = &mut self.source;
        io::Read::take(source, LINE_BYTES_MAX).read_until(b'\n', &mut self.line)?;
        self.lines += 1;
        if self.line.last() != Some(&b'\n') {
            let bytes = self.line.len() as u64;
            if bytes == LINE_BYTES_MAX {
                return Err(ReadError::TooLong { line: self.lines });
            }
            self.tail = Some(if bytes == 0 { Tail::Unfinished } else { Tail::Torn(bytes) });
            return Ok(None);
        }
        let damaged = |error| ReadError::Damaged { line: self.lines, error };
        if self.line.starts_with(END) {
            let End { end } = serde_json::from_slice(&self.line).map_err(damaged)?;
            if end != self.records {
                return Err(ReadError::Miscounted { found: self.records, said: end });
            }
            self.tail = Some(Tail::Whole);
            return Ok(None);
        }
        let record = serde_json::from_slice(&self.line).map_err(damaged)?;
        self.records += 1;
        Ok(Some(record))
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Record, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Mark, Op};

    fn record(at: u64) -> Record {
        let op = Op::Mark(Mark::Note("é\n".to_owned()));
        let (status, request_id) = (Some(200), None);
        Record { process: 1, node: 2, invoked_us: at, returned_us: at, status, request_id, op }
    }

    fn written(end: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_header(&Header::default(), &mut bytes).unwrap();
        write_record(&record(1), &mut bytes).unwrap();
        write_record(&record(2), &mut bytes).unwrap();
        if end {
            write_end(2, &mut bytes).unwrap();
        }
        bytes
    }

    fn read(bytes: &[u8]) -> Result<(Vec<Record>, Tail), ReadError> {
        let mut reader = Reader::new(bytes)?;
        let records = reader.by_ref().collect::<Result<_, _>>()?;
        Ok((records, reader.tail().expect("it ended")))
    }

    #[test]
    fn histories_read_as_they_were_written() {
        assert_eq!(read(&written(true)).unwrap(), (vec![record(1), record(2)], Tail::Whole));
        assert_eq!(read(&written(false)).unwrap(), (vec![record(1), record(2)], Tail::Unfinished));
    }

    #[test]
    fn a_history_cut_anywhere_reads_up_to_there() {
        let bytes = written(true);
        let first = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for length in 0..bytes.len() {
            let result = read(&bytes[..length]);
            if length < first {
                assert!(matches!(result, Err(ReadError::NotAHistory)), "{length}");
                continue;
            }
            let (records, tail) = result.unwrap();
            let newlines = bytes[..length].iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(records.len(), newlines - 1);
            let torn = bytes[..length].last() != Some(&b'\n');
            assert_eq!(matches!(tail, Tail::Torn(_)), torn, "{length}");
        }
    }

    #[test]
    fn damage_is_not_taken_for_a_torn_end() {
        let mut bytes = written(true);
        let at = bytes.len() / 2;
        bytes[at] ^= 0x80;
        assert!(matches!(read(&bytes), Err(ReadError::Damaged { .. })));
        let text = String::from_utf8(written(true)).unwrap();
        let other = text.replace("{\"end\":2}", "{\"end\":3}");
        assert!(matches!(read(other.as_bytes()), Err(ReadError::Miscounted { found: 2, said: 3 })));
        let other = text.replace("\"flotilla_history\":2", "\"flotilla_history\":1");
        assert!(matches!(read(other.as_bytes()), Err(ReadError::UnknownFormat(1))));
        assert!(matches!(read(b"{\"x\":1}\n"), Err(ReadError::NotAHistory)));
    }
}
