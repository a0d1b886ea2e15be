//! User attributes and system attributes of a message.

use flotilla_types::limits;
use flotilla_wire::content::{Attribute, Value};
use serde::Deserialize;

use super::characters;
use crate::error::{ApiError, ErrorKind, shown};
use crate::shape::{Blob, List, Map, Struct, Text};

const NAME_CHARS_MAX: usize = 256;
const TYPE_CHARS_MAX: usize = 256;
const NUMBER_DIGITS_MAX: usize = 38;
const TRACE_HEADER: &str = "AWSTraceHeader";

/// One attribute as it was sent.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct AttributeValue<'a> {
    #[serde(borrow)]
    data_type: Option<Text<'a>>,
    #[serde(borrow)]
    string_value: Option<Text<'a>>,
    binary_value: Option<Blob>,
    #[serde(borrow)]
    string_list_values: Option<List<Text<'a>>>,
    binary_list_values: Option<List<Blob>>,
}

/// Attributes as they were sent.
pub(crate) type Attributes<'a> = Map<'a, Struct<AttributeValue<'a>>>;

/// Names, types and values, in bytes; what counts towards the size of a message.
pub(crate) fn bytes(attributes: Option<&Attributes<'_>>) -> usize {
    let one = |(name, Struct(value)): &(std::borrow::Cow<'_, str>, Struct<AttributeValue<'_>>)| {
        let text = |text: &Option<Text<'_>>| text.as_ref().map_or(0, |text| text.0.len());
        name.len()
            + text(&value.data_type)
            + text(&value.string_value)
            + value.binary_value.as_ref().map_or(0, |blob| blob.0.len())
    };
    attributes.map_or(0, |attributes| attributes.items.iter().map(one).sum())
}

/// Checks user attributes.
///
/// # Errors
/// `InvalidParameterValue`, or `UnsupportedOperation` for list values.
pub(crate) fn check(
    attributes: Option<Attributes<'_>>,
    action: &str,
) -> Result<Vec<Attribute>, ApiError> {
    let Some(attributes) = attributes else {
        return Ok(Vec::new());
    };
    if attributes.total > limits::MESSAGE_ATTRIBUTES_MAX {
        return Err(ApiError::invalid(format!(
            "Number of message attributes [{}] exceeds the allowed maximum [{}].",
            attributes.total,
            limits::MESSAGE_ATTRIBUTES_MAX
        )));
    }
    let check_one = |(name, Struct(value)): (std::borrow::Cow<'_, str>, _)| {
        check_name(&name)?;
        check_value(name.into_owned(), value, action)
    };
    attributes.items.into_iter().map(check_one).collect()
}

fn check_name(name: &str) -> Result<(), ApiError> {
    if name.is_empty() || name.chars().count() > NAME_CHARS_MAX {
        return Err(ApiError::invalid(
            "Message (user) attribute name must be shorter than 256 bytes.",
        ));
    }
    let starts_with = |prefix: &str| {
        name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    if starts_with("AWS.") || starts_with("Amazon.") {
        return Err(ApiError::invalid(
            "You can't use message attribute names beginning with 'AWS.' or 'Amazon'. \
             These strings are reserved for internal use.",
        ));
    }
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !name.chars().all(allowed)
        || name.starts_with('.')
        || name.ends_with('.')
        || name.contains("..")
    {
        return Err(ApiError::invalid(format!(
            "Message (user) attribute name '{name}' is invalid. Reason: Only alphanumeric \
             characters, underscores, hyphens and periods are allowed; a period must not be the \
             first or the last character nor follow another one."
        )));
    }
    Ok(())
}

fn check_value(
    name: String,
    value: AttributeValue<'_>,
    action: &str,
) -> Result<Attribute, ApiError> {
    let has_list = value.string_list_values.is_some_and(|list| list.total > 0)
        || value.binary_list_values.is_some_and(|list| list.total > 0);
    if has_list {
        return Err(ApiError::unsupported(format!(
            "Message attribute list values in {action} operation are not supported."
        )));
    }
    let data_type = value.data_type.map(|text| text.0.into_owned()).unwrap_or_default();
    let logical = data_type.split_once('.').map_or(data_type.as_str(), |(logical, _)| logical);
    if data_type.is_empty() {
        return Err(empty(&name, "String"));
    }
    if !matches!(logical, "String" | "Number" | "Binary") {
        return Err(ApiError::invalid(format!(
            "The type of message (user) attribute '{name}' is invalid. You must use only the \
             following supported type prefixes: Binary, Number, String."
        )));
    }
    if data_type.chars().count() > TYPE_CHARS_MAX {
        return Err(ApiError::invalid(format!(
            "The type of message (user) attribute '{name}' must be shorter than 256 bytes."
        )));
    }
    // The custom part means nothing here, but it has to come back as it was: it is in the digest.
    if !characters::are_allowed(&data_type) {
        return Err(ApiError::invalid(format!(
            "The type of message (user) attribute '{name}' contains invalid characters. \
             {CHARACTERS}"
        )));
    }
    if value.string_value.is_some() && value.binary_value.is_some() {
        return Err(ApiError::invalid(format!(
            "Message (user) attribute '{name}' must have a single value."
        )));
    }
    let value = match (logical, value.string_value, value.binary_value) {
        ("Binary", None, Some(Blob(bytes))) if !bytes.is_empty() => Value::Binary(bytes.into()),
        ("String", Some(text), None) if !text.0.is_empty() => {
            if !characters::are_allowed(&text.0) {
                return Err(ApiError::invalid(format!(
                    "Message (user) attribute '{name}' contains invalid characters. {CHARACTERS}"
                )));
            }
            Value::Text(text.0.into_owned())
        }
        ("Number", Some(text), None) if !text.0.is_empty() => {
            if !is_number(&text.0) {
                return Err(ApiError::invalid(format!(
                    "Can't cast the value of message (user) attribute '{name}' to a number."
                )));
            }
            Value::Text(text.0.into_owned())
        }
        _ => return Err(empty(&name, logical)),
    };
    Ok(Attribute { name, data_type, value })
}

/// What the service says about characters.
pub(crate) const CHARACTERS: &str = "Valid unicode characters are #x9 | #xA | #xD | #x20 to \
     #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF";

fn empty(name: &str, logical: &str) -> ApiError {
    ApiError::invalid(format!(
        "Message (user) attribute '{name}' must contain a non-empty value of type '{logical}'."
    ))
}

/// Up to 38 significant digits between 10^-128 and 10^126, in decimal or scientific notation.
fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return false;
            }
            // Out of i64 is out of range too, unless the value is zero; refusing that is no loss.
            match exponent.parse::<i64>() {
                Ok(exponent) => (mantissa, exponent),
                Err(_) => return false,
            }
        }
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || whole.bytes().chain(fraction.bytes());
    if digits().next().is_none() || !digits().all(|b| b.is_ascii_digit()) {
        return false;
    }
    let (Some(first), Some(last)) = (
        digits().position(|b| b != b'0'),
        digits().collect::<Vec<_>>().iter().rposition(|b| *b != b'0'),
    ) else {
        return true;
    };
    // Position of the first significant digit as a power of ten.
    let magnitude = (whole.len() as i64 - 1 - first as i64).saturating_add(exponent);
    let at_upper_end = magnitude == 126 && first == last && digits().nth(first) == Some(b'1');
    last - first < NUMBER_DIGITS_MAX && ((-128..126).contains(&magnitude) || at_upper_end)
}

/// Checks system attributes; the only one that can be sent is the trace header.
///
/// # Errors
/// `InvalidParameterValue`.
pub(crate) fn check_system(
    attributes: Option<Attributes<'_>>,
) -> Result<Option<Attribute>, ApiError> {
    let Some(attributes) = attributes else {
        return Ok(None);
    };
    let mut trace = None;
    for (name, Struct(value)) in attributes.items {
        if name != TRACE_HEADER {
            return Err(ApiError::invalid(format!(
                "Message system attribute name '{}' is invalid.",
                shown(&name)
            )));
        }
        let data_type = value.data_type.map(|text| text.0.into_owned()).unwrap_or_default();
        if data_type != "String" {
            return Err(ApiError::invalid(format!(
                "The type of message (system) attribute '{name}' is invalid. \
                 You must use only the following supported type: String."
            )));
        }
        let text = value.string_value.map(|text| text.0.into_owned()).unwrap_or_default();
        if text.is_empty() || !characters::are_allowed(&text) {
            return Err(ApiError::invalid(format!(
                "Message (system) attribute '{name}' must contain a non-empty value of type \
                 'String'."
            )));
        }
        if text.len() > limits::TRACE_HEADER_BYTES_MAX {
            return Err(ApiError::invalid(format!(
                "Message (system) attribute '{name}' must be no longer than {} bytes.",
                limits::TRACE_HEADER_BYTES_MAX
            )));
        }
        trace = Some(Attribute { name: name.into_owned(), data_type, value: Value::Text(text) });
    }
    Ok(trace)
}

/// `InvalidMessageContents` for a body.
pub(crate) fn bad_characters() -> ApiError {
    ApiError::new(
        ErrorKind::InvalidMessageContents,
        format!("Invalid characters found. {CHARACTERS}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(json: &str) -> Result<Vec<Attribute>, ApiError> {
        check(Some(serde_json::from_str(json).unwrap()), "SendMessage")
    }

    fn refusal(json: &str) -> String {
        let error = checked(json).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidParameterValue, "{json}");
        error.message.into_owned()
    }

    fn named(name: &str) -> String {
        format!("{{\"{name}\":{{\"DataType\":\"String\",\"StringValue\":\"v\"}}}}")
    }

    fn typed(data_type: &str, value: &str) -> String {
        format!("{{\"n\":{{\"DataType\":\"{data_type}\",{value}}}}}")
    }

    #[test]
    fn names() {
        for name in ["a", "a.b-c_D9", "øßä", "AWSx", "Amazonas", &"x".repeat(256)] {
            assert_eq!(checked(&named(name)).unwrap()[0].name, name);
        }
        for name in ["!", "§", "(", "?", "a b", ".a", "a.", "a..b"] {
            assert!(refusal(&named(name)).contains("is invalid. Reason: Only"), "{name}");
        }
        for name in ["AWS.x", "aws.x", "Amazon.x", "aMAZON.x"] {
            assert!(refusal(&named(name)).contains("reserved for internal use"), "{name}");
        }
        for name in ["", &"x".repeat(257)] {
            assert!(refusal(&named(name)).contains("must be shorter than 256 bytes"), "{name}");
        }
    }

    #[test]
    fn values() {
        for json in [
            typed("String", "\"StringValue\":\"\""),
            typed("String", "\"BinaryValue\":\"AA==\""),
            typed("String.x", "\"StringValue\":null"),
        ] {
            assert_eq!(
                refusal(&json),
                "Message (user) attribute 'n' must contain a non-empty value of type 'String'."
            );
        }
        assert!(refusal(&typed("Binary", "\"BinaryValue\":\"\"")).contains("type 'Binary'"));
        assert!(
            refusal(&typed("Text", "\"StringValue\":\"x\"")).contains("Binary, Number, String")
        );
        assert!(refusal(&typed("string", "\"StringValue\":\"x\"")).contains("type prefixes"));
        assert!(refusal(&typed("String", "\"StringValue\":\"\\u0001\"")).contains("#x9 | #xA"));
        for bad in ["\\u0001", "\\uffff", "a\\u0000"] {
            let text = refusal(&typed(&format!("String.{bad}"), "\"StringValue\":\"x\""));
            assert!(text.starts_with("The type of") && text.contains("#x9 | #xA"), "{bad}: {text}");
        }
        for good in ["String.", "Number.int", "Binary.a b.\u{e9}\u{1f600}"] {
            let value = match good.starts_with("Binary") {
                true => "\"BinaryValue\":\"AA==\"",
                false => "\"StringValue\":\"1\"",
            };
            assert_eq!(checked(&typed(good, value)).unwrap()[0].data_type, good);
        }
        assert!(
            refusal(&typed("String", "\"StringValue\":\"x\",\"BinaryValue\":\"AA==\""))
                .contains("must have a single value")
        );
        assert_eq!(
            refusal(&typed("Number", "\"StringValue\":\"x\"")),
            "Can't cast the value of message (user) attribute 'n' to a number."
        );
        let list = checked(&typed("String", "\"StringListValues\":[\"x\"]")).unwrap_err();
        assert_eq!(list.kind, ErrorKind::UnsupportedOperation);
        let empty_list = typed("String", "\"StringValue\":\"x\",\"StringListValues\":[]");
        assert!(checked(&empty_list).is_ok());
    }

    #[test]
    fn at_most_ten() {
        let many = |n: usize| {
            let one = |i| named(&format!("n{i}")).trim_matches(['{', '}']).to_owned() + "}";
            format!("{{{}}}", (0..n).map(one).collect::<Vec<_>>().join(","))
        };
        assert_eq!(checked(&many(10)).unwrap().len(), 10);
        assert_eq!(
            refusal(&many(11)),
            "Number of message attributes [11] exceeds the allowed maximum [10]."
        );
        assert!(refusal(&many(300)).contains("[300]"));
    }

    #[test]
    fn numbers() {
        let nines = "9".repeat(38);
        for good in ["0", "-1", "+1.5", ".5", "5.", "1e10", "1E-128", "1e126", "000.10", &nines] {
            assert!(is_number(good), "{good}");
        }
        let too_precise = "9".repeat(39);
        for bad in [
            "",
            "-",
            ".",
            "e5",
            "1e",
            "1e+",
            "1.2.3",
            "0x5",
            "1e127",
            "2e126",
            "1e-129",
            "NaN",
            " 1",
            "1e99999999999999999999",
            &too_precise,
        ] {
            assert!(!is_number(bad), "{bad}");
        }
    }

    #[test]
    fn a_long_name_of_a_system_attribute_is_not_repeated_whole() {
        let json = named(&"x".repeat(100_000));
        let refused = check_system(Some(serde_json::from_str(&json).unwrap())).unwrap_err();
        assert!(refused.message.len() < 1_000, "{}", refused.message);
    }

    #[test]
    fn system_attributes() {
        let check = |json: &str| check_system(Some(serde_json::from_str(json).unwrap()));
        let trace = "{\"AWSTraceHeader\":{\"DataType\":\"String\",\"StringValue\":\"Root=1\"}}";
        assert!(check(trace).unwrap().is_some());
        for bad in [
            trace.replace("AWSTraceHeader", "Other"),
            trace.replace("String\"", "Number\""),
            trace.replace("Root=1", ""),
            trace.replace("Root=1", &"x".repeat(limits::TRACE_HEADER_BYTES_MAX + 1)),
        ] {
            assert_eq!(check(&bad).unwrap_err().kind, ErrorKind::InvalidParameterValue, "{bad}");
        }
    }
}
