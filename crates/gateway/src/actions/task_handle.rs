//! Handles of move tasks: base64 of JSON that names the task and its dead-letter queue. Callers are
//! known to read them and to make their own, so they are not authenticated.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flotilla_types::ids::TaskId;
use serde::{Deserialize, Serialize};

use crate::ids::UuidText;
use crate::json;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    task_id: String,
    source_arn: String,
}

pub(crate) fn seal(task: TaskId, source_arn: &str) -> String {
    let task_id = UuidText::new(task.0).to_string();
    let content = Content { task_id, source_arn: source_arn.to_owned() };
    STANDARD.encode(json::encode(&content, 256))
}

/// The task and the ARN of its dead-letter queue, which is not looked at here; `None` when this is
/// no handle.
pub(crate) fn open(handle: &str) -> Option<(TaskId, String)> {
    let bytes = STANDARD.decode(handle).ok()?;
    let content: Content = json::decode(&bytes).ok()?;
    let task = UuidText::parse(&content.task_id)?;
    Some((TaskId(task), content.source_arn))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TASK: TaskId =
        TaskId([0x10, 0xf5, 0x71, 0x57, 0xfc, 0x38, 0x4d, 0xa9, 0xa1, 0x13, 1, 2, 3, 4, 5, 6]);

    #[test]
    fn a_handle_is_base64_of_compact_json() {
        let handle = seal(TASK, "arn:aws:sqs:us-east-1:000000000000:dead");
        let content = String::from_utf8(STANDARD.decode(&handle).unwrap()).unwrap();
        assert_eq!(
            content,
            "{\"taskId\":\"10f57157-fc38-4da9-a113-010203040506\",\
             \"sourceArn\":\"arn:aws:sqs:us-east-1:000000000000:dead\"}"
        );
        assert_eq!(open(&handle), Some((TASK, "arn:aws:sqs:us-east-1:000000000000:dead".into())));
    }

    #[test]
    fn what_is_no_handle() {
        let task = UuidText::new(TASK.0);
        for content in [
            "".to_owned(),
            "{}".to_owned(),
            "{\"taskId\":\"x\",\"sourceArn\":\"a\"}".to_owned(),
            format!("{{\"taskId\":\"{task}\"}}"),
            format!("{{\"taskId\":\"{task}\",\"sourceArn\":5}}"),
            format!("[\"{task}\",\"a\"]"),
        ] {
            assert_eq!(open(&STANDARD.encode(&content)), None, "{content}");
        }
        for text in ["", "foobared", "?", "{}"] {
            assert_eq!(open(text), None, "{text}");
        }
        let foreign = format!("{{ \"sourceArn\": \"a\", \"x\": 1, \"taskId\": \"{task}\" }}");
        assert_eq!(open(&STANDARD.encode(foreign)), Some((TASK, "a".into())));
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens(task: [u8; 16], source_arn in ".{0,60}") {
            let handle = seal(TaskId(task), &source_arn);
            prop_assert_eq!(open(&handle), Some((TaskId(task), source_arn)));
        }

        #[test]
        fn what_opens_is_base64_of_json_with_both_members(
            text in ".{0,80}",
            content: Vec<u8>,
            task in "[0-9a-f-]{34,37}",
            rest in "[{}\\[\\]\",:a-zA-Z0]{0,30}",
        ) {
            prop_assert_eq!(open(&text), None);
            prop_assert_eq!(open(&STANDARD.encode(content)), None);
            let nearly = format!("{{\"taskId\":\"{task}\",\"sourceArn\":\"{rest}");
            if let Some((opened, _)) = open(&STANDARD.encode(&nearly)) {
                prop_assert_eq!(UuidText::new(opened.0).to_string(), task);
            }
        }

        #[test]
        fn a_damaged_handle_is_none_or_another_one(at: prop::sample::Index, byte in 0_u8..128) {
            let mut handle = seal(TASK, "arn").into_bytes();
            let at = at.index(handle.len());
            handle[at] = byte;
            let _ = open(std::str::from_utf8(&handle).unwrap());
        }
    }
}
