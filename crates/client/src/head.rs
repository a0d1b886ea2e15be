//! Reads the head of an HTTP/1.1 answer.

/// A head longer than this is refused.
pub(crate) const HEAD_BYTES_MAX: usize = 16 * 1024;
/// A body longer than this is refused: ten messages of the largest size fit with room.
pub(crate) const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a client has to know of an answer's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// Bytes up to and with the empty line.
    pub(crate) head_len: usize,
    pub(crate) body_len: usize,
    /// The server closes the connection after this answer.
    pub(crate) closes: bool,
}

/// Why an answer cannot be read. The connection is of no use afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Another protocol.
    #[error("the answer's first line is not HTTP/1.1's")]
    StatusLine,
    /// No way to know where it ends.
    #[error("the answer's content-length is missing or no number")]
    Length,
    /// Beyond the bounds.
    #[error("the answer is larger than is read")]
    TooLarge,
}

/// The head at the start of `bytes`, or `None` when more bytes are needed. Only bodies with a
/// content-length are known; an answer in chunks is an error.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Head>, HeadError> {
    let window = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
    let Some(end) = window.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if bytes.len() >= HEAD_BYTES_MAX { Err(HeadError::TooLarge) } else { Ok(None) };
    };
    let mut lines = bytes[..end].split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    let status = status(lines.next().unwrap_or_default()).ok_or(HeadError::StatusLine)?;
    let mut body_len = None;
    let mut closes = false;
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            body_len = Some(number(value).ok_or(HeadError::Length)?);
        } else if name.eq_ignore_ascii_case(b"connection") {
            closes = value.eq_ignore_ascii_case(b"close");
        }
    }
    let body_len = body_len.ok_or(HeadError::Length)?;
    if body_len > BODY_BYTES_MAX {
        return Err(HeadError::TooLarge);
    }
    Ok(Some(Head { status, head_len: end + 4, body_len, closes }))
}

fn status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.1 ")?;
    let digits = rest.get(..3)?;
    let ends = rest.get(3).is_none_or(|byte| *byte == b' ');
    let status = u16::try_from(number(digits)?).ok()?;
    (ends && status >= 100).then_some(status)
}

fn number(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Type: a\r\ncontent-LENGTH:  12 \r\ndate: x:y\r\n\r\n{\"a\":\"bcde\"}";

    #[test]
    fn reads_an_answer() {
        let head = parse(ANSWER).unwrap().unwrap();
        assert_eq!((head.status, head.body_len, head.closes), (200, 12, false));
        assert_eq!(&ANSWER[head.head_len..], b"{\"a\":\"bcde\"}");
    }

    #[test]
    fn waits_for_every_byte_of_the_head() {
        let end = parse(ANSWER).unwrap().unwrap().head_len;
        for len in 0..end {
            assert_eq!(parse(&ANSWER[..len]), Ok(None), "{len}");
        }
        assert!(parse(&ANSWER[..end]).unwrap().is_some());
    }

    #[test]
    fn sees_the_last_answer_of_a_connection() {
        let bytes = b"HTTP/1.1 503 Busy\r\nConnection: Close\r\ncontent-length: 0\r\n\r\n";
        let head = parse(bytes).unwrap().unwrap();
        assert_eq!((head.status, head.body_len, head.closes), (503, 0, true));
    }

    #[test]
    fn refuses_what_it_cannot_delimit() {
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        assert_eq!(parse(chunked), Err(HeadError::Length));
        let negative = b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n";
        assert_eq!(parse(negative), Err(HeadError::Length));
        let huge = b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n";
        assert_eq!(parse(huge), Err(HeadError::TooLarge));
    }

    #[test]
    fn refuses_another_protocol() {
        for line in ["HTTP/2 200", "HTTP/1.1 2x0 OK", "HTTP/1.1 20", "HTTP/1.1 2000", "SSH-2.0"] {
            let bytes = format!("{line}\r\ncontent-length: 0\r\n\r\n");
            assert_eq!(parse(bytes.as_bytes()), Err(HeadError::StatusLine), "{line}");
        }
    }

    #[test]
    fn refuses_an_endless_head() {
        let bytes = vec![b'a'; HEAD_BYTES_MAX];
        assert_eq!(parse(&bytes), Err(HeadError::TooLarge));
        assert_eq!(parse(&bytes[1..]), Ok(None));
    }
}
