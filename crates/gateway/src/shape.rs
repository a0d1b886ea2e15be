//! The kinds of value that requests are made of. A request type is derived from these; the decoder
//! of a protocol drives them through serde, so that no action knows the protocol.
//!
//! They differ from serde's own implementations in what they refuse and how they say it (the texts
//! are those of the service's decoder), and in that no collection grows beyond
//! [`ITEMS_KEPT_MAX`] items, or a bound of its own: the rest is counted and dropped.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Items of one list or map that are kept. Every documented bound on a list is far below.
pub(crate) const ITEMS_KEPT_MAX: usize = 256;

/// Names of one list that are kept: as many as a form has parameters. No bound on them is documented.
pub(crate) const NAMES_KEPT_MAX: usize = 4_096;

/// A string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

impl Text<'_> {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A whole number. Fractions, exponents and texts of numbers are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Integer(pub(crate) i64);

/// Bytes, base64 on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blob(pub(crate) Vec<u8>);

/// A structure inside another one. A bare derived type would also take a list for one.
#[derive(Clone, Debug)]
pub(crate) struct Struct<T>(pub(crate) T);

/// A list.
#[derive(Clone, Debug)]
pub(crate) struct List<T, const KEPT: usize = ITEMS_KEPT_MAX> {
    /// The first `KEPT`.
    pub(crate) items: Vec<T>,
    /// How many there were.
    pub(crate) total: usize,
}

/// Names of what a caller asks for.
pub(crate) type Names<'a> = List<Text<'a>, NAMES_KEPT_MAX>;

/// A map with text keys, in the order in which they came; of equal keys the last one counts.
#[derive(Clone, Debug)]
pub(crate) struct Map<'a, V> {
    /// The first [`ITEMS_KEPT_MAX`].
    pub(crate) items: Vec<(Cow<'a, str>, V)>,
    /// How many there were, equal keys counted once among the kept ones.
    pub(crate) total: usize,
}

const MAP_UNEXPECTED: &str = "Start of structure or map found where not expected.";
const LIST_UNEXPECTED: &str = "Start of list found where not expected";
const TEXT_AS_COLLECTION: &str = "Unrecognized collection type class java.lang.String";
const NUMBER_AS_COLLECTION: &str = "Unrecognized collection type class java.lang.Number";
const BOOLEAN_AS_COLLECTION: &str = "Unrecognized collection type class java.lang.Boolean";

/// Visits that a kind refuses, with the text for each.
macro_rules! refuse {
    (numbers: $text:expr) => {
        fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self::Value, E> {
            Err(E::custom($text))
        }
        fn visit_u64<E: de::Error>(self, _: u64) -> Result<Self::Value, E> {
            Err(E::custom($text))
        }
        fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
            Err(E::custom($text))
        }
    };
    (texts: $text:expr) => {
        fn visit_str<E: de::Error>(self, _: &str) -> Result<Self::Value, E> {
            Err(E::custom($text))
        }
    };
    (booleans: $text:expr) => {
        fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self::Value, E> {
            Err(E::custom($text))
        }
    };
    (maps) => {
        fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
            Err(de::Error::custom(MAP_UNEXPECTED))
        }
    };
    (lists) => {
        fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
            Err(de::Error::custom(LIST_UNEXPECTED))
        }
    };
}

/// Visits that lead a decoder which knows its own types past the name of the kind.
macro_rules! kind {
    ($name:literal) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str($name)
        }

        fn visit_newtype_struct<D: Deserializer<'de>>(
            self,
            deserializer: D,
        ) -> Result<Self::Value, D::Error> {
            deserializer.deserialize_any(self)
        }
    };
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    kind!("Text");
    refuse!(numbers: "NUMBER_VALUE can not be converted to a String");
    refuse!(booleans: "BOOLEAN_VALUE can not be converted to a String");
    refuse!(maps);
    refuse!(lists);

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct("Text", TextVisitor)
    }
}

struct IntegerVisitor;

impl<'de> Visitor<'de> for IntegerVisitor {
    type Value = Integer;

    kind!("Integer");
    refuse!(texts: "STRING_VALUE can not be converted to an Integer");
    refuse!(booleans: "BOOLEAN_VALUE can not be converted to an Integer");
    refuse!(maps);
    refuse!(lists);

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Integer, E> {
        Ok(Integer(number))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Integer, E> {
        let too_large = |_| E::custom("NUMBER_VALUE can not be converted to an Integer");
        number.try_into().map(Integer).map_err(too_large)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Integer, E> {
        Err(E::custom("NUMBER_VALUE can not be converted to an Integer"))
    }
}

impl<'de> Deserialize<'de> for Integer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct("Integer", IntegerVisitor)
    }
}

struct BlobVisitor;

impl<'de> Visitor<'de> for BlobVisitor {
    type Value = Blob;

    kind!("Blob");
    refuse!(numbers: "NUMBER_VALUE can not be converted to a Blob");
    refuse!(booleans: "BOOLEAN_VALUE can not be converted to a Blob");
    refuse!(maps);
    refuse!(lists);

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Blob, E> {
        STANDARD.decode(text).map(Blob).map_err(|_| E::custom("Blob is not valid base64"))
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct("Blob", BlobVisitor)
    }
}

struct StructVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for StructVisitor<T> {
    type Value = Struct<T>;

    kind!("Struct");
    refuse!(numbers: NUMBER_AS_COLLECTION);
    refuse!(texts: TEXT_AS_COLLECTION);
    refuse!(booleans: BOOLEAN_AS_COLLECTION);
    refuse!(lists);

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Struct<T>, A::Error> {
        T::deserialize(de::value::MapAccessDeserializer::new(map)).map(Struct)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Struct<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct("Struct", StructVisitor(PhantomData))
    }
}

struct ListVisitor<T, const KEPT: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const KEPT: usize> Visitor<'de> for ListVisitor<T, KEPT> {
    type Value = List<T, KEPT>;

    kind!("List");
    refuse!(numbers: NUMBER_AS_COLLECTION);
    refuse!(texts: TEXT_AS_COLLECTION);
    refuse!(booleans: BOOLEAN_AS_COLLECTION);
    refuse!(maps);

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while items.len() < KEPT {
            match sequence.next_element()? {
                Some(item) => items.push(item),
                None => {
                    return Ok(List { total: items.len(), items });
                }
            }
        }
        let mut total = items.len();
        while sequence.next_element::<IgnoredAny>()?.is_some() {
            total += 1;
        }
        Ok(List { items, total })
    }
}

impl<'de, T: Deserialize<'de>, const KEPT: usize> Deserialize<'de> for List<T, KEPT> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct("List", ListVisitor::<T, KEPT>(PhantomData))
    }
}

struct MapVisitor<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for MapVisitor<V> {
    type Value = Map<'de, V>;

    kind!("Map");
    refuse!(numbers: NUMBER_AS_COLLECTION);
    refuse!(texts: TEXT_AS_COLLECTION);
    refuse!(booleans: BOOLEAN_AS_COLLECTION);
    refuse!(lists);

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Map<'de, V>, A::Error> {
        let mut items: Vec<(Cow<'de, str>, V)> = Vec::new();
        while items.len() < ITEMS_KEPT_MAX {
            let Some((Text(key), value)) = map.next_entry()? else {
                return Ok(Map { total: items.len(), items });
            };
            match items.iter_mut().find(|(present, _)| *present == key) {
                Some((_, present)) => *present = value,
                None => items.push((key, value)),
            }
        }
        let mut total = items.len();
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            total += 1;
        }
        Ok(Map { items, total })
    }
}

impl<'de: 'a, 'a, V: Deserialize<'de>> Deserialize<'de> for Map<'a, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct("Map", MapVisitor(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::json;

    #[derive(serde::Deserialize)]
    struct Inner<'a> {
        #[serde(borrow)]
        a: Option<Text<'a>>,
    }

    #[derive(serde::Deserialize)]
    struct Of<T> {
        x: T,
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
            "[A-Za-z0-9+/]{4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..4).prop_map(Value::from),
                btree_map("a|.{0,3}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn read<'a, T: Deserialize<'a>>(body: &'a str) -> Option<T> {
        json::decode::<Of<T>>(body.as_bytes()).ok().map(|of| of.x)
    }

    proptest! {
        #[test]
        fn each_kind_takes_its_own_values_only(value in value()) {
            let body = serde_json::json!({ "x": value }).to_string();
            let text = read::<Text<'_>>(&body);
            prop_assert_eq!(text.as_ref().map(Text::as_str), value.as_str());
            prop_assert_eq!(read::<Integer>(&body), value.as_i64().map(Integer));
            let bytes = value.as_str().and_then(|text| STANDARD.decode(text).ok());
            prop_assert_eq!(read::<Blob>(&body), bytes.map(Blob));

            let texts = value.as_array().filter(|list| list.iter().all(Value::is_string));
            let list = read::<List<Text<'_>>>(&body);
            prop_assert_eq!(list.map(|list| list.total), texts.map(Vec::len));
            let texts = value.as_object().filter(|map| map.values().all(Value::is_string));
            let map = read::<Map<'_, Text<'_>>>(&body);
            prop_assert_eq!(map.map(|map| map.total), texts.map(serde_json::Map::len));

            let inner = read::<Struct<Inner<'_>>>(&body).map(|Struct(inner)| inner.a);
            let fits = |a: Option<&Value>| a.is_none_or(|a| a.is_null() || a.is_string());
            let object = value.as_object().filter(|members| fits(members.get("a")));
            prop_assert_eq!(inner.is_some(), object.is_some());
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            garbage: Vec<u8>, nearly in "\\{(\"[xa]\"|[\\[\\]{}:,]|\\\\u[d0][8c0]00|[-0-9.e]){0,20}\\}",
        ) {
            for body in [&garbage[..], nearly.as_bytes()] {
                let _ = json::decode::<Of<Map<'_, Text<'_>>>>(body);
                let _ = json::decode::<Of<List<Struct<Inner<'_>>>>>(body);
                let _ = json::decode::<Of<Integer>>(body);
            }
        }

        #[test]
        fn no_collection_grows_beyond_what_is_kept(
            sent in prop_oneof![0_usize..600, NAMES_KEPT_MAX - 2..NAMES_KEPT_MAX + 3],
        ) {
            let list = Value::from(vec!["v"; sent]);
            let map: serde_json::Map<_, _> =
                (0..sent).map(|n| (n.to_string(), Value::from("v"))).collect();
            let (list, map) = (format!("{{\"x\":{list}}}"), serde_json::json!({ "x": map }).to_string());
            let names = read::<Names<'_>>(&list).unwrap();
            let list = read::<List<Text<'_>>>(&list).unwrap();
            let map = read::<Map<'_, Text<'_>>>(&map).unwrap();
            prop_assert_eq!((list.total, names.total, map.total), (sent, sent, sent));
            prop_assert_eq!(names.items.len(), sent.min(NAMES_KEPT_MAX));
            let kept = sent.min(ITEMS_KEPT_MAX);
            prop_assert_eq!((list.items.len(), map.items.len()), (kept, kept));
        }
    }
}
