//! Who may call a server that trusts whoever reaches it on loopback.
//!
//! A page of any site can make the reader's browser send requests to `127.0.0.1`, and can point a name
//! of its own there (DNS rebinding). So an open server on loopback serves loopback names only, and only
//! what loopback pages, or no page at all, ask for (design, section 7).
#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use std::net::{Ipv4Addr, Ipv6Addr};

use http::{HeaderMap, HeaderValue, Uri, header};

/// Which requests a listener takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// Only those that name a loopback host and do not come from a page elsewhere.
    #[default]
    Loopback,
    /// All: nothing is trusted because of where it comes from.
    Any,
}

/// What the policy says to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Served. If an origin is given, the page there may read the answer.
    Allow(Option<HeaderValue>),
    /// No host was named, or several were: 400.
    BadHost,
    /// A host that is not served here: 421.
    Misdirected,
    /// Asked for by a page elsewhere: 403.
    Foreign,
}

impl Policy {
    /// Judges a request by its target and header fields.
    pub fn judge(self, version: http::Version, target: &Uri, headers: &HeaderMap) -> Verdict {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = hosts.next();
        let needs_host = version >= http::Version::HTTP_11; // RFC 9112, 3.2
        if hosts.next().is_some() || (needs_host && host.is_none()) {
            return Verdict::BadHost;
        }
        match self {
            Self::Any => Verdict::Allow(None),
            Self::Loopback => loopback_only(target, host, headers),
        }
    }
}

fn loopback_only(target: &Uri, host: Option<&HeaderValue>, headers: &HeaderMap) -> Verdict {
    let host_is_ours = host.is_none_or(|host| host.to_str().is_ok_and(is_loopback_authority));
    let target_is_ours = target
        .authority()
        .is_none_or(|authority| is_loopback_authority(authority.as_str()));
    if !host_is_ours || !target_is_ours {
        return Verdict::Misdirected;
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        return match origin.to_str() {
            Ok(text) if is_loopback_url(text) => Verdict::Allow(Some(origin.clone())),
            _ => Verdict::Foreign,
        };
    }
    let cross_site = headers
        .get("sec-fetch-site")
        .is_some_and(|site| site == "cross-site");
    let referer = || {
        headers
            .get(header::REFERER)
            .and_then(|referer| referer.to_str().ok())
    };
    if cross_site && !referer().is_some_and(is_loopback_url) {
        return Verdict::Foreign;
    }
    Verdict::Allow(None)
}

/// Whether a URL is that of a page on this machine.
fn is_loopback_url(url: &str) -> bool {
    let Some(rest) = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"))
    else {
        return false;
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    rest.get(..end).is_some_and(is_loopback_authority)
}

/// Whether `host` or `host:port` is a loopback name: `localhost`, `*.localhost`, 127.0.0.0/8, `[::1]`.
pub fn is_loopback_authority(authority: &str) -> bool {
    let (host, port) = match authority
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        Some((address, port)) => {
            return is_port(port) && address.parse() == Ok(Ipv6Addr::LOCALHOST);
        }
        None => match authority.split_once(':') {
            Some((host, _)) => (host, authority.get(host.len()..).unwrap_or_default()),
            None => (authority, ""),
        },
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    let tail = host
        .len()
        .checked_sub("localhost".len())
        .and_then(|at| host.split_at_checked(at));
    let is_name = tail.is_some_and(|(front, tail)| {
        tail.eq_ignore_ascii_case("localhost")
            && (front.is_empty() || (front.ends_with('.') && is_name(front)))
    });
    is_port(port)
        && (is_name
            || host
                .parse::<Ipv4Addr>()
                .is_ok_and(|address| address.is_loopback()))
}

fn is_name(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

fn is_port(text: &str) -> bool {
    text.is_empty()
        || text
            .strip_prefix(':')
            .is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(fields: &[(&'static str, &str)]) -> Verdict {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        Policy::Loopback.judge(http::Version::HTTP_11, &"/".parse().unwrap(), &headers)
    }

    #[test]
    fn loopback_names_are_served_on_any_port() {
        for host in [
            "localhost",
            "localhost:9000",
            "LOCALHOST",
            "app.localhost:1",
            "127.0.0.1:9000",
            "127.1.2.3",
            "[::1]",
            "[::1]:9000",
            "localhost.",
        ] {
            assert_eq!(judge(&[("host", host)]), Verdict::Allow(None), "{host}");
        }
    }

    #[test]
    fn other_names_are_misdirected() {
        for host in [
            "example.com",
            "localhost.example.com",
            "xlocalhost",
            "127.0.0.1.example.com",
            "128.0.0.1",
            "[::2]",
            "",
            "localhost:x",
            "evil/.localhost",
            "0.0.0.0",
            "[::1].example.com",
            "2130706433",
            "127.1",
        ] {
            assert_eq!(judge(&[("host", host)]), Verdict::Misdirected, "{host}");
        }
    }

    #[test]
    fn exactly_one_host_is_named() {
        assert_eq!(judge(&[]), Verdict::BadHost);
        assert_eq!(
            judge(&[("host", "localhost"), ("host", "localhost")]),
            Verdict::BadHost
        );
        let old = Policy::Loopback.judge(
            http::Version::HTTP_10,
            &"/".parse().unwrap(),
            &HeaderMap::new(),
        );
        assert_eq!(old, Verdict::Allow(None));
    }

    #[test]
    fn an_absolute_target_names_a_host_too() {
        let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static("localhost"))]);
        let target = "http://example.com/a".parse().unwrap();
        assert_eq!(
            Policy::Loopback.judge(http::Version::HTTP_11, &target, &headers),
            Verdict::Misdirected
        );
    }

    #[test]
    fn pages_on_this_machine_may_read_the_answer_and_no_others() {
        for (origin, allowed) in [
            ("http://localhost:3000", true),
            ("https://app.localhost", true),
            ("http://127.0.0.1", true),
            ("http://[::1]:5173", true),
            ("null", false),
            ("https://example.com", false),
            ("http://localhost.example.com", false),
            ("http://localhost@example.com", false),
            ("file://", false),
            ("", false),
        ] {
            let expected = if allowed {
                Verdict::Allow(Some(origin.parse().unwrap()))
            } else {
                Verdict::Foreign
            };
            assert_eq!(
                judge(&[("host", "localhost"), ("origin", origin)]),
                expected,
                "{origin}"
            );
        }
    }

    #[test]
    fn a_page_elsewhere_cannot_hide_its_origin_in_a_script_tag() {
        let host = ("host", "localhost:9000");
        assert_eq!(
            judge(&[host, ("sec-fetch-site", "cross-site")]),
            Verdict::Foreign
        );
        assert_eq!(
            judge(&[
                host,
                ("sec-fetch-site", "cross-site"),
                ("referer", "https://example.com/")
            ]),
            Verdict::Foreign
        );
        assert_eq!(
            judge(&[
                host,
                ("sec-fetch-site", "cross-site"),
                ("referer", "http://127.0.0.1:3000/x")
            ]),
            Verdict::Allow(None)
        );
        for site in ["same-origin", "same-site", "none"] {
            assert_eq!(
                judge(&[host, ("sec-fetch-site", site)]),
                Verdict::Allow(None),
                "{site}"
            );
        }
    }

    #[test]
    fn a_server_that_trusts_nobody_by_address_serves_any_host() {
        let headers = HeaderMap::from_iter([
            (header::HOST, HeaderValue::from_static("example.com")),
            (
                header::ORIGIN,
                HeaderValue::from_static("https://example.org"),
            ),
        ]);
        assert_eq!(
            Policy::Any.judge(http::Version::HTTP_11, &"/".parse().unwrap(), &headers),
            Verdict::Allow(None)
        );
    }
}
