//! Which attributes a receive asks for.

use crate::error::ApiError;
use crate::shape::Names;

/// Refuses more names than were kept: the rest would be passed over in silence.
///
/// # Errors
/// `InvalidParameterValue`.
pub(crate) fn check(parameter: &str, names: Option<&Names<'_>>) -> Result<(), ApiError> {
    if names.is_some_and(|names| names.total > names.items.len()) {
        return Err(ApiError::invalid(format!("Too many names in parameter {parameter}.")));
    }
    Ok(())
}

/// Requested system attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SystemSelection {
    pub(crate) sender_id: bool,
    pub(crate) sent_timestamp: bool,
    pub(crate) receive_count: bool,
    pub(crate) first_receive_timestamp: bool,
    pub(crate) trace_header: bool,
    pub(crate) group_id: bool,
    pub(crate) deduplication_id: bool,
    pub(crate) sequence_number: bool,
    /// Of the queue that gave the message up.
    pub(crate) source_arn: bool,
}

impl SystemSelection {
    /// The union of the old and the new list; names that do not apply are ignored.
    pub(crate) fn new(lists: [Option<&Names<'_>>; 2]) -> Self {
        let mut selection = Self::default();
        for name in lists.into_iter().flatten().flat_map(|list| &list.items) {
            match name.as_str() {
                "All" => {
                    return Self {
                        sender_id: true,
                        sent_timestamp: true,
                        receive_count: true,
                        first_receive_timestamp: true,
                        trace_header: true,
                        group_id: true,
                        deduplication_id: true,
                        sequence_number: true,
                        source_arn: true,
                    };
                }
                "SenderId" => selection.sender_id = true,
                "SentTimestamp" => selection.sent_timestamp = true,
                "ApproximateReceiveCount" => selection.receive_count = true,
                "ApproximateFirstReceiveTimestamp" => selection.first_receive_timestamp = true,
                "AWSTraceHeader" => selection.trace_header = true,
                "MessageGroupId" => selection.group_id = true,
                "MessageDeduplicationId" => selection.deduplication_id = true,
                "SequenceNumber" => selection.sequence_number = true,
                "DeadLetterQueueSourceArn" => selection.source_arn = true,
                _ => {}
            }
        }
        selection
    }

    pub(crate) fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// Requested user attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UserSelection {
    all: bool,
    names: Vec<String>,
    prefixes: Vec<String>,
}

impl UserSelection {
    /// `All`, `*` and `.*` mean all; `x.*` means all that start with `x`; unknown and illegal names
    /// match nothing.
    pub(crate) fn new(list: Option<&Names<'_>>) -> Self {
        let mut selection = Self::default();
        for name in list.into_iter().flat_map(|list| &list.items) {
            match name.as_str() {
                "All" | "*" | ".*" => selection.all = true,
                name => match name.strip_suffix(".*") {
                    Some(prefix) => selection.prefixes.push(prefix.to_owned()),
                    None => selection.names.push(name.to_owned()),
                },
            }
        }
        selection
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.all
            || self.names.iter().any(|wanted| wanted == name)
            || self.prefixes.iter().any(|prefix| name.starts_with(prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_attributes() {
        let present = ["Hello", "General", "Help.Me"];
        let chosen = |wanted: &str| {
            let list = serde_json::from_str(wanted).unwrap();
            let selection = UserSelection::new(Some(&list));
            present.into_iter().filter(|name| selection.has(name)).collect::<Vec<_>>()
        };
        assert_eq!(chosen("[]"), [""; 0]);
        for all in ["[\"All\"]", "[\"*\"]", "[\".*\"]"] {
            assert_eq!(chosen(all), present);
        }
        assert_eq!(chosen("[\"Foo\",\"Help\"]"), [""; 0]);
        assert_eq!(chosen("[\"Hello\",\"General\"]"), ["Hello", "General"]);
        assert_eq!(chosen("[\"Hel.*\"]"), ["Hello", "Help.Me"]);
        assert_eq!(chosen("[\"AWS.\"]"), [""; 0]);
        assert_eq!(chosen("[\"..foo\"]"), [""; 0]);
    }

    #[test]
    fn system_attributes() {
        let list = |text: &'static str| serde_json::from_str::<Names<'_>>(text).unwrap();
        let (old, new) = (list("[\"SenderId\",\"Policy\"]"), list("[\"SentTimestamp\"]"));
        let both = SystemSelection::new([Some(&old), Some(&new)]);
        assert!(both.sender_id && both.sent_timestamp && !both.group_id);
        assert!(SystemSelection::new([None, None]).is_empty());
        let all = list("[\"All\"]");
        let all = SystemSelection::new([Some(&old), Some(&all)]);
        assert!(all.trace_header && all.deduplication_id && all.sequence_number);
        let fifo = list("[\"SequenceNumber\",\"MessageDeduplicationId\"]");
        let expected = SystemSelection {
            sequence_number: true,
            deduplication_id: true,
            ..SystemSelection::default()
        };
        assert_eq!(SystemSelection::new([None, Some(&fifo)]), expected);
    }
}
