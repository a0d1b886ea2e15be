//! Signature version 4, without which AWS itself answers nothing.

use std::fmt::{self, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::connection::Endpoint;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SERVICE: &str = "sqs";
/// Of endpoints that are none of AWS's, if nobody says another.
const DEFAULT_REGION: &str = "us-east-1";

/// Who asks, and in which region.
#[derive(Clone, PartialEq, Eq)]
pub struct Signing {
    /// Names the secret.
    pub key_id: String,
    /// Never leaves the process.
    pub secret: String,
    /// Of a session, if the key is only good with one.
    pub token: Option<String>,
    /// Such as `eu-west-1`.
    pub region: String,
}

impl fmt::Debug for Signing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signing")
            .field("key_id", &self.key_id)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

impl Signing {
    /// As every program for AWS finds it: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
    /// `AWS_SESSION_TOKEN`, `AWS_REGION` and `AWS_DEFAULT_REGION`. `None` without a key and its secret.
    pub fn from_environment(endpoint: &Endpoint) -> Option<Self> {
        Self::from_variables(endpoint, |name| std::env::var(name).ok())
    }

    fn from_variables(
        endpoint: &Endpoint,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Option<Self> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let region = region_of(endpoint.host())
            .map(str::to_owned)
            .or_else(|| variable("AWS_REGION"))
            .or_else(|| variable("AWS_DEFAULT_REGION"));
        Some(Self {
            key_id: variable("AWS_ACCESS_KEY_ID")?,
            secret: variable("AWS_SECRET_ACCESS_KEY")?,
            token: variable("AWS_SESSION_TOKEN"),
            region: region.unwrap_or_else(|| DEFAULT_REGION.to_owned()),
        })
    }

    /// The lines that a request needs in addition, each with its end. `headers` are the others that
    /// are signed: lower-case names in their order, and values without blanks around them.
    pub(crate) fn lines(&self, headers: &[(&str, &str)], body: &[u8], now: SystemTime) -> String {
        let at = timestamp(now);
        let mut lines = format!("x-amz-date: {at}\r\n");
        let mut signed: Vec<(&str, &str)> = headers.to_vec();
        signed.push(("x-amz-date", &at));
        if let Some(token) = &self.token {
            signed.push(("x-amz-security-token", token));
            put(&mut lines, format_args!("x-amz-security-token: {token}\r\n"));
        }
        signed.sort_unstable();
        let names: Vec<&str> = signed.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let mut canonical = "POST\n/\n\n".to_owned();
        for (name, value) in &signed {
            put(&mut canonical, format_args!("{name}:{value}\n"));
        }
        put(&mut canonical, format_args!("\n{names}\n{}", hex(&Sha256::digest(body))));
        let signature = self.signature(&at, &canonical);
        let (key_id, scope) = (&self.key_id, self.scope(&at));
        put(
            &mut lines,
            format_args!(
                "authorization: {ALGORITHM} Credential={key_id}/{scope}, SignedHeaders={names}, \
                 Signature={signature}\r\n"
            ),
        );
        lines
    }

    fn scope(&self, at: &str) -> String {
        format!("{}/{}/{SERVICE}/aws4_request", &at[..8], self.region)
    }

    fn signature(&self, at: &str, canonical: &str) -> String {
        let digest = hex(&Sha256::digest(canonical));
        let scope = self.scope(at);
        let to_sign = format!("{ALGORITHM}\n{at}\n{scope}\n{digest}");
        // The key of a day, a region and a service: who learns it learns no other.
        let key = scope.split('/').fold(format!("AWS4{}", self.secret).into_bytes(), mac);
        hex(&mac(key, &to_sign))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "a step of a fold")]
fn mac(key: Vec<u8>, words: &str) -> Vec<u8> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(&key).expect("the code takes keys of every length");
    mac.update(words.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        put(&mut text, format_args!("{byte:02x}"));
        text
    })
}

fn put(out: &mut String, words: fmt::Arguments<'_>) {
    out.write_fmt(words).expect("writing into memory does not fail");
}

/// Of AWS's own hosts: `sqs.eu-west-1.amazonaws.com`, those of other partitions, and those inside of a private network,
/// `vpce-1a-2b.sqs.eu-west-1.vpce.amazonaws.com`.
fn region_of(host: &str) -> Option<&str> {
    let (service, region, domain) = match host.split_once(".vpce.") {
        Some((name, domain)) => {
            let (name, region) = name.rsplit_once('.')?;
            (name.rsplit_once('.')?.1, region, domain)
        }
        None => {
            let (service, rest) = host.split_once('.')?;
            let (region, domain) = rest.split_once('.')?;
            (service, region, domain)
        }
    };
    let is_aws = domain.starts_with("amazonaws.com") || domain == "api.aws";
    (is_aws && service.starts_with(SERVICE)).then_some(region)
}

/// `20150830T123600Z`.
fn timestamp(now: SystemTime) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let (days, second) = (since / 86_400, since % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// Of a day since 1970: counted from a March the first, so that a leap day is the last of its year.
fn date(days: u64) -> (u64, u64, u64) {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    /// From 1 March of the year 0.
    const DAYS_TO_1970: u64 = 719_468;
    let days = days + DAYS_TO_1970;
    let (era, of_era) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let of_era_years = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * of_era_years + of_era_years / 4 - of_era_years / 100);
    // Months of 31, 30, 31, 30, 31 days, again and again.
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let year = 400 * era + of_era_years + u64::from(month >= 10);
    (year, if month < 10 { month + 3 } else { month - 9 }, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn signing() -> Signing {
        Signing {
            key_id: "AKIDEXAMPLE".into(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            token: None,
            region: "us-east-1".into(),
        }
    }

    #[test]
    fn times_are_read_off_the_calendar() {
        for (seconds, text) in [
            (0, "19700101T000000Z"),
            (1_440_938_160, "20150830T123600Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (1_709_251_199, "20240229T235959Z"),
            (1_709_251_200, "20240301T000000Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            assert_eq!(timestamp(at(seconds)), text);
        }
    }

    /// The example of AWS's documents for a signing key, and what follows from it.
    #[test]
    fn a_key_is_that_of_a_day_a_region_and_a_service() {
        let key = ["20150830", "us-east-1", "iam", "aws4_request"]
            .into_iter()
            .fold(format!("AWS4{}", signing().secret).into_bytes(), mac);
        assert_eq!(hex(&key), "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9");
    }

    #[test]
    fn everything_that_is_said_is_signed() {
        let headers = [("content-type", "a/b"), ("host", "h")];
        let lines =
            |signing: &Signing, body: &[u8], seconds| signing.lines(&headers, body, at(seconds));
        let first = lines(&signing(), b"{}", 1_440_938_160);
        let scope = "Credential=AKIDEXAMPLE/20150830/us-east-1/sqs/aws4_request, ";
        assert!(first.starts_with("x-amz-date: 20150830T123600Z\r\nauthorization: AWS4-"));
        assert!(first.contains(scope) && first.ends_with("\r\n"), "{first}");
        assert!(
            first.contains("SignedHeaders=content-type;host;x-amz-date, Signature="),
            "{first}"
        );
        let token = Signing { token: Some("t".into()), ..signing() };
        let with_token = lines(&token, b"{}", 1_440_938_160);
        assert!(with_token.contains("\r\nx-amz-security-token: t\r\n"), "{with_token}");
        assert!(with_token.contains("host;x-amz-date;x-amz-security-token, "), "{with_token}");
        let secret = Signing { secret: "other".into(), ..signing() };
        let others = [
            lines(&signing(), b"{ }", 1_440_938_160),
            lines(&signing(), b"{}", 1_440_938_161),
            lines(&secret, b"{}", 1_440_938_160),
            with_token,
        ];
        let signature = |lines: &str| lines.rsplit_once("Signature=").unwrap().1.to_owned();
        for other in others {
            assert_ne!(signature(&first), signature(&other));
        }
    }

    #[test]
    fn the_environment_says_who_asks_and_the_endpoint_where() {
        let read = |endpoint: &str, variables: &[(&str, &str)]| {
            let variable = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            Signing::from_variables(&endpoint.parse().unwrap(), variable)
        };
        let key = [("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s")];
        assert_eq!(read("http://a:1", &key[..1]), None);
        assert_eq!(read("http://a:1", &[key[0], ("AWS_SECRET_ACCESS_KEY", "")]), None);
        let signing = read("http://a:1", &key).unwrap();
        assert_eq!((signing.region.as_str(), signing.token), ("us-east-1", None));
        let aws = "https://sqs.eu-west-1.amazonaws.com";
        let more = [key[0], key[1], ("AWS_REGION", "r"), ("AWS_SESSION_TOKEN", "t")];
        assert_eq!(read(aws, &more).unwrap().region, "eu-west-1");
        let local = read("http://sqs.local:1", &more).unwrap();
        assert_eq!((local.region.as_str(), local.token.as_deref()), ("r", Some("t")));
        assert!(!format!("{local:?}").contains("\"s\""));
        for (host, region) in [
            ("sqs.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
            ("sqs-fips.us-east-2.amazonaws.com", Some("us-east-2")),
            ("sqs.eu-central-1.api.aws", Some("eu-central-1")),
            ("sqs.amazonaws.com", None),
            ("10.0.0.1", None),
        ] {
            assert_eq!(region_of(host), region, "{host}");
        }
    }

    #[test]
    fn endpoints_in_a_private_network_say_their_region_too() {
        for (host, region) in [
            ("vpce-0a-1b.sqs.eu-west-1.vpce.amazonaws.com", Some("eu-west-1")),
            ("vpce-0a-1b-eu-west-1c.sqs.eu-west-1.vpce.amazonaws.com", Some("eu-west-1")),
            ("vpce-0a-1b.sqs-fips.us-east-2.vpce.amazonaws.com", Some("us-east-2")),
            ("vpce-0a-1b.sqs.cn-north-1.vpce.amazonaws.com.cn", Some("cn-north-1")),
            ("vpce-0a-1b.s3.eu-west-1.vpce.amazonaws.com", None),
            ("sqs.eu-west-1.vpce.example.com", None),
            ("eu-west-1.vpce.amazonaws.com", None),
        ] {
            assert_eq!(region_of(host), region, "{host}");
        }
    }
}
