//! What members are called in the Query protocol. Lists and maps are flattened there: each of
//! their items is a parameter or an element of its own, named in the singular.

/// How a member of a request is called by the actions. Some of them have it by more than one name,
/// and each request by at most one of these.
pub(crate) fn members(parameter: &str) -> &[&'static str] {
    match parameter {
        "Attribute" => &["Attributes"],
        "AttributeName" => &["AttributeNames"],
        "MessageAttribute" => &["MessageAttributes"],
        "MessageAttributeName" => &["MessageAttributeNames"],
        "MessageSystemAttribute" => &["MessageSystemAttributes"],
        "MessageSystemAttributeName" => &["MessageSystemAttributeNames"],
        "StringListValue" => &["StringListValues"],
        "BinaryListValue" => &["BinaryListValues"],
        "Tag" => &["tags", "Tags"],
        "TagKey" => &["TagKeys"],
        "AWSAccountId" => &["AWSAccountIds"],
        "ActionName" => &["Actions"],
        "SendMessageBatchRequestEntry"
        | "DeleteMessageBatchRequestEntry"
        | "ChangeMessageVisibilityBatchRequestEntry" => &["Entries"],
        _ => &[],
    }
}

/// How a member of a response is written.
pub(crate) enum Element<'a> {
    /// Under this name; a list as one element per item.
    Named(&'a str),
    /// As one element per item that the action names.
    ResultEntry,
    /// A map: one element per pair, with the key under this name and `Value` inside.
    Pairs { element: &'static str, key: &'static str },
}

pub(crate) fn element(member: &str) -> Element<'_> {
    let pairs = |element, key| Element::Pairs { element, key };
    match member {
        "Attributes" => pairs("Attribute", "Name"),
        "MessageAttributes" => pairs("MessageAttribute", "Name"),
        "Tags" => pairs("Tag", "Key"),
        "Messages" => Element::Named("Message"),
        "QueueUrls" | "queueUrls" => Element::Named("QueueUrl"),
        "Failed" => Element::Named("BatchResultErrorEntry"),
        "Successful" | "Results" => Element::ResultEntry,
        other => Element::Named(other),
    }
}

/// How a member of a response is called when the response is JSON.
pub(crate) fn json_member(member: &str) -> &str {
    match member {
        "Messages" => "messages",
        "QueueUrls" => "queueUrls",
        other => other,
    }
}

/// Members of a structure, or of the items of a list, that are `null` in JSON when there is nothing
/// in them, where the service is known to do so.
pub(crate) fn always(name: &str) -> &[&'static str] {
    match name {
        "ReceiveMessageResult" => &["messages"],
        "messages" => &[
            "Attributes",
            "Body",
            "MD5OfBody",
            "MD5OfMessageAttributes",
            "MessageAttributes",
            "MessageId",
            "ReceiptHandle",
        ],
        "SendMessageResult" => &[
            "MD5OfMessageAttributes",
            "MD5OfMessageBody",
            "MD5OfMessageSystemAttributes",
            "MessageId",
            "SequenceNumber",
        ],
        _ => &[],
    }
}
