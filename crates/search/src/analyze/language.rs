//! Detects the language of a text.

use whatlang::{Detector, Lang, Script};

/// The languages that can be detected, with whatlang's codes and the two-letter codes of ISO 639-1.
const CODES: [(Lang, &str); 70] = [
    (Lang::Afr, "af"),
    (Lang::Aka, "ak"),
    (Lang::Amh, "am"),
    (Lang::Ara, "ar"),
    (Lang::Aze, "az"),
    (Lang::Bel, "be"),
    (Lang::Ben, "bn"),
    (Lang::Bul, "bg"),
    (Lang::Cat, "ca"),
    (Lang::Ces, "cs"),
    (Lang::Cmn, "zh"),
    (Lang::Cym, "cy"),
    (Lang::Dan, "da"),
    (Lang::Deu, "de"),
    (Lang::Ell, "el"),
    (Lang::Eng, "en"),
    (Lang::Epo, "eo"),
    (Lang::Est, "et"),
    (Lang::Fin, "fi"),
    (Lang::Fra, "fr"),
    (Lang::Guj, "gu"),
    (Lang::Heb, "he"),
    (Lang::Hin, "hi"),
    (Lang::Hrv, "hr"),
    (Lang::Hun, "hu"),
    (Lang::Hye, "hy"),
    (Lang::Ind, "id"),
    (Lang::Ita, "it"),
    (Lang::Jav, "jv"),
    (Lang::Jpn, "ja"),
    (Lang::Kan, "kn"),
    (Lang::Kat, "ka"),
    (Lang::Khm, "km"),
    (Lang::Kor, "ko"),
    (Lang::Lat, "la"),
    (Lang::Lav, "lv"),
    (Lang::Lit, "lt"),
    (Lang::Mal, "ml"),
    (Lang::Mar, "mr"),
    (Lang::Mkd, "mk"),
    (Lang::Mya, "my"),
    (Lang::Nep, "ne"),
    (Lang::Nld, "nl"),
    (Lang::Nob, "no"),
    (Lang::Ori, "or"),
    (Lang::Pan, "pa"),
    (Lang::Pes, "fa"),
    (Lang::Pol, "pl"),
    (Lang::Por, "pt"),
    (Lang::Ron, "ro"),
    (Lang::Rus, "ru"),
    (Lang::Sin, "si"),
    (Lang::Slk, "sk"),
    (Lang::Slv, "sl"),
    (Lang::Sna, "sn"),
    (Lang::Spa, "es"),
    (Lang::Srp, "sr"),
    (Lang::Swe, "sv"),
    (Lang::Tam, "ta"),
    (Lang::Tel, "te"),
    (Lang::Tgl, "tl"),
    (Lang::Tha, "th"),
    (Lang::Tuk, "tk"),
    (Lang::Tur, "tr"),
    (Lang::Ukr, "uk"),
    (Lang::Urd, "ur"),
    (Lang::Uzb, "uz"),
    (Lang::Vie, "vi"),
    (Lang::Yid, "yi"),
    (Lang::Zul, "zu"),
];

/// Codes of three letters, and other names, of languages that have two.
const ALIASES: [(&str, &str); 14] = [
    ("cmn", "zh"),
    ("zho", "zh"),
    ("chi", "zh"),
    ("nob", "no"),
    ("nb", "no"),
    ("nn", "no"),
    ("pes", "fa"),
    ("per", "fa"),
    ("ger", "de"),
    ("fre", "fr"),
    ("dut", "nl"),
    ("gre", "el"),
    ("iw", "he"),
    ("in", "id"),
];

/// The language is detected from at most this many characters at the beginning of a text.
const LOOKED_AT: usize = 2_000;

/// With fewer letters, the detected language is not trusted.
const FEW_LETTERS: usize = 24;

/// The normalised code of a language: the first part in lower case, as two letters where ISO 639-1 has them (`zh-CN` and `cmn` become
/// `zh`).
///
/// ```
/// assert_eq!(trivec_search::analyze::normalize_code("zh-CN"), "zh");
/// assert_eq!(trivec_search::analyze::normalize_code("deu"), "de");
/// ```
pub fn normalize_code(code: &str) -> String {
    let first = code.split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase();
    let alias = ALIASES.iter().find(|(alias, _)| *alias == first).map(|(_, code)| *code);
    let by_name = || CODES.iter().find(|(lang, _)| lang.code() == first).map(|(_, code)| *code);
    alias.or_else(by_name).map_or(first, str::to_owned)
}

/// The language of a text and whether that is sure. `among` are the languages it can be (none: any).
pub fn detect(text: &str, among: &[String]) -> Option<(String, bool)> {
    let start: String = text.chars().take(LOOKED_AT).collect();
    let allowed: Vec<Lang> =
        CODES.iter().filter(|(_, code)| among.iter().any(|one| one == code)).map(|(lang, _)| *lang).collect();
    if !among.is_empty() && allowed.is_empty() {
        return None;
    }
    let detector = if among.is_empty() { Detector::new() } else { Detector::with_allowlist(allowed) };
    let info = detector.detect(&start)?;
    let code = CODES.iter().find(|(lang, _)| *lang == info.lang()).map(|(_, code)| (*code).to_owned())?;
    let letters = start.chars().filter(|c| c.is_alphabetic()).count();
    // A script that only one language uses decides it.
    let only = info.script().langs().len() == 1
        || matches!(info.script(), Script::Mandarin | Script::Hiragana | Script::Katakana);
    Some((code, only || (info.is_reliable() && letters >= FEW_LETTERS)))
}

/// Whether a word may be of a language, by its script. Of languages that cannot be told apart, any word may be.
pub(super) fn writes(lang: &str, word: &str) -> bool {
    let Some((lang, _)) = CODES.iter().find(|(_, code)| *code == lang) else { return true };
    whatlang::detect_script(word).is_none_or(|script| script.langs().contains(lang))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_has_one_code() {
        for (lang, code) in CODES {
            assert_eq!(normalize_code(lang.code()), code);
            assert_eq!(CODES.iter().filter(|(_, other)| *other == code).count(), 1, "{code}");
        }
        assert_eq!(CODES.len(), Lang::all().len());
    }

    #[test]
    fn languages_are_found_among_those_of_the_index() {
        let german = "Die Bundesregierung hat gestern ein neues Gesetz über erneuerbare Energien vorgestellt.";
        assert_eq!(detect(german, &[]), Some(("de".to_owned(), true)));
        assert_eq!(detect(german, &["en".to_owned(), "ru".to_owned()]).unwrap().0, "en");
        assert_eq!(detect("苹果公司发布新手机", &[]), Some(("zh".to_owned(), true)));
        assert_eq!(detect("ประเทศไทยมีอากาศร้อน", &[]), Some(("th".to_owned(), true)));
        assert!(!detect("red shoes", &[]).is_some_and(|(_, sure)| sure), "two words are not sure");
        assert_eq!(detect("12 345 !", &[]), None);
        assert_eq!(detect(german, &["xx".to_owned()]), None);
    }

    #[test]
    fn codes_are_told_by_their_first_part() {
        for (code, expected) in
            [("EN", "en"), ("pt_BR", "pt"), ("cmn-Hans", "zh"), ("nb", "no"), ("xx-yy", "xx"), ("", "")]
        {
            assert_eq!(normalize_code(code), expected);
        }
    }
}
