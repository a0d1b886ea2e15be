//! Lists of queues in pages.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flotilla_types::limits;
use flotilla_types::names::QueueName;

use crate::error::ApiError;
use crate::shape::{Integer, Text};

/// What is listed. A token goes on with the list that it is of, and with no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listing<'a> {
    Queues { prefix: &'a str },
    DeadLetterSources { of: &'a QueueName },
}

impl Listing<'_> {
    /// First byte of its tokens: their format, too.
    fn kind(&self) -> u8 {
        match self {
            Self::Queues { .. } => 1,
            Self::DeadLetterSources { .. } => 2,
        }
    }

    fn scope(&self) -> &str {
        match self {
            Self::Queues { prefix } => prefix,
            Self::DeadLetterSources { of } => of.as_str(),
        }
    }
}

/// One page of a list.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page<'a> {
    listing: Listing<'a>,
    /// `None`: the caller gave none, and is not told whether there is more.
    size: Option<usize>,
    after: Option<String>,
}

impl<'a> Page<'a> {
    /// # Errors
    /// `InvalidParameterValue` for a size out of range, and for a token that is not of this list.
    pub(crate) fn of(
        listing: Listing<'a>,
        max_results: Option<Integer>,
        token: Option<&Text<'_>>,
    ) -> Result<Self, ApiError> {
        let size = max_results.map(size).transpose()?;
        let after = match token.map(Text::as_str) {
            None | Some("") => None,
            Some(token) => Some(open_token(token, listing)?),
        };
        Ok(Self { listing, size, after })
    }

    /// The last name of the page before.
    pub(crate) fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// How many names to look for: one more than the page holds tells whether there are more.
    pub(crate) fn limit(&self) -> usize {
        self.size.map_or(limits::LIST_PAGE_MAX, |size| size + 1)
    }

    /// The page, and the token for the next one if there is more.
    pub(crate) fn cut(&self, mut names: Vec<QueueName>) -> (Vec<QueueName>, Option<String>) {
        let next_token = match self.size {
            Some(size) if names.len() > size => {
                names.truncate(size);
                names.last().map(|last| token(self.listing, last))
            }
            _ => None,
        };
        (names, next_token)
    }
}

fn size(Integer(given): Integer) -> Result<usize, ApiError> {
    let in_range = |size: &usize| (1..=limits::LIST_PAGE_MAX).contains(size);
    usize::try_from(given).ok().filter(in_range).ok_or_else(|| {
        ApiError::invalid(
            "Value for parameter MaxResults is invalid. Reason: MaxResults must be an integer \
             between 1 and 1000.",
        )
    })
}

/// Base64 of kind, last name of the page, `/`, scope. No name holds a slash, so the first one
/// ends it.
fn token(listing: Listing<'_>, last: &QueueName) -> String {
    let mut bytes = vec![listing.kind()];
    bytes.extend_from_slice(last.as_str().as_bytes());
    bytes.push(b'/');
    bytes.extend_from_slice(listing.scope().as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn open_token(token: &str, listing: Listing<'_>) -> Result<String, ApiError> {
    let bad = || ApiError::invalid("Invalid or expired next token.");
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| bad())?;
    let (&kind, rest) = bytes.split_first().ok_or_else(bad)?;
    let text = std::str::from_utf8(rest).map_err(|_| bad())?;
    let (after, scope) = text.split_once('/').ok_or_else(bad)?;
    if kind != listing.kind() || QueueName::new(after).is_err() {
        return Err(bad());
    }
    if scope != listing.scope() {
        return Err(ApiError::invalid(
            "Invalid NextToken value. If you are passing in NextToken, you must not change the \
             other request parameters.",
        ));
    }
    Ok(after.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> QueueName {
        QueueName::new(text).unwrap()
    }

    #[test]
    fn tokens_bind_the_list() {
        let queues = |prefix| Listing::Queues { prefix };
        let made = token(queues("a/b"), &name("abc"));
        assert_eq!(open_token(&made, queues("a/b")).unwrap(), "abc");
        let other = open_token(&made, queues("a")).unwrap_err();
        assert!(other.message.starts_with("Invalid NextToken"));
        for bad in ["!", "", "AA", &made[1..]] {
            let error = open_token(bad, queues("a/b")).unwrap_err();
            assert_eq!(error.message, "Invalid or expired next token.", "{bad}");
        }
        let (dead, letters) = (name("dead"), name("letters"));
        let sources = |of| Listing::DeadLetterSources { of };
        let made = token(sources(&dead), &name("abc"));
        assert_eq!(open_token(&made, sources(&dead)).unwrap(), "abc");
        assert!(open_token(&made, sources(&letters)).is_err());
        assert!(open_token(&made, queues("dead")).is_err());
    }

    #[test]
    fn only_who_asks_for_pages_gets_tokens() {
        let names = || vec![name("a"), name("b"), name("c")];
        let page = |size: Option<i64>| {
            Page::of(Listing::Queues { prefix: "" }, size.map(Integer), None).unwrap()
        };
        assert_eq!((page(None).limit(), page(Some(2)).limit()), (1_000, 3));
        assert_eq!(page(None).cut(names()), (names(), None));
        assert_eq!(page(Some(3)).cut(names()), (names(), None));
        let (first, token) = page(Some(2)).cut(names());
        assert_eq!(first, names()[..2]);
        let token = Text(token.unwrap().into());
        let next = Page::of(Listing::Queues { prefix: "" }, None, Some(&token)).unwrap();
        assert_eq!(next.after(), Some("b"));
    }
}
