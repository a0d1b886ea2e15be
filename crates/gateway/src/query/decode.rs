//! Typed requests from the tree of parameters. The kinds of value (module `shape`) ask by name for
//! what they are; everything here is text until then.

use serde::Deserialize;
use serde::de::value::{Error, StrDeserializer};
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::form::{Form, Node};
use super::names;
use crate::error::{ApiError, ErrorKind};

static NOTHING: Node<'static> = Node { text: None, children: std::collections::BTreeMap::new() };

/// Reads a request.
///
/// # Errors
/// `MalformedInput` when a parameter is not of the kind that the request wants. Parameters that it
/// does not know are ignored.
pub(crate) fn decode<'a, T: Deserialize<'a>>(form: &'a Form<'a>) -> Result<T, ApiError> {
    T::deserialize(Value(&form.0))
        .map_err(|error| ApiError::new(ErrorKind::Serialization, error.to_string()))
}

/// A place of the tree, to be read as whatever is asked for.
#[derive(Clone, Copy)]
struct Value<'de>(&'de Node<'de>);

impl<'de> Value<'de> {
    fn text(self) -> Result<&'de str, Error> {
        match &self.0.text {
            Some(text) => Ok(text),
            None if self.0.children.is_empty() => Ok(""),
            None => Err(Error::custom("Start of structure or map found where not expected.")),
        }
    }

    fn structure(self, fields: Option<&'static [&'static str]>) -> Structure<'de> {
        Structure { children: self.0.children.iter(), fields, value: None }
    }
}

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = Error;

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        kind: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        match kind {
            "Integer" => match self.text()?.parse() {
                Ok(number) => visitor.visit_i64(number),
                Err(_) => Err(Error::custom("STRING_VALUE can not be converted to an Integer")),
            },
            "List" => visitor.visit_seq(Items(self.0.items().into_iter())),
            "Map" => visitor.visit_map(Pairs { items: self.0.items().into_iter(), value: None }),
            "Struct" => visitor.visit_map(self.structure(None)),
            // Text, and bytes as base64.
            _ => visitor.visit_borrowed_str(self.text()?),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(self.structure(Some(fields)))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The members of a structure, under the names that the actions have for them.
struct Structure<'de> {
    children: std::collections::btree_map::Iter<'de, std::borrow::Cow<'de, str>, Node<'de>>,
    /// The names that the structure has, where they are known.
    fields: Option<&'static [&'static str]>,
    value: Option<Value<'de>>,
}

impl<'de> Structure<'de> {
    fn member(&self, parameter: &'de str) -> &'de str {
        let members = names::members(parameter);
        let fields = self.fields.unwrap_or(members);
        let known = members.iter().find(|member| fields.contains(member));
        known.copied().unwrap_or(parameter)
    }
}

impl<'de> MapAccess<'de> for Structure<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some((name, node)) = self.children.next() else {
            return Ok(None);
        };
        self.value = Some(Value(node));
        let name: StrDeserializer<'de, Error> = self.member(name).into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(self.value.take().unwrap_or(Value(&NOTHING)))
    }
}

struct Items<'de>(std::vec::IntoIter<&'de Node<'de>>);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        self.0.next().map(|item| seed.deserialize(Value(item))).transpose()
    }
}

/// A map: items with a name (or key) and a value each.
struct Pairs<'de> {
    items: std::vec::IntoIter<&'de Node<'de>>,
    value: Option<Value<'de>>,
}

impl<'de> MapAccess<'de> for Pairs<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some(item) = self.items.next() else {
            return Ok(None);
        };
        let part = |name: &str| item.children.get(name).map(Value);
        self.value = part("Value");
        let key = part("Name").or_else(|| part("Key")).unwrap_or(Value(&NOTHING));
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(self.value.take().unwrap_or(Value(&NOTHING)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::shape::{Blob, Integer, List, Map, Struct, Text};

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Inner<'a> {
        #[serde(borrow)]
        id: Option<Text<'a>>,
        binary_value: Option<Blob>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Request<'a> {
        #[serde(borrow)]
        queue_url: Option<Text<'a>>,
        delay_seconds: Option<Integer>,
        #[serde(borrow)]
        attribute_names: Option<List<Text<'a>>>,
        #[serde(borrow, rename = "tags")]
        tags: Option<Map<'a, Text<'a>>>,
        entries: Option<List<Struct<Inner<'a>>>>,
    }

    fn read<T>(query: &str, check: impl FnOnce(Result<Request<'_>, ApiError>) -> T) -> T {
        let form = Form::read(query, b"").unwrap();
        check(decode(&form))
    }

    #[test]
    fn every_kind() {
        let query = "QueueUrl=u&DelaySeconds=-5&AttributeName.2=b&AttributeName.1=a&\
            Tag.1.Key=k&Tag.1.Value=v&Tag.2.Key=n&DeleteMessageBatchRequestEntry.1.Id=i&\
            DeleteMessageBatchRequestEntry.1.BinaryValue=AQI%3D&Unknown.1.x=y";
        read(query, |request| {
            let request = request.unwrap();
            assert_eq!(request.queue_url.unwrap().as_str(), "u");
            assert_eq!(request.delay_seconds, Some(Integer(-5)));
            let names = request.attribute_names.unwrap();
            assert_eq!(names.items.iter().map(Text::as_str).collect::<Vec<_>>(), ["a", "b"]);
            let tags = request.tags.unwrap();
            let tags: Vec<_> = tags.items.iter().map(|(k, v)| (k.as_ref(), v.as_str())).collect();
            assert_eq!(tags, [("k", "v"), ("n", "")]);
            let Struct(entry) = request.entries.unwrap().items.remove(0);
            assert_eq!(entry.id.unwrap().as_str(), "i");
            assert_eq!(entry.binary_value, Some(Blob(vec![1, 2])));
        });
    }

    #[test]
    fn a_single_item_may_go_without_its_number() {
        read("Tag.Key=k&Tag.Value=v&AttributeName=All", |request| {
            let request = request.unwrap();
            assert_eq!(request.tags.unwrap().total, 1);
            assert_eq!(request.attribute_names.unwrap().items[0].as_str(), "All");
        });
    }

    #[test]
    fn wrong_kinds() {
        for query in ["DelaySeconds=x", "DelaySeconds=", "DelaySeconds=1.0", "QueueUrl.1=x"] {
            read(query, |request| {
                assert_eq!(request.unwrap_err().kind, ErrorKind::Serialization, "{query}");
            });
        }
        let query = "DeleteMessageBatchRequestEntry.1.BinaryValue=%3F";
        read(query, |request| assert!(request.is_err()));
    }

    proptest! {
        #[test]
        fn nothing_sent_makes_it_panic(
            names in prop::collection::vec(
                "(Action|QueueUrl|Tag|AttributeName|DelaySeconds|DeleteMessageBatchRequestEntry)\
                 (\\.(0|1|2|99999999999999999999|Name|Key|Value|Id|BinaryValue|)){0,4}",
                0..12,
            ),
            rest in "[a-z0-9&=.%+]{0,40}",
        ) {
            let query = names.iter().map(|name| format!("{name}=1&")).collect::<String>() + &rest;
            if let Ok(form) = Form::read(&query, b"") {
                let _ = decode::<Request<'_>>(&form);
            }
        }

        #[test]
        fn every_text_arrives(text in ".{0,60}") {
            let body = form_urlencoded::Serializer::new(String::new())
                .append_pair("QueueUrl", &text)
                .append_pair("AttributeName.1", &text)
                .finish();
            let form = Form::read("", body.as_bytes()).unwrap();
            let request: Request<'_> = decode(&form).unwrap();
            let url = request.queue_url.unwrap();
            prop_assert_eq!(url.as_str(), &text);
            let names = request.attribute_names.unwrap();
            let names: Vec<_> = names.items.iter().map(Text::as_str).collect();
            prop_assert_eq!(names, [text.as_str()]);
        }
    }
}
