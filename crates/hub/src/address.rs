//! The address of a hub, and how paths are encoded in it.

/// A hub's address, and the token that is sent to this address only.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// Without a slash at the end.
    pub base: String,
    pub token: Option<String>,
}

/// Percent-encodes a path or a query's value for an address; slashes stay.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => encoded.push(byte.into()),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// Whether the host of an address, with or without its scheme, is `localhost` or a loopback IP.
pub(super) fn is_loopback(base: &str) -> bool {
    let authority = base.split_once("://").map_or(base, |(_, rest)| rest).split('/').next().unwrap_or_default();
    // In `user@host`, only the part after the `@` is the host.
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_hosts_are_this_machine() {
        for base in [
            "http://127.0.0.1:8000",
            "http://localhost",
            "https://LOCALHOST:1/x",
            "http://[::1]:80",
            "http://127.9.9.9/a",
        ] {
            assert!(is_loopback(base), "{base}");
        }
        for base in [
            "https://huggingface.co",
            "http://localhost.example",
            "http://127.0.0.1@evil.example",
            "http://10.0.0.1",
            "",
            "http://",
        ] {
            assert!(!is_loopback(base), "{base}");
        }
    }

    #[test]
    fn paths_are_percent_encoded() {
        assert_eq!(encode("1_Pooling/a b#?é"), "1_Pooling/a%20b%23%3F%C3%A9");
    }
}
