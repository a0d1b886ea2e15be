//! Queue URLs and ARNs.

use flotilla_types::names::{AccountId, QueueName};

/// The queue that a URL, a path or a bare name means; `None` when it is none of the account's.
/// Only the last two segments count, and a trailing slash does not.
pub(crate) fn queue_name(url: &str, account: &AccountId) -> Option<QueueName> {
    let url = url.strip_suffix('/').unwrap_or(url);
    let mut segments = url.rsplit('/');
    let name = segments.next()?;
    match segments.next() {
        Some(owner) if owner != account.as_str() => None,
        _ => QueueName::new(name).ok(),
    }
}

/// `arn:aws:sqs:<region>:<account>:<name>`
pub(crate) fn arn(region: &str, account: &AccountId, queue_name: &str) -> String {
    format!("arn:aws:sqs:{region}:{account}:{queue_name}")
}

/// What queue URLs start with when nothing else is configured: the host that the client used.
/// A header that is not a plain host and port is not repeated.
pub(crate) fn base_from_host(host: Option<&str>) -> String {
    let plain = |host: &&str| {
        !host.is_empty()
            && host.len() <= 261
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]_".contains(&b))
    };
    format!("http://{}", host.filter(plain).unwrap_or("localhost"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_urls() {
        let account = AccountId::new("000000000000").unwrap();
        let name = |url| queue_name(url, &account).map(|name| name.to_string());
        for url in [
            "http://localhost:9324/000000000000/q",
            "https://any.host/prefix/000000000000/q/",
            "/000000000000/q",
            "000000000000/q",
            "q",
        ] {
            assert_eq!(name(url).as_deref(), Some("q"), "{url}");
        }
        for url in [
            "",
            "/",
            "http://h/111111111111/q",
            "http://whatever-incorrect-queue-address",
            "http://h/000000000000/a b",
            "http://h/000000000000/",
        ] {
            assert_eq!(name(url), None, "{url}");
        }
    }

    #[test]
    fn hosts() {
        assert_eq!(base_from_host(Some("a.b:9324")), "http://a.b:9324");
        assert_eq!(base_from_host(Some("[::1]:80")), "http://[::1]:80");
        for host in [None, Some(""), Some("a/b"), Some("a\"b")] {
            assert_eq!(base_from_host(host), "http://localhost");
        }
    }
}
