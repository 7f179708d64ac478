//! Header fields, read as RFC 9110 defines them.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::error::{ApiError, Result, UNSUPPORTED_ENCODING};

/// Splits a list into its elements (or an element into its parameters) at separators that are not in a quoted string. Empty elements are left
/// out.
fn elements(value: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    let split = value.split(move |c: char| {
        if escaped {
            escaped = false;
            return false;
        }
        match c {
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => return c == separator && !quoted,
        }
        false
    });
    split.map(str::trim).filter(|element| !element.is_empty())
}

/// The elements of a field that is a list, which may be spread over several lines. Lines that are not ASCII are ignored.
fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).iter().filter_map(|line| line.to_str().ok()).flat_map(|line| elements(line, ','))
}

/// The parameters of a media type: names and values, without quotes.
type Parameters<'a> = Vec<(&'a str, &'a str)>;

/// `type/subtype`, and the parameters that follow it.
fn media_type(element: &str) -> Option<(&str, &str, Parameters<'_>)> {
    let mut parts = elements(element, ';');
    let (kind, subtype) = parts.next()?.split_once('/')?;
    let parameters = parts.filter_map(|part| part.split_once('='));
    let parameters = parameters.map(|(name, value)| (name.trim(), value.trim().trim_matches('"')));
    Some((kind.trim(), subtype.trim(), parameters.collect()))
}

/// What a client accepts: a media type, `type/*` or `*/*`, with its weight.
struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    weight: f32,
}

impl<'a> Range<'a> {
    /// Parses an element of `Accept`; `None` if it is no media type, or if its weight is no number from 0 to 1.
    fn parse(element: &'a str) -> Option<Range<'a>> {
        let (kind, subtype, parameters) = media_type(element)?;
        let weight = match parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case("q")) {
            None => 1.0,
            Some((_, weight)) => weight.parse().ok().filter(|weight| (0.0..=1.0).contains(weight))?,
        };
        Some(Range { kind, subtype, weight })
    }

    /// How exactly this range names the media type `name`: 2 in full, 1 as `type/*`, 0 as `*/*`, `None` if it does not cover it.
    fn exactness(&self, name: &str) -> Option<u8> {
        let (kind, subtype) = name.split_once('/')?;
        match (self.kind, self.subtype) {
            ("*", "*") => Some(0),
            (own, "*") if own.eq_ignore_ascii_case(kind) => Some(1),
            (own, of) if own.eq_ignore_ascii_case(kind) && of.eq_ignore_ascii_case(subtype) => Some(2),
            _ => None,
        }
    }
}

/// Which of the media types on offer `Accept` prefers: the one with the highest weight; among equal weights the one that is named most
/// exactly, then the one named first, then the one offered first. A client that names none of them gets the first on offer. `None` if the
/// client excludes the first (`q=0`) and accepts no other.
pub(super) fn preferred<T: Copy>(headers: &HeaderMap, offers: &[(&str, T)]) -> Option<T> {
    let ranges: Vec<Range> = list(headers, &header::ACCEPT).filter_map(Range::parse).collect();
    // The weight of a type is that of the most exact range which covers it, even if another range has a higher weight.
    let range_of = |name: &str| {
        let exactness =
            |(at, range): (usize, &Range)| Some((range.exactness(name)?, std::cmp::Reverse(at), range.weight));
        ranges.iter().enumerate().filter_map(exactness).max_by_key(|(exactness, at, _)| (*exactness, *at))
    };
    let weighed = offers.iter().rev().filter_map(|(name, offer)| Some((range_of(name)?, offer)));
    let best = weighed
        .filter(|((.., weight), _)| *weight > 0.0)
        .max_by(|((e, at, w), _), ((e2, at2, w2), _)| w.total_cmp(w2).then((e, at).cmp(&(e2, at2))));
    match (best, offers.first()) {
        (Some((_, offer)), _) => Some(*offer),
        (None, Some((name, offer))) if range_of(name).is_none() => Some(*offer),
        _ => None,
    }
}

/// The key of `Authorization: Bearer KEY`; the scheme may be in upper or lower case. `None` if the request has no such field, or more than one.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    let (line, None) = (lines.next()?.as_bytes(), lines.next()) else { return None };
    let space = line.iter().position(|byte| *byte == b' ')?;
    let (scheme, key) = line.split_at(space);
    scheme.eq_ignore_ascii_case(b"bearer").then(|| key.trim_ascii())
}

/// Whether `If-None-Match` names the entity tag `tag`, weak or strong, in its list of tags or by `*`.
pub(super) fn none_match(headers: &HeaderMap, tag: &str) -> bool {
    list(headers, &header::IF_NONE_MATCH).any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

/// Refuses a body that is not JSON, or is compressed, by what its header fields say.
///
/// A page of any site can make a browser send a body of `text/plain`, of a form, or without a type; for JSON the browser first asks the
/// service whether the page may (a CORS preflight). A request without a type is accepted only if it has no `Origin`, which browsers send.
pub(super) fn check_json(headers: &HeaderMap) -> Result<()> {
    let expected = "JSON: send `Content-Type: application/json`";
    check_type(headers, is_json, expected).map(drop)
}

/// The form of a body of documents.
#[cfg(feature = "search")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Documents {
    /// The whole body is one JSON value.
    Json,
    /// Each line is a JSON value.
    Lines,
}

/// The form of a body of documents, by its `Content-Type`. Refuses other bodies as [`check_json`] does.
#[cfg(feature = "search")]
pub(super) fn documents(headers: &HeaderMap) -> Result<Documents> {
    let expected = "JSON or JSON Lines: send `Content-Type: application/json` or `application/x-ndjson`";
    let is_lines = |subtype: &str| matches!(subtype, "x-ndjson" | "ndjson" | "jsonl" | "x-jsonlines" | "jsonlines");
    let subtype = check_type(headers, |subtype| is_json(subtype) || is_lines(subtype), expected)?;
    Ok(if subtype.is_some_and(|subtype| is_lines(&subtype)) { Documents::Lines } else { Documents::Json })
}

fn is_json(subtype: &str) -> bool {
    subtype == "json" || subtype.ends_with("+json")
}

/// The subtype of a body whose type is `application/…`, in lower case; `None` for a body without a type. Refuses a subtype that does not fit, a
/// charset other than UTF-8, and a compressed body.
fn check_type(headers: &HeaderMap, fits: impl Fn(&str) -> bool, expected: &str) -> Result<Option<String>> {
    check_coding(headers)?;
    let refused = |what: String| {
        let what = format!("{what}, expected {expected}");
        Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", what))
    };
    let mut lines = headers.get_all(header::CONTENT_TYPE).iter();
    let line = match (lines.next(), lines.next()) {
        (None, _) if headers.contains_key(header::ORIGIN) => {
            return refused("the request has an `Origin` and no `Content-Type`".to_owned());
        }
        (None, _) => return Ok(None),
        (Some(line), None) => String::from_utf8_lossy(line.as_bytes()),
        (Some(_), Some(_)) => return refused("`Content-Type` is there more than once".to_owned()),
    };
    let Some((kind, subtype, parameters)) = media_type(&line) else {
        return refused(format!("`Content-Type: {}` is not a media type", line.escape_debug()));
    };
    let (kind, subtype) = (kind.to_ascii_lowercase(), subtype.to_ascii_lowercase());
    if kind != "application" || !fits(&subtype) {
        let why = if subtype == "x-www-form-urlencoded" { " (which `curl -d` says if not told another)" } else { "" };
        return refused(format!("the body is `{kind}/{subtype}`{why}"));
    }
    match parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case("charset")) {
        // ASCII is a part of UTF-8.
        Some((_, charset))
            if !["utf-8", "utf8", "us-ascii"].iter().any(|known| charset.eq_ignore_ascii_case(known)) =>
        {
            let what =
                format!("the body's charset is `{}`, expected utf-8, as JSON is written", charset.escape_debug());
            Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_charset", what))
        }
        _ => Ok(Some(subtype)),
    }
}

/// Refuses a body with a content coding or a transfer coding other than `chunked`.
fn check_coding(headers: &HeaderMap) -> Result<()> {
    let on_the_way = headers.get_all(header::TRANSFER_ENCODING).iter();
    let mut on_the_way = on_the_way.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let is_chunked =
        |coding: &&[u8]| coding.trim_ascii().is_empty() || coding.trim_ascii().eq_ignore_ascii_case(b"chunked");
    if let Some(coding) = on_the_way.find(|coding| !is_chunked(coding)) {
        // The status of RFC 9112, 6.1.
        let coding = String::from_utf8_lossy(coding.trim_ascii()).into_owned();
        let what = format!("the body has the transfer coding `{}`, expected chunked or none", coding.escape_debug());
        return Err(ApiError::new(StatusCode::NOT_IMPLEMENTED, "unsupported_transfer_coding", what));
    }
    let lines = headers.get_all(header::CONTENT_ENCODING).iter();
    let codings = lines.flat_map(|line: &HeaderValue| line.as_bytes().split(|byte| *byte == b','));
    let mut codings = codings.map(<[u8]>::trim_ascii);
    match codings.find(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity")) {
        None => Ok(()),
        Some(coding) => {
            let coding = String::from_utf8_lossy(coding);
            let what = format!(
                "the body has the content coding `{}`, expected none: send it uncompressed",
                coding.escape_debug()
            );
            Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, UNSUPPORTED_ENCODING, what))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn accept_prefers_the_type_of_the_highest_weight() {
        let offers = [("application/json", 'j'), ("application/octet-stream", 'r'), ("application/x-npy", 'n')];
        let of = |lines: &[&str]| {
            let lines: Vec<_> = lines.iter().map(|line| ("accept", *line)).collect();
            preferred(&headers(&lines), &offers)
        };
        assert_eq!(of(&[]), Some('j'));
        for (accept, expected) in [
            ("", Some('j')),
            ("application/x-npy", Some('n')),
            ("APPLICATION/X-NPY", Some('n')),
            ("application/x-npy;q=0", Some('j')),
            ("application/json, application/x-npy;q=0.1", Some('j')),
            ("application/json;q=0.1, application/x-npy;Q=0.2", Some('n')),
            ("application/x-npy ; version=1 ; q=0.9 , application/json;q=0.8", Some('n')),
            ("application/x-npy;q=0.001, */*;q=0.002", Some('j')),
            ("*/*", Some('j')),
            ("application/*", Some('j')),
            ("*/*, application/x-npy", Some('n')),
            ("application/*;q=0.5, application/json;q=0.4", Some('r')),
            ("application/*;q=0.5, application/json;q=0.4, application/octet-stream;q=0", Some('n')),
            // Equal weights: the first named.
            ("application/x-npy, application/json", Some('n')),
            ("application/json, application/x-npy", Some('j')),
            // None of these: the server's own choice.
            ("text/html", Some('j')),
            ("text/html;q=0", Some('j')),
            // JSON is excluded, and no other type on offer is accepted.
            ("application/json;q=0", None),
            ("*/*;q=0", None),
            ("application/json;q=0.000, text/html", None),
            ("application/json;q=0, */*;q=0.1", Some('r')),
            // Commas and semicolons in quotes do not separate; elements with an invalid weight are ignored.
            ("application/x-npy;a=\",application/json;q=1;\\\"\";q=0.5, application/json;q=0.4", Some('n')),
            ("application/x-npy;q=2, application/json;q=0.1", Some('j')),
            ("application/x-npy;q=NaN, application/json;q=0.1", Some('j')),
            (",, application/x-npy;q=-1 ,", Some('j')),
        ] {
            assert_eq!(of(&[accept]), expected, "{accept}");
        }
        assert_eq!(of(&["application/json;q=0.5", "application/x-npy"]), Some('n'), "several lines are one list");
    }

    #[test]
    fn the_bearer_scheme_may_be_in_upper_or_lower_case() {
        for (line, key) in [
            ("Bearer k", Some("k")),
            ("bearer k", Some("k")),
            ("BEARER    k", Some("k")),
            ("Bearerk", None),
            ("Basic k", None),
            ("Bearer", None),
        ] {
            let headers = headers(&[("authorization", line)]);
            assert_eq!(bearer(&headers), key.map(str::as_bytes), "{line}");
        }
        assert_eq!(bearer(&headers(&[("authorization", "Bearer a"), ("authorization", "Bearer b")])), None);
    }

    #[test]
    fn an_entity_tag_is_found_in_a_list_of_tags() {
        for (line, matches) in [
            ("\"a\"", true),
            ("W/\"a\"", true),
            ("\"x\", \"a\"", true),
            ("\"x,\", W/\"a\"", true),
            ("*", true),
            ("\"x\"", false),
            ("a", false),
        ] {
            assert_eq!(none_match(&headers(&[("if-none-match", line)]), "\"a\""), matches, "{line}");
        }
    }

    #[test]
    fn bodies_are_json_and_not_compressed() {
        let code =
            |lines: &[(&'static str, &str)]| check_json(&headers(lines)).map_err(|e| (e.status.as_u16(), e.code));
        for kind in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/json;charset=\"utf-8\"",
            "application/json;charset=us-ascii;x=y",
            "application/vnd.api+json",
            "application/json ; odd",
        ] {
            assert_eq!(code(&[("content-type", kind)]), Ok(()), "{kind}");
        }
        for kind in [
            "text/plain",
            "text/plain;charset=UTF-8",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/jsonp",
            "application/octet-stream",
            "json",
            "",
            "text/plain; a=application/json",
        ] {
            assert_eq!(code(&[("content-type", kind)]), Err((415, "unsupported_media_type")), "{kind}");
        }
        assert_eq!(code(&[("content-type", "application/json;charset=utf-16")]), Err((415, "unsupported_charset")));
        let twice = [("content-type", "application/json"), ("content-type", "text/plain")];
        assert_eq!(code(&twice), Err((415, "unsupported_media_type")));
        assert_eq!(code(&[]), Ok(()), "what no browser sends");
        assert_eq!(code(&[("origin", "http://localhost")]), Err((415, "unsupported_media_type")));
        for coding in ["gzip", "GZIP", "br", "identity, deflate", "x", "gzip, identity"] {
            assert_eq!(code(&[("content-encoding", coding)]), Err((415, "unsupported_encoding")), "{coding}");
        }
        for (coding, expected) in [
            ("chunked", Ok(())),
            ("Chunked", Ok(())),
            ("gzip, chunked", Err((501, "unsupported_transfer_coding"))),
            ("chunked, deflate", Err((501, "unsupported_transfer_coding"))),
        ] {
            assert_eq!(code(&[("transfer-encoding", coding)]), expected, "{coding}");
        }
        for coding in ["identity", "Identity", "", "identity, identity"] {
            assert_eq!(code(&[("content-encoding", coding)]), Ok(()), "{coding}");
        }
    }
}
