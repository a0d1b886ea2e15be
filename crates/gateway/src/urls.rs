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

/// An ARN, taken apart. The partition does not count: there is one of this service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arn<'a> {
    pub(crate) service: &'a str,
    pub(crate) region: &'a str,
    pub(crate) account: &'a str,
    pub(crate) resource: &'a str,
}

impl<'a> Arn<'a> {
    /// `None` when it is not of the form `arn:<partition>:<service>:<region>:<account>:<resource>`.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let &["arn", partition, service, region, account, resource] = parts.as_slice() else {
            return None;
        };
        let complete = ![partition, service, region, account, resource].contains(&"");
        complete.then_some(Self { service, region, account, resource })
    }
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
    fn parts_of_arns() {
        let account = AccountId::new("000000000000").unwrap();
        let made = arn("us-east-1", &account, "q");
        let parts =
            Arn { service: "sqs", region: "us-east-1", account: "000000000000", resource: "q" };
        assert_eq!(Arn::parse(&made), Some(parts));
        assert_eq!(Arn::parse("arn:p:s:r:a:b:c").map(|arn| arn.resource), Some("b:c"));
        for text in
            ["", "q", "arn:aws:sqs:us-east-1:000000000000", "arn:aws:s3:::bucket", "ar:p:s:r:a:q"]
        {
            assert_eq!(Arn::parse(text), None, "{text}");
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
