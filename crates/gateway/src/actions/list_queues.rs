//! ListQueues.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flotilla_cluster::api::Cluster;
use flotilla_types::limits;
use flotilla_types::names::QueueName;
use serde::{Deserialize, Serialize};

use crate::action::Call;
use crate::error::ApiError;
use crate::shape::{Integer, Text};

const TOKEN_VERSION: u8 = 1;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Request<'a> {
    #[serde(borrow)]
    queue_name_prefix: Option<Text<'a>>,
    max_results: Option<Integer>,
    #[serde(borrow)]
    next_token: Option<Text<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Response {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    queue_urls: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

pub(crate) async fn run<C: Cluster>(
    call: &Call<'_, C>,
    request: Request<'_>,
) -> Result<Response, ApiError> {
    let page = page(request.max_results)?;
    let prefix = request.queue_name_prefix.as_ref().map_or("", Text::as_str);
    let after = match request.next_token.as_ref().map(Text::as_str) {
        None | Some("") => None,
        Some(token) => Some(open_token(token, prefix)?),
    };
    // One more than the page tells whether there are more. Without MaxResults nobody is told.
    let limit = page.map_or(limits::LIST_PAGE_MAX, |page| page + 1);
    let mut names = call.gateway.cluster.list_queues(prefix, after.as_deref(), limit).await?;
    let next_token = match page {
        Some(page) if names.len() > page => {
            names.truncate(page);
            names.last().map(|last| token(prefix, last))
        }
        _ => None,
    };
    let queue_urls = names.iter().map(|name| call.url(name.as_str())).collect();
    Ok(Response { queue_urls, next_token })
}

fn page(max_results: Option<Integer>) -> Result<Option<usize>, ApiError> {
    let Some(Integer(given)) = max_results else {
        return Ok(None);
    };
    let in_range = |page: &usize| (1..=limits::LIST_PAGE_MAX).contains(page);
    let page = usize::try_from(given).ok().filter(in_range).ok_or_else(|| {
        ApiError::invalid(
            "Value for parameter MaxResults is invalid. Reason: MaxResults must be an integer \
             between 1 and 1000.",
        )
    })?;
    Ok(Some(page))
}

/// Base64 of version, last name of the page, `/`, prefix. No name holds a slash, so the first one
/// ends it.
fn token(prefix: &str, last: &QueueName) -> String {
    let mut bytes = vec![TOKEN_VERSION];
    bytes.extend_from_slice(last.as_str().as_bytes());
    bytes.push(b'/');
    bytes.extend_from_slice(prefix.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn open_token(token: &str, prefix: &str) -> Result<String, ApiError> {
    let bad = || ApiError::invalid("Invalid or expired next token.");
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| bad())?;
    let (&version, rest) = bytes.split_first().ok_or_else(bad)?;
    let text = std::str::from_utf8(rest).map_err(|_| bad())?;
    let (after, of_prefix) = text.split_once('/').ok_or_else(bad)?;
    if version != TOKEN_VERSION || QueueName::new(after).is_err() {
        return Err(bad());
    }
    if of_prefix != prefix {
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

    #[test]
    fn tokens_bind_the_prefix() {
        let made = token("a/b", &QueueName::new("abc").unwrap());
        assert_eq!(open_token(&made, "a/b").unwrap(), "abc");
        assert!(open_token(&made, "a").unwrap_err().message.starts_with("Invalid NextToken"));
        for bad in ["!", "", "AA", &made[1..]] {
            let error = open_token(bad, "a/b").unwrap_err();
            assert_eq!(error.message, "Invalid or expired next token.", "{bad}");
        }
    }
}
