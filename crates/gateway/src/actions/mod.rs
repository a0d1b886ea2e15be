//! The actions, one file each: a request type, a response type, and `run`.

pub(crate) mod add_permission;
pub(crate) mod batch;
pub(crate) mod change_message_visibility;
pub(crate) mod change_message_visibility_batch;
pub(crate) mod create_queue;
pub(crate) mod delete_message;
pub(crate) mod delete_message_batch;
pub(crate) mod delete_queue;
pub(crate) mod get_queue_attributes;
pub(crate) mod get_queue_url;
pub(crate) mod list_dead_letter_source_queues;
pub(crate) mod list_queue_tags;
pub(crate) mod list_queues;
pub(crate) mod pages;
pub(crate) mod purge_queue;
pub(crate) mod queue_attributes;
pub(crate) mod receipts;
pub(crate) mod receive_message;
pub(crate) mod remove_permission;
pub(crate) mod selection;
pub(crate) mod send_message;
pub(crate) mod send_message_batch;
pub(crate) mod set_queue_attributes;
pub(crate) mod tag_queue;
pub(crate) mod tags;
pub(crate) mod untag_queue;
