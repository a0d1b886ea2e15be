//! Parameters as a tree: `Tag.1.Key=a` is `a` at `Tag`, `1`, `Key`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use percent_encoding::percent_decode;

use crate::error::{ApiError, ErrorKind};

/// More than any valid request has: a full batch has ten messages of at most ten attributes.
const PARAMETERS_MAX: usize = 4_096;
/// The deepest valid name is that of a list value of an attribute of an entry.
const DEPTH_MAX: usize = 8;

/// One place of the tree.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Node<'a> {
    pub(crate) text: Option<Cow<'a, str>>,
    pub(crate) children: BTreeMap<Cow<'a, str>, Node<'a>>,
}

/// The parameters of one request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Form<'a>(pub(crate) Node<'a>);

impl<'a> Form<'a> {
    /// Reads a query string and a form body; of equal names the last one counts.
    ///
    /// # Errors
    /// `MalformedInput` when there are too many parameters, one is named too deeply, or one is not
    /// UTF-8.
    pub(crate) fn read(query: &'a str, body: &'a [u8]) -> Result<Self, ApiError> {
        let malformed = |text: &'static str| ApiError::new(ErrorKind::Serialization, text);
        // The parser would replace what is no text, and a message must not be stored otherwise than
        // it was sent.
        let is_text = |bytes| percent_decode(bytes).decode_utf8().is_ok();
        if !is_text(query.as_bytes()) || !is_text(body) {
            return Err(malformed("The parameters are not valid UTF-8."));
        }
        let pairs = form_urlencoded::parse(query.as_bytes()).chain(form_urlencoded::parse(body));
        let mut root = Node::default();
        for (count, (name, value)) in pairs.enumerate() {
            if count >= PARAMETERS_MAX {
                return Err(malformed("The request has too many parameters."));
            }
            if name.split('.').count() > DEPTH_MAX {
                return Err(malformed("The name of a parameter has too many parts."));
            }
            root.at(name).text = Some(value);
        }
        Ok(Self(root))
    }

    /// A parameter at the top.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.children.get(name)?.text.as_deref()
    }

    /// Sets a parameter at the top, unless it is there.
    pub(crate) fn default(&mut self, name: &'static str, value: &'a str) {
        let node = self.0.children.entry(name.into()).or_default();
        node.text.get_or_insert(value.into());
    }
}

impl<'a> Node<'a> {
    fn at(&mut self, name: Cow<'a, str>) -> &mut Node<'a> {
        let mut node = self;
        match name {
            Cow::Borrowed(name) => {
                for part in name.split('.') {
                    node = node.children.entry(part.into()).or_default();
                }
            }
            Cow::Owned(name) => {
                for part in name.split('.') {
                    node = node.children.entry(part.to_owned().into()).or_default();
                }
            }
        }
        node
    }

    /// The items of a flattened list or map, in the order of their numbers. Something without a
    /// number is the only item, but for an empty text: so clients write an empty list.
    pub(crate) fn items(&self) -> Vec<&Node<'a>> {
        let numbered = self.children.iter().filter_map(|(name, node)| {
            let number = item_number(name)?;
            Some((number, node))
        });
        let mut items: Vec<_> = numbered.collect();
        let has_text = self.text.as_ref().is_some_and(|text| !text.is_empty());
        if items.is_empty() && (has_text || !self.children.is_empty()) {
            return vec![self];
        }
        items.sort_by_key(|(number, _)| *number);
        items.into_iter().map(|(_, node)| node).collect()
    }
}

fn item_number(name: &str) -> Option<u64> {
    name.bytes().all(|byte| byte.is_ascii_digit()).then(|| name.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn texts(node: &Node<'_>) -> Vec<String> {
        node.items().iter().map(|item| item.text.as_deref().unwrap_or("-").to_owned()).collect()
    }

    #[test]
    fn a_tree_of_query_and_body() {
        let form = Form::read("Action=A%20b+c&X=1", b"X=2&L.10=k&L.9=j&L.1=i&One=o&No=").unwrap();
        assert_eq!(form.get("Action"), Some("A b c"));
        assert_eq!(form.get("X"), Some("2"));
        assert_eq!(form.get("L"), None);
        assert_eq!(texts(&form.0.children["L"]), ["i", "j", "k"]);
        assert_eq!(texts(&form.0.children["One"]), ["o"]);
        assert!(texts(&form.0.children["No"]).is_empty());
    }

    #[test]
    fn what_is_there_is_not_replaced_by_a_default() {
        let mut form = Form::read("QueueUrl=a", b"").unwrap();
        form.default("QueueUrl", "b");
        form.default("Other", "c");
        assert_eq!((form.get("QueueUrl"), form.get("Other")), (Some("a"), Some("c")));
    }

    #[test]
    fn bounded() {
        let many = "a=1&".repeat(PARAMETERS_MAX);
        assert!(Form::read(&many, b"").is_ok());
        assert!(Form::read(&many, b"b=1").is_err());
        assert!(Form::read("a.b.c.d.e.f.g.h=1", b"").is_ok());
        assert!(Form::read("a.b.c.d.e.f.g.h.i=1", b"").is_err());
    }

    #[test]
    fn only_text() {
        for broken in [&b"a=%ff"[..], b"a=\xff", b"%c3=1"] {
            let error = Form::read("", broken).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Serialization);
        }
        assert_eq!(Form::read("", b"a=%c3%a9&b=%").unwrap().get("a"), Some("\u{e9}"));
    }

    /// Every text of the tree, under its full name.
    fn pairs(node: &Node<'_>, name: &str, out: &mut BTreeMap<String, String>) {
        out.extend(node.text.as_ref().map(|text| (name.to_owned(), text.to_string())));
        for (part, child) in &node.children {
            pairs(child, &format!("{name}.{part}"), out);
        }
    }

    fn read_pairs(form: &Form<'_>) -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        for (name, child) in &form.0.children {
            pairs(child, name, &mut out);
        }
        out
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            query in ".{0,60}",
            garbage: Vec<u8>,
            nearly in "([a-c0-9]|%[0-9a-fA-F]{0,2}|[&=.+;\u{e9}]){0,60}",
        ) {
            for body in [&garbage[..], nearly.as_bytes()] {
                if let Ok(form) = Form::read(&query, body) {
                    for node in form.0.children.values() {
                        let total = node.items().len();
                        prop_assert!(total <= node.children.len().max(1));
                    }
                }
            }
        }

        #[test]
        fn what_is_encoded_is_read(
            sent in vec(("[^.]{0,6}(\\.([^.]{0,4}|[0-9]{1,20})){0,7}", ".{0,12}"), 0..12),
            in_query in 0_usize..12,
        ) {
            let encode = |pairs: &[(String, String)]| {
                form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
            };
            let (query, body) = sent.split_at(in_query.min(sent.len()));
            let (query, body) = (encode(query), encode(body));
            let form = Form::read(&query, body.as_bytes()).unwrap();
            prop_assert_eq!(read_pairs(&form), sent.into_iter().collect::<BTreeMap<_, _>>());
        }
    }
}
