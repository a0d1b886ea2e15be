//! A probe for machines without an HTTP client, such as a container's health check.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::args::HealthArgs;
use crate::out;

const TIMEOUT: Duration = Duration::from_secs(3);
/// More than any answer to a probe.
const ANSWER_BYTES_MAX: u64 = 1_048_576;

/// Asks and prints the answer.
///
/// # Errors
/// When nobody answers, or not with 200.
pub(crate) fn run(args: &HealthArgs) -> anyhow::Result<()> {
    let (host, path) = split(&args.url)?;
    let answer = ask(host, path).with_context(|| args.url.clone())?;
    let (status, body) = parse(&answer).with_context(|| args.url.clone())?;
    out::say(body.trim_end());
    if status != 200 {
        bail!("{}: status {status}", args.url);
    }
    Ok(())
}

fn ask(host: &str, path: &str) -> anyhow::Result<String> {
    let mut stream = connect(host)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}

/// A name may have several addresses, such as those of `localhost`, and nobody listen at the first.
fn connect(host: &str) -> anyhow::Result<TcpStream> {
    let mut last = None;
    for address in host.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| anyhow::anyhow!("no address"), Into::into))
}

fn split(url: &str) -> anyhow::Result<(&str, &str)> {
    let rest = url.strip_prefix("http://").context("the URL must begin with http://")?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if !host.contains(':') || path.contains(char::is_whitespace) {
        bail!("the URL must be http://host:port/path");
    }
    Ok((host, if path.is_empty() { "/" } else { path }))
}

fn parse(answer: &str) -> anyhow::Result<(u16, &str)> {
    let (head, body) = answer.split_once("\r\n\r\n").context("not an HTTP answer")?;
    let status = head.split(' ').nth(1).context("not an HTTP answer")?;
    Ok((status.parse().context("not an HTTP answer")?, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        assert_eq!(split("http://127.0.0.1:1/ready").unwrap(), ("127.0.0.1:1", "/ready"));
        assert_eq!(split("http://a:1").unwrap(), ("a:1", "/"));
        for bad in ["https://a:1/", "http://a/", "a:1/ready", "http://a:1/b c"] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }

    /// Debian's `localhost` is ::1 first.
    #[test]
    fn every_address_of_a_name_is_tried() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(connect(&format!("localhost:{port}")).is_ok());
        drop(listener);
        assert!(connect(&format!("localhost:{port}")).is_err());
    }

    #[test]
    fn answers() {
        let good = "HTTP/1.1 503 Service Unavailable\r\na: b\r\n\r\nno leader\n";
        assert_eq!(parse(good).unwrap(), (503, "no leader\n"));
        assert!(parse("HTTP/1.1 200 OK").is_err());
        assert!(parse("").is_err());
    }
}
